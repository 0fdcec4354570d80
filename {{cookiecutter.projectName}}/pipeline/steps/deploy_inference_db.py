"""Deploy code, model versions and aliases for serving.

Liquibase deploys the inference database's changelog; versions and aliases follow MLflow's registry.
"""

import hashlib
import json
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import yaml

from pipeline import doctor, liquibase
from pipeline.databases import Connection, binding, grant_role, insert, query, session
from pipeline.errors import StepError
from pipeline.records import Encoding, TrainingStatistics
from pipeline.registry import aliases, onnx_file
from pipeline.settings import STAGES, settings
from pipeline.tracking import answering, impatient, load_mlflow, registered_alias, step_run

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as RegisteredVersion

REQUIRED_METADATA = ("classes", "input_shape", "input_dtype", "data_hash")


class Metadata(TypedDict):
    """The metadata that promote_model registers with a version; only a table's version has an encoding."""

    classes: list[str]
    input_shape: list[int]
    input_dtype: str
    metrics: dict[str, object]
    training_statistics: TrainingStatistics
    samples: NotRequired[dict[str, str] | None]
    data_hash: str
    git_commit: str
    encoding: NotRequired[Encoding]


class ModelVersion(NamedTuple):
    """A registered version, for the table model_version: number, ONNX file, MLflow's run, metadata."""

    version: int
    onnx: bytes
    run_id: str
    metadata: Metadata


def run() -> str:
    """Update code, model versions and aliases of the inference database. Raises StepError."""
    doctor.require(doctor.java, doctor.liquibase_program, doctor.inference_database, doctor.mlflow_server)
    doctor.require(doctor.inference_packages)
    tag = liquibase.deploy("inference-deployer", "database/inference")
    connection = session("inference-deployer")
    grant_role(connection, f"{settings().schema}_app", binding("inference-app").username)
    _write_settings(connection)
    _purge(connection)
    sentences = [_follow(connection, stage) for stage in STAGES]
    changes = "; ".join(sentence for sentence in sentences if sentence) or "no version holds an alias yet"
    with step_run("deploy_inference_db", liquibase_tag=tag):
        load_mlflow().log_params({"liquibase_tag": tag, "aliases": changes})
    return f"{binding('inference-deployer').where}: schema {settings().schema} at tag {tag}; {changes}"


def _follow(connection: Connection, stage: str) -> str:
    """Give the database's alias to the version that holds the registry's; return a sentence about it.

    The exception is a rollback that the registry does not know yet: then the registry follows the database.
    """
    # Download without the lock, so that no rollback waits for a download.
    with connection:
        _store_registered(connection, registered_alias(stage))
    with connection, impatient():
        alias = aliases.lock(connection, stage)
        registered = registered_alias(stage)
        if alias and alias.registry_lags(registered, stage):
            return _update_registry(connection, stage, alias)
        clause = _end_rollback(stage, alias, registered)
        if registered is None:
            return _remove(connection, stage, alias) + clause
        _store_registered(connection, registered)
        version = int(registered.version)
        aliases.follow_registry(connection, stage, version)
    is_new = alias is None or alias.version != version
    return f"{stage} is {'now ' if is_new else ''}version {version}{clause}"


def _update_registry(connection: Connection, stage: str, alias: aliases.Alias) -> str:
    """Move the registry's alias after a rollback that it does not know; return a sentence about it."""
    rolled_back = f"{stage} stays version {alias.version} after a rollback"
    if not aliases.update_registry(stage, alias.version, alias.rolled_back_from):
        return (
            f"{rolled_back}; MLflow's registry has no version {alias.version} and still says {alias.registry_version}"
        )
    aliases.follow_registry(connection, stage, alias.version)
    return f"{rolled_back}; MLflow's registry, which said version {alias.registry_version}, now says so too"


def _end_rollback(stage: str, alias: aliases.Alias | None, registered: "RegisteredVersion | None") -> str:
    """Mark the versions rolled back from; return a clause when the registry's alias was moved after the rollback."""
    if not alias or not alias.rolled_back_from:
        return ""
    version = registered.version if registered else None
    rolled_back = {number: time for number, time in alias.rolled_back_from.items() if number != str(version)}
    aliases.mark_rolled_back(stage, rolled_back)
    if str(version) == str(alias.version):
        return ""
    return f" (the alias was moved in MLflow's registry, which ended the rollback to version {alias.version})"


