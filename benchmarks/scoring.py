"""Batch scoring in one SQL statement, against ONNX Runtime in RAM and against export, score, write back."""

import contextlib
import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pipeline.databases import connect, query, session
from pipeline.registry import onnx_export
from pipeline.settings import settings
from pipeline.user_code import build_architecture, load_dataset

from benchmarks import copy_format, data
from benchmarks.figures import Figure, interleave, seconds, speed

ROWS = 10_240
ROWS_PER_BLOCK = 256
CIFAR_MODEL = "benchmark cifar"
STAGE = "staging"
SET_UP = """
DROP SCHEMA IF EXISTS benchmark CASCADE;
CREATE SCHEMA benchmark;
CREATE TABLE benchmark.packed (batch_id int PRIMARY KEY, row_count int NOT NULL, features bytea NOT NULL);
ALTER TABLE benchmark.packed ALTER COLUMN features SET STORAGE EXTERNAL;
CREATE TABLE benchmark.scores (batch_id int NOT NULL, probabilities real[] NOT NULL);
"""
SCORED = "{schema}.predict_batch(features, row_count, %s, %s)"


def measure(rounds: int) -> list[Figure]:
    """Return rows/s of scoring 10,240 rows relative to the peers, for the large and the small model."""
    digits = _digits_rows()
    with _stored_model() as model:
        large = _measure("CIFAR-shaped, the project's CNN", model, data.images(ROWS)[0], rounds)
    small = _measure("digits 8×8, the served model", settings().model, digits, rounds)
    return large + small


def _digits_rows() -> np.ndarray:
    features = load_dataset().features
    return np.resize(features, (ROWS, *features.shape[1:]))


@contextlib.contextmanager
def _stored_model() -> Iterator[str]:
    """Keep model.py's network for the large images, with initial weights, in model_version for a block."""
    architecture = build_architecture(data.SHAPE, len(data.CLASSES))
    keras_model = onnx_export.load_keras().models.model_from_json(architecture.json)
    onnx = onnx_export.export(keras_model, "uint8", data.images(16)[0])
    deployer = session("inference-deployer")
    _delete_model(deployer)
    with deployer:
        query(
            deployer,
            "INSERT INTO {schema}.model_version (model, version, onnx, sha256, classes, input_shape, input_dtype, "
            "metrics, training_statistics, samples, data_hash, git_commit, mlflow_run) "
            "VALUES (%s, 1, %s, %s, %s, %s, 'uint8', '{}', '{}', '{}', '', '', '')",
            (CIFAR_MODEL, onnx, hashlib.sha256(onnx).hexdigest(), data.CLASSES, list(data.SHAPE)),
        )
        query(deployer, "INSERT INTO {schema}.model_alias VALUES (%s, %s, 1)", (CIFAR_MODEL, STAGE))
    try:
        yield CIFAR_MODEL
    finally:
        _delete_model(deployer)


def _delete_model(deployer: Any) -> None:
    with deployer:
        for table in ("model_alias", "model_version"):
            query(deployer, "DELETE FROM {schema}." + table + " WHERE model = %s", (CIFAR_MODEL,))


def _measure(description: str, model: str, features: np.ndarray, rounds: int) -> list[Figure]:
    connection = connect("inference-deployer")
    try:
        _store_rows(connection, features)
        opened = _open(connection, model)
        ways: dict[str, Callable[[], object]] = {
            "ram": lambda: _score(opened, features),
            "ours": lambda: _in_database(connection, model),
            "export": lambda: _export_and_write_back(connection, opened, features.shape[1:]),
            "ours, written": lambda: _in_database_written(connection, model),
        }
        for way in ways.values():
            way()
        durations = interleave(rounds, {name: lambda way=way: _timed(connection, way) for name, way in ways.items()})
    finally:
        connection.rollback()
        query(connection, "DROP SCHEMA IF EXISTS benchmark CASCADE")
        connection.commit()
        connection.close()
    name = f"Scoring {ROWS:,} rows by one statement ({description})"
    return [
        speed(name, durations["ours"], durations["ram"], "ONNX Runtime on an array in RAM, batches of 256", 0.95, ROWS),
        speed(f"{name}, written to a table", durations["ours, written"], durations["export"],
              "COPY out, score outside, COPY back", 1.30, ROWS),
    ]  # fmt: skip


def _store_rows(connection: Any, features: np.ndarray) -> None:
    """Pack the rows into a table of the inference database, 256 per row."""
    rows = (
        (struct.pack(">i", start), struct.pack(">i", len(block)), block.tobytes())
        for start in range(0, ROWS, ROWS_PER_BLOCK)
        for block in [features[start : start + ROWS_PER_BLOCK]]
    )
    with connection:
        query(connection, SET_UP)
        with connection.cursor() as cursor:
            stream = io.BytesIO(copy_format.write(rows))
            cursor.copy_expert("COPY benchmark.packed FROM STDIN (FORMAT binary)", stream, size=1 << 20)
        query(connection, "ANALYZE benchmark.packed")


def _open(connection: Any, model: str) -> Any:
    """Open the model in this process, with ONNX Runtime's default settings."""
    import onnxruntime

    with connection:
        [(onnx,)] = query(connection, "SELECT onnx FROM {schema}.model_version WHERE model = %s", (model,))
    return onnxruntime.InferenceSession(bytes(onnx), providers=["CPUExecutionProvider"])


def _timed(connection: Any, way: Callable[[], object]) -> float:
    """Return the seconds of one way to score, without emptying the table."""
    with connection:
        query(connection, "TRUNCATE benchmark.scores")
    return seconds(way)


def _score(opened: Any, features: np.ndarray) -> np.ndarray:
    starts = range(0, len(features), ROWS_PER_BLOCK)
    return np.concatenate([opened.run(None, {"images": features[low : low + ROWS_PER_BLOCK]})[0] for low in starts])


def _in_database(connection: Any, model: str) -> None:
    with connection:
        query(connection, f"SELECT sum(cardinality({SCORED})) FROM benchmark.packed", (model, STAGE))


def _in_database_written(connection: Any, model: str) -> None:
    with connection:
        query(
            connection,
            f"INSERT INTO benchmark.scores SELECT batch_id, {SCORED} FROM benchmark.packed",
            (model, STAGE),
        )


def _export_and_write_back(connection: Any, opened: Any, shape: tuple[int, ...]) -> None:
    copied = io.BytesIO()
    with connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY benchmark.packed TO STDOUT (FORMAT binary)", copied, size=1 << 20)
        scored = [
            (bytes(batch_id), copy_format.real_array(_score(opened, np.frombuffer(images, "u1").reshape(-1, *shape))))
            for batch_id, _, images in copy_format.read(copied.getbuffer())
        ]
        stream = io.BytesIO(copy_format.write(scored))
        cursor.copy_expert("COPY benchmark.scores FROM STDIN (FORMAT binary)", stream, size=1 << 20)
