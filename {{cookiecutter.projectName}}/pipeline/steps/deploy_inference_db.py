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
from pipeline.registry import aliases
from pipeline.settings import STAGES, settings
from pipeline.tracking import answering, impatient, load_mlflow, registered_alias, step_run


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
    _write_settings(connection)
    _purge(connection)
    told = [_follow(connection, stage) for stage in STAGES]
    changes = "; ".join(line for line in told if line) or "no version holds an alias yet"
    with step_run("deploy_inference_db", liquibase_tag=tag):
        load_mlflow().log_params({"liquibase_tag": tag, "aliases": changes})
    return f"{binding('inference-deployer').where}: schema {settings().schema} at tag {tag}; {changes}"


def _follow(connection: Any, stage: str) -> str:
    """Bring one alias in line with the registry, which decides; return what was found or done.

    A rollback that the registry does not know is the exception: the registry is told of it.
    """
    # First without the lock: a rollback would wait for it, and no rollback waits for a download.
    with connection:
        _store_registered(connection, registered_alias(stage))
    with connection, impatient():
        held = aliases.lock(connection, stage)
        registered = registered_alias(stage)
        if held and held.registry_lags(registered, stage):
            return _tell(connection, stage, held)
        ended = _end_rollback(stage, held, registered)
        if registered is None:
            return _take_away(connection, stage, held) + ended
        _store_registered(connection, registered)
        version = int(registered.version)
        aliases.follow_registry(connection, stage, version)
    is_new = held is None or held.version != version
    return f"{stage} is {'now ' if is_new else ''}version {version}{ended}"


def _tell(connection: Any, stage: str, held: aliases.Alias) -> str:
    """Bring the registry in line with a rollback that was made without it."""
    rolled_back = f"{stage} stays version {held.version} after a rollback"
    if not aliases.update_registry(stage, held.version, held.rolled_back_from):
        return f"{rolled_back}; MLflow's registry has no version {held.version} and still says {held.registry_version}"
    aliases.follow_registry(connection, stage, held.version)
    return f"{rolled_back}, of which MLflow's registry was told now (it said version {held.registry_version})"


def _end_rollback(stage: str, held: aliases.Alias | None, registered: Any) -> str:
    """Tell the registry what was rolled back from; return a clause when its alias was moved after the rollback."""
    if not held or not held.rolled_back_from:
        return ""
    version = registered.version if registered else None
    left = {number: time for number, time in held.rolled_back_from.items() if number != str(version)}
    aliases.mark_rolled_back(stage, left)
    if str(version) == str(held.version):
        return ""
    return f" (the alias was moved in MLflow's registry; so the rollback to version {held.version} ended)"


def _take_away(connection: Any, stage: str, held: aliases.Alias | None) -> str:
    if held is None:
        return ""
    aliases.remove(connection, stage)
    return f"{stage} no longer has a version (version {held.version} lost it in MLflow)"


def _store_registered(connection: Any, registered: Any) -> None:
    """Keep the version that the registry names, if it is not kept yet; the caller commits."""
    if registered and not _is_stored(connection, int(registered.version)):
        _store(connection, _download(registered))


def _write_settings(connection: Any) -> None:
    """Make the database keep of predictions what project.yaml says."""
    limits = settings().monitoring
    with connection:
        query(
            connection,
            "UPDATE {schema}.setting SET log_statistics = %s, store_inputs = %s, window_size = %s, retention_days = %s",
            (settings().include_monitoring, settings().store_inputs, limits.window, limits.retention_days),
        )
        if settings().source:
            # What answers where neither is said: SELECT predict(t.*) FROM t.
            query(
                connection,
                "UPDATE {schema}.setting SET model = %s, stage = %s",
                (settings().model, settings().promotion_stage),
            )


def _purge(connection: Any) -> None:
    """Remove what is past its retention, here too: not every project is monitored."""
    with connection:
        query(connection, "SELECT {schema}.purge_predictions()")


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
            "samples": json.dumps(described.get("samples") or {}),
            **_encoding(described),
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


def _encoding(described: dict[str, Any]) -> dict[str, str]:
    """Return the column that a version has whose rows are a table's. Raises StepError when the project has no table."""
    if "encoding" not in described:
        return {}
    if not settings().source:
        raise StepError("the version takes rows of a table, and this project has none (project.yaml: source)")
    return {"encoding": json.dumps(described["encoding"])}
