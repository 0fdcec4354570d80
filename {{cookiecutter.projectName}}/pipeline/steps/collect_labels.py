"""Copy labelled predictions to the training database.

Only predictions whose input was stored are copied. `upload_dataset` then adds them to the data set.
"""

from pipeline import doctor
from pipeline.data import labelled_rows
from pipeline.databases import query, require_relation, session
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run


def run() -> str:
    """Copy the labelled rows, which `upload_dataset` then adds to the data set. Raises StepError."""
    require_inputs()
    doctor.require(doctor.trainer, doctor.inference_database, doctor.mlflow_server)
    trainer, inference = session("trainer"), session("inference-deployer")
    with trainer:
        require_relation(trainer, "labelled_row", "deploy_training_db")
        with inference:
            require_relation(inference, "labelled_prediction", "deploy_inference_db")
            changed = sum(
                labelled_rows.upsert(trainer, rows) for rows in labelled_rows.stored_inputs(inference, settings().model)
            )
        total = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    with step_run("collect_labels"):
        load_mlflow().log_metrics({"labels_new": changed, "labels": total})
    return f"{changed} new or changed labels, {total} labelled rows in the training database"


def require_inputs() -> None:
    """Raise StepError when the project does not store inputs."""
    if not settings().store_inputs:
        raise StepError(
            "predictions are stored without their inputs (project.yaml: storeInputs, includeMonitoring), so no "
            "labelled row can be trained on"
        )
