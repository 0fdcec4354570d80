"""Registered versions: their files in MLflow, and the hashes by which the training database recognizes them.

Whoever can write to MLflow could exchange a file there. The training database therefore records the hashes of what
promote_model registers and of what a person adopts, and the steps use nothing else.
"""

import hashlib
import pathlib
import re
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from pipeline.databases import Connection, insert, query, require_relation
from pipeline.errors import StepError
from pipeline.registry import model_metadata, onnx_file
from pipeline.registry.model_metadata import Metadata
from pipeline.tracking import answering, load_mlflow

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# The description of a model in MLflow, YAML; the largest part is the confusion matrix.
DESCRIPTION = "MLmodel"
MOST_DESCRIPTION_BYTES = 32_000_000
MOST_LEVELS = 100
# The rows of a version: MLflow's tag run_hash tells the versions of two servers with one number apart.
OF_TAG = "version = %s AND (run_hash = %s OR run_hash IS NULL)"
LOG_AGAIN = "log it again with mlflow.onnx.log_model"


class RegisteredModel(NamedTuple):
    """The content of a registered version: number, ONNX file, metadata and the id of its run in MLflow."""

    version: int
    onnx: bytes
    metadata: Metadata
    run_id: str


class KnownVersion(NamedTuple):
    """A version in the training database: the hash of its training, None if from elsewhere, and its adopter."""

    run_hash: str | None
    adopted_by: str | None


def download(registered: "ModelVersion") -> RegisteredModel:
    """Download a registered version. Raises StepError when it is no model that the app can serve."""
    mlflow = load_mlflow()
    name = f"version {registered.version} of {registered.name}"
    with tempfile.TemporaryDirectory() as temporary:
        with answering():
            folder = pathlib.Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"models:/{registered.name}/{registered.version}", dst_path=temporary
                )
            )
        description = _description(folder, name)
        flavors = description.get("flavors")
        onnx_flavor = flavors.get("onnx") if isinstance(flavors, dict) else None
        if not isinstance(onnx_flavor, dict) or not isinstance(onnx_flavor.get("data"), str):
            raise StepError(f"{name} is not an ONNX model; {LOG_AGAIN}")
        metadata = model_metadata.checked(description.get("metadata") or {}, name)
        onnx = _content(folder, onnx_flavor["data"], onnx_file.MOST_BYTES, name)
    if reason := onnx_file.refusal(onnx):
        raise StepError(f"the ONNX file of {name} cannot be served: {reason}")
    return RegisteredModel(int(registered.version), onnx, metadata, registered.run_id or "")


def _description(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Return the description of a downloaded model. Raises StepError."""
    content = _content(folder, DESCRIPTION, MOST_DESCRIPTION_BYTES, name)
    # The parser in C, where it is installed, reads large matrices in a hundredth of the time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _require_plain(yaml.parse(content, loader))
        description = yaml.load(content, loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StepError(
            f"{name} cannot be served: its file {DESCRIPTION} is not plain YAML without aliases; {LOG_AGAIN}"
        ) from error
    if not isinstance(description, dict):
        raise StepError(f"{name} cannot be served: its file {DESCRIPTION} does not describe a model; {LOG_AGAIN}")
    return description


def _require_plain(events: Iterable[yaml.Event]) -> None:
    """Raise YAMLError when YAML has aliases, or more than MOST_LEVELS of lists and mappings within each other.

    Ten levels of ten aliases each are ten billion values; very many levels exhaust the stack of the loader.
    """
    level = 0
    for event in events:
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or level > MOST_LEVELS:
            raise yaml.YAMLError("it has aliases, or too many levels")


def _content(folder: pathlib.Path, file: str, most_bytes: int, name: str) -> bytes:
    """Return the content of a file within a folder, which has no link to a place outside. Raises StepError."""
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise StepError(f"{name} cannot be served: it has no file {file[:100]!r}; {LOG_AGAIN}")
    if path.stat().st_size > most_bytes:
        raise StepError(
            f"{name} cannot be served: its file {file[:100]!r} has {path.stat().st_size:,} bytes; "
            f"at most {most_bytes:,} are allowed"
        )
    return path.read_bytes()


def require_table(connection: Connection) -> None:
    """Raise StepError when the training database has older code than this project."""
    with connection:
        require_relation(connection, "registered_version", "deploy_training_db")


def record(connection: Connection, model: RegisteredModel, run_hash: str | None, adopted_by: str | None = None) -> None:
    """Record the hashes of a version whose number is not taken; the caller commits."""
    version, onnx_sha256, metadata_sha256 = _key(model)
    insert(
        connection,
        "registered_version",
        {
            "version": version,
            "onnx_sha256": onnx_sha256,
            "metadata_sha256": metadata_sha256,
            "run_hash": run_hash,
            "adopted_by": adopted_by,
        },
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
    with connection:
        if is_known(connection, model):
            return
    raise StepError(unknown_version_message(model.version))


def has_other_onnx(connection: Connection, registered: "ModelVersion", onnx_sha256: str) -> bool:
    """Return whether the training database knows the version only with other ONNX files than `onnx_sha256`."""
    with connection:
        rows = query(
            connection,
            "SELECT onnx_sha256 FROM {schema}.registered_version WHERE " + OF_TAG,
            (int(registered.version), tagged_run_hash(registered)),
        )
    return bool(rows) and (onnx_sha256,) not in rows


def known_version(connection: Connection, registered: "ModelVersion") -> KnownVersion | None:
    """Return what the training database knows about the version, None when it does not know it.

    A row is returned only under a hash that this database recorded, whatever MLflow's tag says.
    """
    rows = query(
        connection,
        "SELECT run_hash, adopted_by FROM {schema}.registered_version WHERE "
        + OF_TAG
        + " ORDER BY run_hash NULLS LAST LIMIT 1",
        (int(registered.version), tagged_run_hash(registered)),
    )
    return KnownVersion(*rows[0]) if rows else None


def tagged_run_hash(registered: "ModelVersion") -> str:
    """Return the hash of the training that a version's tag names, empty without one."""
    tag = registered.tags.get("run_hash", "")
    return tag if re.fullmatch("[0-9a-f]{64}", tag) else ""


def is_taken(connection: Connection, version: int) -> bool:
    """Return whether the training database knows this version number."""
    return bool(query(connection, "SELECT 1 FROM {schema}.registered_version WHERE version = %s", (version,)))


def versions_of(connection: Connection, run_hash: str) -> list[int]:
    """Return the numbers under which a training is registered, the newest first."""
    rows = query(
        connection,
        "SELECT DISTINCT version FROM {schema}.registered_version WHERE run_hash = %s ORDER BY version DESC",
        (run_hash,),
    )
    return [version for (version,) in rows]


def unknown_version_message(version: int) -> str:
    """Return the sentence about a version that the training database does not know."""
    return (
        f"the training database does not know version {version}, or its files in MLflow were changed since it was "
        f"registered; `./run adopt_model --version {version}` checks it and records who adopted it"
    )


def _key(model: RegisteredModel) -> tuple[int, str, str]:
    """Return number, hash of the ONNX file and hash of the metadata as JSON; SHA-256, hexadecimal."""
    metadata = model_metadata.canonical_text(model.metadata, f"version {model.version}").encode()
    return model.version, hashlib.sha256(model.onnx).hexdigest(), hashlib.sha256(metadata).hexdigest()
