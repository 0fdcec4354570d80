"""Take back all labels of a subject.

They count as refused, and their copies in the training database are deleted. A version that was trained with them stays
until another one replaces it: `./run revoke_labels --subject NAME retrain` trains again without them.
"""

from pipeline import doctor
from pipeline.data import erasure, labelled_rows
from pipeline.databases import query, require_relation, session
from pipeline.errors import StepError
from pipeline.run_identity import person
from pipeline.settings import settings


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
            refused = query(
                inference,
                "INSERT INTO {schema}.label_review AS earlier (label_id, verdict, reviewed_by) "
                "SELECT label_id, 'refused', %s FROM {schema}.label_status WHERE model = %s AND subject = %s "
                "ON CONFLICT (label_id) DO UPDATE SET verdict = 'refused', reviewed_by = excluded.reviewed_by, "
                "reviewed_at = clock_timestamp() RETURNING 1",
                (person(), settings().model, subject),
            )
        affected = erasure.affected(trainer, labelled_rows.ids_labelled_by(trainer, subject))
        copies = labelled_rows.delete(trainer, subjects=[subject])
    if not refused and not copies:
        raise StepError(f"there is no label of the subject {subject!r}")
    return f"{len(refused)} labels refused, {copies} copies deleted; {erasure.sentence(affected)}"
