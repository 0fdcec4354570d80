"""Delete what a person sent from both databases.

Inputs, predictions, labels and their copies are deleted, and the blocks of the data sets that contain them: the next
`upload_dataset` packs the data anew. Versions that were trained on them are named; they stay until another one replaces
them.
"""

import uuid

from pipeline import doctor
from pipeline.data import erasure, labelled_rows
from pipeline.databases import require_relation, session
from pipeline.errors import StepError


def run(prediction: str, subject: str) -> str:
    """Delete the inputs, predictions and labels of a prediction or a subject.

    Args:
        prediction: id of a prediction
        subject: name of a subject: its predictions, and the labels that it gave

    Raises:
        StepError: not exactly one of both is given, the id is no UUID, or nothing is stored.
    """
    if bool(prediction) == bool(subject):
        raise StepError("give one of both: `./run erase --prediction ID` or `./run erase --subject NAME`")
    try:
        ids = [str(uuid.UUID(prediction))] if prediction else []
    except ValueError:
        raise StepError(f"prediction is {prediction!r}; the id of a prediction is a UUID") from None
    doctor.require(doctor.training_database, doctor.inference_database)
    training, inference = session("training-deployer"), session("inference-deployer")
    with training:
        require_relation(training, "dataset_labelled_row", "deploy_training_db")
        with inference:
            require_relation(inference, "label_review", "deploy_inference_db")
            if subject:
                copied = labelled_rows.ids_of_subject(training, subject)
                ids = sorted({*erasure.predictions_of(inference, subject), *copied})
            predictions, labels = erasure.delete_predictions(inference, ids, subject)
        affected = erasure.affected(training, ids)
        copies = erasure.delete_copies(training, ids, affected)
    if not predictions + labels + copies + len(affected):
        raise StepError(f"nothing is stored of {f'the prediction {ids[0]}' if prediction else repr(subject)}")
    return f"{predictions} predictions, {labels} labels and {copies} copies deleted; {erasure.clause(affected)}"
