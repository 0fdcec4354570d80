"""Registered versions: their files in MLflow, and the hashes by which the training database recognizes them.

Whoever can write to MLflow could exchange a file there. The training database therefore records the hashes of what
promote_model registers and of what a person adopts, and the steps use nothing else.
"""

import hashlib
import json
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

import yaml

from pipeline.databases import Connection, query, require_relation
from pipeline.errors import StepError
from pipeline.records import Encoding, TrainingStatistics
from pipeline.registry import onnx_file
from pipeline.tracking import answering, load_mlflow

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

REQUIRED_METADATA = (
    "classes", "input_shape", "input_dtype", "metrics", "training_statistics", "data_hash", "git_commit",
)  # fmt: skip


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


class RegisteredModel(NamedTuple):
    """The content of a registered version: number, ONNX file, metadata and the id of its run in MLflow."""

    version: int
    onnx: bytes
    metadata: Metadata
    run_id: str


class KnownVersion(NamedTuple):
    """What the training database knows about a version: its training, None without one here, and who adopted it."""

    run_hash: str | None
    adopted_by: str | None


def download(registered: "ModelVersion") -> RegisteredModel:
    """Download a registered version. Raises StepError when it is no model that the app can serve."""
    mlflow = load_mlflow()
    name = f"version {registered.version} of {registered.name}"
    with tempfile.TemporaryDirectory() as folder:
        with answering():
            path = pathlib.Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"models:/{registered.name}/{registered.version}", dst_path=folder
                )
            )
        description: dict[str, Any] = yaml.safe_load((path / "MLmodel").read_text(encoding="utf-8"))
        if "onnx" not in description.get("flavors", {}):
            raise StepError(f"{name} is no ONNX model: log it with mlflow.onnx.log_model")
        metadata: Any = description.get("metadata") or {}
        missing = [key for key in REQUIRED_METADATA if metadata.get(key) is None]
        if missing:
            raise StepError(
                f"{name} lacks the metadata {', '.join(missing)}: log it with the metadata of a version that "
                "promote_model registered"
            )
        onnx = (path / description["flavors"]["onnx"]["data"]).read_bytes()
    if reason := onnx_file.refusal(onnx):
        raise StepError(f"the ONNX file of {name} cannot be served: {reason}")
    return RegisteredModel(int(registered.version), onnx, metadata, registered.run_id or "")


def require_table(connection: Connection) -> None:
    """Raise StepError when the training database has older code than this project."""
    with connection:
        require_relation(connection, "registered_version", "deploy_training_db")


def record(connection: Connection, model: RegisteredModel, run_hash: str | None, adopted_by: str | None = None) -> None:
    """Record the hashes of a version; the caller commits. Recording it again changes nothing."""
    query(
        connection,
        "INSERT INTO {schema}.registered_version (version, onnx_sha256, metadata_sha256, run_hash, adopted_by) "
        "SELECT %s, %s, %s, %s, %s WHERE NOT EXISTS (SELECT 1 FROM {schema}.registered_version "
        "WHERE version = %s AND onnx_sha256 = %s AND metadata_sha256 = %s)",
        (*_key(model), run_hash, adopted_by, *_key(model)),
    )


def is_known(connection: Connection, model: RegisteredModel) -> bool:
    """Return whether the training database knows exactly these files under this number."""
    return bool(
        query(
            connection,
            "SELECT 1 FROM {schema}.registered_version "
            "WHERE version = %s AND onnx_sha256 = %s AND metadata_sha256 = %s",
            _key(model),
        )
    )


def require_known(connection: Connection, model: RegisteredModel) -> None:
    """Raise StepError unless the training database knows exactly these files under this number."""
    require_table(connection)
    with connection:
        if is_known(connection, model):
            return
    raise StepError(unknown(model.version))


def known_version(connection: Connection, registered: "ModelVersion") -> KnownVersion | None:
    """Return what the training database knows about the version, None when it does not know it.

    The tag in MLflow tells apart the same number of two servers; it cannot name a training that did not make it.
    """
    rows = query(
        connection,
        "SELECT run_hash, adopted_by FROM {schema}.registered_version "
        "WHERE version = %s AND (run_hash = %s OR run_hash IS NULL) ORDER BY run_hash NULLS LAST LIMIT 1",
        (int(registered.version), registered.tags.get("run_hash", "")),
    )
    return KnownVersion(*rows[0]) if rows else None


def versions_of(connection: Connection, run_hash: str) -> list[int]:
    """Return the numbers under which a training is registered, the newest first."""
    rows = query(
        connection,
        "SELECT DISTINCT version FROM {schema}.registered_version WHERE run_hash = %s ORDER BY version DESC",
        (run_hash,),
    )
    return [version for (version,) in rows]


def unknown(version: int) -> str:
    """Return the sentence about a version that the training database does not know."""
    return (
        f"the training database does not know version {version}, or its files in MLflow were changed since it was "
        f"registered; `./run adopt_model --version {version}` checks it and records who adopted it"
    )


def _key(model: RegisteredModel) -> tuple[int, str, str]:
    """Return number, hash of the ONNX file and hash of the metadata as JSON with sorted keys; SHA-256, hexadecimal."""
    metadata = json.dumps(model.metadata, sort_keys=True).encode()
    return model.version, hashlib.sha256(model.onnx).hexdigest(), hashlib.sha256(metadata).hexdigest()
