"""Check model.py and the training database's Python.

The model is exported as it will be served. A broken one stops the run here, before anything is deployed.
"""

import concurrent.futures

from pipeline import code_files, doctor
from pipeline.data import source
from pipeline.registry import onnx_export
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run
from pipeline.user_code import build_architecture, build_optimizer, load_keras


def run() -> str:
    """Check the training database's Python, build the model and log its architecture. Raises StepError."""
    code_files.require("model")
    if code_files.exists("dataset"):
        code_files.require("dataset")
    doctor.require(doctor.training_database, doctor.mlflow_server)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        # TensorFlow takes seconds to import, here and in the database: do both at the same time.
        packages = pool.submit(doctor.require, doctor.training_packages)
        load_keras()
        packages.result()
    data = source.describe()
    architecture = build_architecture(data.shape, len(data.classes), data.value_range)
    build_optimizer(0.001)
    onnx_export.check(architecture.json, data.dtype, data.value_range)
    with step_run("deploy_training_code", architecture_hash=architecture.hash):
        load_mlflow().log_text(architecture.json, "architecture.json")
    given = " (starting weights from model.py)" if architecture.starting_weights else ""
    return (
        f"{settings().model}: {architecture.weight_count:,} weights{given}, "
        f"{'×'.join(map(str, architecture.shape))} to {architecture.classes} classes"
    )
