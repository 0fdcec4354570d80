"""Take back all labels of a subject.

They count as refused, and their copies in the training database are deleted. A version that was trained with them stays
until another one replaces it: `./run revoke_labels --subject NAME retrain` trains again without them.
"""

from pipeline import doctor
from pipeline.data import erasure, label_reviews, labelled_rows
from pipeline.databases import require_relation, session
from pipeline.errors import StepError


def run(subject: str) -> str:
    """Refuse the labels of a subject, and delete their copies.

    Args:
        subject: name of the subject, as `./run review_labels` lists it

    Raises:
        StepError: the subject is missing, or gave no label.
    """
    if not subject:
        raise StepError("subject is missing; write `./run revoke_labels --subject NAME`")
    doctor.require(doctor.trainer, doctor.inference_database)
    trainer, inference = session("trainer"), session("inference-deployer")
    with trainer:
        require_relation(trainer, "dataset_labelled_row", "deploy_training_db")
        with inference:
            require_relation(inference, "label_review", "deploy_inference_db")
            refused = label_reviews.decide(inference, label_reviews.REFUSED, "subject = %s", (subject,))
        affected = erasure.affected(trainer, labelled_rows.ids_labelled_by(trainer, subject))
        copies = labelled_rows.delete(trainer, subjects=[subject])
    if not refused and not copies:
        raise StepError(f"there is no label of the subject {subject!r}")
    return f"{refused} labels refused, {copies} copies deleted; {erasure.clause(affected)}"