def _remove(connection: Connection, stage: str, alias: aliases.Alias | None) -> str:
    if alias is None:
        return ""
    aliases.remove(connection, stage)
    return f"{stage} no longer has a version (version {alias.version} lost it in MLflow)"


def _store_registered(connection: Connection, registered: "RegisteredVersion | None") -> None:
    """Store a registered version, unless the database holds it already; the caller commits."""
    if registered and not _is_stored(connection, int(registered.version)):
        _store(connection, _download(registered))


def _write_settings(connection: Connection) -> None:
    """Write the answers of project.yaml that the database's functions read."""
    limits = settings().monitoring
    with connection:
        query(
            connection,
            "UPDATE {schema}.setting SET log_statistics = %s, store_inputs = %s, window_size = %s, retention_days = %s",
            (settings().include_monitoring, settings().store_inputs, limits.window, limits.retention_days),
        )
        if settings().source:
            # `SELECT predict(t.*) FROM t` names neither model nor stage.
            query(
                connection,
                "UPDATE {schema}.setting SET model = %s, stage = %s",
                (settings().model, settings().promotion_stage),
            )


def _purge(connection: Connection) -> None:
    """Remove predictions past their retention; monitor_model does the same, but not every project runs it."""
    with connection:
        query(connection, "SELECT {schema}.purge_predictions()")


def _is_stored(connection: Connection, version: int) -> bool:
    return bool(
        query(
            connection,
            "SELECT 1 FROM {schema}.model_version WHERE model = %s AND version = %s",
            (settings().model, version),
        )
    )


def _download(registered: "RegisteredVersion") -> ModelVersion:
    """Download a registered version. Raises StepError when promote_model did not register it."""
    mlflow = load_mlflow()
    with tempfile.TemporaryDirectory() as folder:
        with answering():
            path = pathlib.Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"models:/{registered.name}/{registered.version}", dst_path=folder
                )
            )
        description: dict[str, Any] = yaml.safe_load((path / "MLmodel").read_text(encoding="utf-8"))
        metadata: Any = description.get("metadata") or {}
        missing = [key for key in REQUIRED_METADATA if not metadata.get(key)]
        if missing or "onnx" not in description.get("flavors", {}):
            raise StepError(
                f"version {registered.version} of {registered.name} was not registered by promote_model "
                f"(it lacks {', '.join(missing) or 'an ONNX file'}), so it cannot be served"
            )
        onnx = (path / description["flavors"]["onnx"]["data"]).read_bytes()
    if reason := onnx_file.refusal(onnx):
        raise StepError(
            f"the ONNX file of version {registered.version} of {registered.name} cannot be served: {reason}"
        )
    return ModelVersion(int(registered.version), onnx, registered.run_id or "", metadata)


def _store(connection: Connection, model: ModelVersion) -> None:
    """Insert the version, and let the database predict with it once; the caller commits.

    Raises StepError when the model's output does not fit its classes.
    """
    metadata = model.metadata
    digest = hashlib.sha256(model.onnx).hexdigest()
    insert(
        connection,
        "model_version",
        {
            "model": settings().model,
            "version": model.version,
            "onnx": model.onnx,
            "sha256": digest,
            "classes": metadata["classes"],
            "input_shape": metadata["input_shape"],
            "input_dtype": metadata["input_dtype"],
            "metrics": json.dumps(metadata["metrics"]),
            "training_statistics": json.dumps(metadata["training_statistics"]),
            "samples": json.dumps(metadata.get("samples") or {}),
            **_encoding(metadata),
            "data_hash": metadata["data_hash"],
            "git_commit": metadata["git_commit"],
            "mlflow_run": model.run_id,
        },
    )
    row = np.zeros(metadata["input_shape"], metadata["input_dtype"])
    probabilities = query(connection, "SELECT {schema}.answer_row(%s, %s)", (row.tobytes(), digest))[0][0]
    if len(probabilities) != len(metadata["classes"]):
        raise StepError(
            f"version {model.version} gives {len(probabilities)} probabilities in the inference database; "
            f"it has {len(metadata['classes'])} classes"
        )


def _encoding(metadata: Metadata) -> dict[str, str]:
    """Return the column `encoding` of a table's version, nothing for images.

    Raises StepError when the project has no table.
    """
    if "encoding" not in metadata:
        return {}
    if not settings().source:
        raise StepError("the version takes rows of a table, and this project has none (project.yaml: source)")
    return {"encoding": json.dumps(metadata["encoding"])}
