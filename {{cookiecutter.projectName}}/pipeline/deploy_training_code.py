"""Step deploy_training_code: ends the run here when model.py or the training database's Python is broken."""

from pipeline import doctor
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run
from pipeline.user_code import build_architecture, load_dataset


def run() -> str:
    """Check the training database's Python, build the model, log its architecture. Raises StepError."""
    doctor.require(doctor.training_database, doctor.mlflow_server, doctor.training_packages)
    data = load_dataset()
    architecture = build_architecture(data.shape, len(data.classes))
    with step_run("deploy_training_code", architecture_hash=architecture.hash):
        load_mlflow().log_text(architecture.json, "architecture.json")
    return (
        f"{settings().model}: {architecture.weight_count:,} weights, "
        f"{'×'.join(map(str, architecture.shape))} to {architecture.classes} classes"
    )
