"""Copy labelled predictions to the training database.

Only predictions whose input was stored are copied, and only labels that `review_labels` accepted, unless project.yaml
says `labels: automatic`. `upload_dataset` then adds them to the data set.
"""

from pipeline import doctor
from pipeline.data import feedback, label_reviews, labelled_rows
from pipeline.data.feedback import SubjectLabels
from pipeline.databases import query, require_relation, session
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run


def run() -> str:
    """Copy the labelled rows, which `upload_dataset` then adds to the data set. Raises StepError.

    Copies of refused labels, of doubtful subjects, and those past the retention are deleted.
    """
    require_inputs()
    doctor.require(doctor.trainer, doctor.inference_database, doctor.mlflow_server)
    trainer, inference = session("trainer"), session("inference-deployer")
    with trainer:
        require_relation(trainer, "dataset_labelled_row", "deploy_training_db")
        with inference:
            require_relation(inference, "label_status", "deploy_inference_db")
            # A person who reviews labels decides about their subjects, too.
            is_reviewed = settings().monitoring.labels == "reviewed"
            doubtful = [] if is_reviewed else feedback.doubtful_subjects_of(inference, settings().model)
            doubtful_names = [labels.subject for labels in doubtful]
            batches = labelled_rows.stored_inputs(inference, settings().model, doubtful_names)
            changed = sum(labelled_rows.upsert(trainer, rows) for rows in batches)
            refused = labelled_rows.refused_predictions(inference, settings().model)
            waiting = label_reviews.waiting_labels(inference, settings().model)
        deleted = labelled_rows.delete(trainer, refused, doubtful_names) + labelled_rows.delete_expired(trainer)
        total = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    with step_run("collect_labels"):
        load_mlflow().log_metrics({"labels_new": changed, "labels_deleted": deleted, "labels": total})
    result = f"{changed} new or changed labels, {total} labelled rows in the training database"
    return result + (f", {deleted} deleted" if deleted else "") + _remarks(doubtful, waiting)


def _remarks(doubtful: list[SubjectLabels], waiting: int) -> str:
    """Return clauses about the doubtful subjects and the labels that wait for review."""
    remarks = [
        f"; {feedback.printable(labels.subject)} is set aside: {labels.disagreements} of {labels.labels} labels differ "
        "from the prediction, far more than those of the others"
        for labels in doubtful
    ]
    if waiting and settings().monitoring.labels == "reviewed":
        remarks.append(f"; {waiting} labels wait: `./run review_labels`")
    return "".join(remarks)


def require_inputs() -> None:
    """Raise StepError when the project does not store inputs."""
    if not settings().store_inputs:
        raise StepError(
            "predictions are stored without their inputs (project.yaml: storeInputs, includeMonitoring), so no "
            "labelled row can be trained on"
        )
