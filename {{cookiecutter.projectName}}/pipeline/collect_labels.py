"""Step collect_labels: copies labelled predictions, with their inputs, into the training database."""

from pipeline import doctor, labelled_rows
from pipeline.databases import query, session
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run


def run() -> str:
    """Bring what people have labelled since the last time; `upload_dataset` then adds it. Raises StepError."""
    if not settings().store_inputs:
        raise StepError(
            "predictions are kept without their inputs (project.yaml: storeInputs, includeMonitoring), so there is "
            "nothing that could be trained on"
        )
    doctor.require(doctor.trainer, doctor.inference_database, doctor.mlflow_server)
    trainer, inference = session("trainer"), session("inference-deployer")
    with trainer:
        _require_table(trainer)
        with inference:
            found = labelled_rows.stored_inputs(inference, settings().model)
            new = sum(labelled_rows.keep(trainer, rows) for rows in found)
        kept = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    with step_run("collect_labels"):
        load_mlflow().log_metrics({"labels_new": new, "labels": kept})
    return f"{new} new or changed labels, {kept} labelled rows in the training database"


def _require_table(trainer) -> None:
    if not query(trainer, "SELECT to_regclass(%s)", (f'"{settings().schema}".labelled_row',))[0][0]:
        raise StepError("the training database has no table labelled_row yet: run deploy_training_db")
