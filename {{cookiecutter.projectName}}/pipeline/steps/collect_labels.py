"""Step collect_labels: copies labelled predictions, with their inputs, into the training database."""

from pipeline import doctor
from pipeline.data import labelled_rows
from pipeline.databases import query, require_relation, session
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run


def run() -> str:
    """Bring what people have labelled; `upload_dataset` then adds it to the data set. Raises StepError."""
    require_inputs()
    doctor.require(doctor.trainer, doctor.inference_database, doctor.mlflow_server)
    trainer, inference = session("trainer"), session("inference-deployer")
    with trainer:
        require_relation(trainer, "labelled_row", "deploy_training_db")
        with inference:
            require_relation(inference, "labelled_prediction", "deploy_inference_db")
            found = labelled_rows.stored_inputs(inference, settings().model)
            new = sum(labelled_rows.upsert(trainer, rows) for rows in found)
        kept = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    with step_run("collect_labels"):
        load_mlflow().log_metrics({"labels_new": new, "labels": kept})
    return f"{new} new or changed labels, {kept} labelled rows in the training database"


def require_inputs() -> None:
    """Raise StepError where the project keeps no inputs."""
    if not settings().store_inputs:
        raise StepError(
            "predictions are kept without their inputs (project.yaml: storeInputs, includeMonitoring), so there is "
            "nothing that could be trained on"
        )
