"""Deploy code, model versions and aliases for serving.

Liquibase deploys the inference database's changelog; versions and aliases follow MLflow's registry.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from pipeline import doctor, interrupts, liquibase
from pipeline.databases import Connection, binding, insert, prepare_login, query, session
from pipeline.errors import StepError
from pipeline.registry import aliases, registered_versions
from pipeline.registry.model_metadata import Metadata
from pipeline.registry.registered_versions import RegisteredModel
from pipeline.settings import STAGES, settings
from pipeline.tracking import impatient, load_mlflow, registered_alias, step_run

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def run() -> str:
    """Update code, model versions and aliases of the inference database. Raises StepError."""
    doctor.require(doctor.java, doctor.liquibase_program, doctor.inference_database, doctor.mlflow_server)
    doctor.require(doctor.inference_packages)
    if any(registered_alias(stage) for stage in STAGES):
        doctor.require(doctor.trainer)
        registered_versions.require_table(session("trainer"))
    tag = liquibase.deploy("inference-deployer", "database/inference")
    connection = session("inference-deployer")
    prepare_login(connection, f"{settings().schema}_app", binding("inference-app").username)
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
        interrupts.check()
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


def _end_rollback(stage: str, alias: aliases.Alias | None, registered: "ModelVersion | None") -> str:
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


def _store_registered(connection: Connection, registered: "ModelVersion | None") -> None:
    """Store a registered version, unless the database holds it already; the caller commits.

    Raises StepError when the training database does not know its files, or knows another model by this number.
    """
    if registered is None:
        return
    version = int(registered.version)
    stored = _stored_sha256(connection, version)
    trainer = session("trainer")
    if stored is None:
        model = registered_versions.download(registered)
        registered_versions.require_known(trainer, model)
        _store(connection, model)
    elif registered_versions.has_other_onnx(trainer, registered, stored):
        raise StepError(
            f"the inference database holds another model as version {version}, from an earlier registry of MLflow: "
            "register the model again, so that MLflow gives it a new number"
        )


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


def _stored_sha256(connection: Connection, version: int) -> str | None:
    """Return the SHA-256 of the ONNX file that the database holds as a version, None when it holds none."""
    rows = query(
        connection,
        "SELECT sha256 FROM {schema}.model_version WHERE model = %s AND version = %s",
        (settings().model, version),
    )
    return rows[0][0] if rows else None


def _store(connection: Connection, model: RegisteredModel) -> None:
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
