"""Step deploy_inference_db: the inference database's code, models and aliases follow the commit and MLflow."""

import hashlib
import json
import pathlib
import tempfile
from typing import Any, NamedTuple

import numpy as np
import yaml

from pipeline import doctor, liquibase
from pipeline.databases import binding, grant_role, insert, query, session
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import answering, load_mlflow, registered_alias, step_run

STAGES = ("staging", "production")


class ModelVersion(NamedTuple):
    """A registered version as it is stored in model_version."""

    version: int
    onnx: bytes
    run_id: str
    described: dict[str, Any]


def run() -> str:
    """Bring code, model versions and aliases in the inference database in line. Raises StepError."""
    doctor.require(doctor.java, doctor.liquibase_program, doctor.inference_database, doctor.mlflow_server)
    doctor.require(doctor.inference_packages)
    tag = liquibase.deploy("inference-deployer", "database/inference")
    connection = session("inference-deployer")
    grant_role(connection, f"{settings().schema}_app", binding("inference-app").username)
    told = [_follow(connection, stage) for stage in STAGES]
    changes = "; ".join(line for line in told if line) or "no version holds an alias yet"
    with step_run("deploy_inference_db", liquibase_tag=tag):
        load_mlflow().log_params({"liquibase_tag": tag, "aliases": changes})
    return f"{binding('inference-deployer').where}: schema {settings().schema} at tag {tag}; {changes}"


def _follow(connection: Any, stage: str) -> str:
    """Make one alias in the database say what the registry says; return what was found or done."""
    registered = registered_alias(stage)
    with connection:
        rows = query(
            connection,
            "SELECT version FROM {schema}.model_alias WHERE model = %s AND alias = %s",
            (settings().model, stage),
        )
        held = rows[0][0] if rows else None
        if registered is None:
            return _take_away(connection, stage, held)
        version = int(registered.version)
        if not _is_stored(connection, version):
            _store(connection, _download(registered))
        if held == version:
            return f"{stage} is version {version}"
        query(
            connection,
            "INSERT INTO {schema}.model_alias (model, alias, version) VALUES (%s, %s, %s) "
            "ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version, changed_at = now()",
            (settings().model, stage, version),
        )
    return f"{stage} is now version {version}"


def _take_away(connection: Any, stage: str, held: int | None) -> str:
    if held is None:
        return ""
    query(
        connection,
        "DELETE FROM {schema}.model_alias WHERE model = %s AND alias = %s",
        (settings().model, stage),
    )
    return f"{stage} no longer has a version (version {held} lost it in MLflow)"


def _is_stored(connection: Any, version: int) -> bool:
    return bool(
        query(
            connection,
            "SELECT 1 FROM {schema}.model_version WHERE model = %s AND version = %s",
            (settings().model, version),
        )
    )


def _download(registered: Any) -> ModelVersion:
    """Fetch a registered version's ONNX file and description. Raises StepError when it is not one of ours."""
    mlflow = load_mlflow()
    with tempfile.TemporaryDirectory() as folder:
        with answering():
            path = pathlib.Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"models:/{registered.name}/{registered.version}", dst_path=folder
                )
            )
        described = yaml.safe_load((path / "MLmodel").read_text(encoding="utf-8"))
        metadata = described.get("metadata") or {}
        missing = [key for key in ("classes", "input_shape", "input_dtype", "data_hash") if not metadata.get(key)]
        if missing or "onnx" not in described.get("flavors", {}):
            raise StepError(
                f"version {registered.version} of {registered.name} was not registered by promote_model "
                f"(it lacks {', '.join(missing) or 'an ONNX file'}), so it cannot be served"
            )
        onnx = (path / described["flavors"]["onnx"]["data"]).read_bytes()
    return ModelVersion(int(registered.version), onnx, registered.run_id, metadata)


def _store(connection: Any, model: ModelVersion) -> None:
    """Insert the version and let the database itself open it once; the caller commits."""
    described = model.described
    digest = hashlib.sha256(model.onnx).hexdigest()
    insert(
        connection,
        "model_version",
        {
            "model": settings().model,
            "version": model.version,
            "onnx": model.onnx,
            "sha256": digest,
            "classes": described["classes"],
            "input_shape": described["input_shape"],
            "input_dtype": described["input_dtype"],
            "metrics": json.dumps(described["metrics"]),
            "training_statistics": json.dumps(described["training_statistics"]),
            "data_hash": described["data_hash"],
            "git_commit": described["git_commit"],
            "mlflow_run": model.run_id,
        },
    )
    row = np.zeros(described["input_shape"], described["input_dtype"])
    answer = query(connection, "SELECT {schema}.answer_row(%s, %s)", (row.tobytes(), digest))[0][0]
    if len(answer) != len(described["classes"]):
        raise StepError(
            f"version {model.version} gives {len(answer)} probabilities in the inference database; "
            f"it has {len(described['classes'])} classes"
        )
