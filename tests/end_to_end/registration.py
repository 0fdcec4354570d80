"""Register a copy of a version as a person or an attacker who can write to MLflow would; run in a project's folder.

Arguments: the version to copy; the part to change (`classes`, `weights` or `nothing`); `tagged` to copy the tag
run_hash. Prints the number of the new version.
"""

import pathlib
import sys
import tempfile

import numpy as np
import onnx
import yaml
from onnx import numpy_helper
from pipeline.settings import settings
from pipeline.tracking import client, load_mlflow

version, change, tagged = sys.argv[1:]
mlflow, name = load_mlflow(), settings().model
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=folder))
    metadata = yaml.safe_load((path / "MLmodel").read_text())["metadata"]
    model = onnx.load(path / "model.onnx")
if change == "classes":
    metadata["classes"].reverse()
if change == "weights":
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(-values, tensor.name))
tags = client().get_model_version(name, version).tags
with mlflow.start_run(run_name="by hand"):
    logged = mlflow.onnx.log_model(model, name="model", save_as_external_data=False, metadata=metadata)
    created = client().create_model_version(
        name,
        logged.model_uri,
        tags={"run_hash": tags["run_hash"]} if tagged == "tagged" else {},
        model_id=logged.model_id,
    )
sys.stdout.write(f"{created.version}\n")
