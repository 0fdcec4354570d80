"""The source of the rows: `dataset.py`, packed in this process and copied into the training database."""

import base64
import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection

from app import images
from pipeline import training_db
from pipeline.data import labelled_images, mini_batches
from pipeline.data.pixels import load_images, pixel_format
from pipeline.data.splits import DataSpec, HoldoutRow, PackResult
from pipeline.errors import StepError
from pipeline.predictions import block_row, predict_rows
from pipeline.records import PixelFormat
from pipeline.training_db import AS_STORED, Examples, Features, FinishedRun, ServedRows, TrainingData

CHECKED_ROWS = 100
# Rows that are sent as files before a version can be promoted.
ROUND_TRIP_ROWS = 32
# Samples are part of the model's description, which is read whole.
SAMPLE_BYTES = 500_000
# Largest width and height of a picture in the report.
MAX_PICTURE_SIZE = (256, 256)


def describe() -> DataSpec:
    """Return the shape, dtype and values of a row, and the classes. Raises StepError."""
    data = load_images()
    pixels = pixel_format(data)
    return DataSpec(data.shape, data.classes, str(data.features.dtype), (pixels["minimum"], pixels["maximum"]))


def grant(connection: Connection, group: str) -> None:
    """Do nothing: the trainer group needs no right on rows that this process uploads."""


def pack(connection: Connection, seed: int, rows_per_block: int) -> PackResult:
    """Upload the data set with the labelled rows, unless the training database holds it; the caller commits.

    The data set becomes the one to train on. Raises StepError.
    """
    data = load_images()
    pixels = pixel_format(data)
    merged = labelled_images.merge(connection, data, pixels)
    labelled = len(merged.prediction_ids)
    packed = mini_batches.pack(merged.data, seed, rows_per_block, pixels, labelled)
    is_new = not training_db.select_data(connection, packed.dataset)
    if is_new:
        mini_batches.upload(connection, packed, seed, merged.prediction_ids)
    return PackResult(packed.data_hash, packed.row_counts, labelled, merged.unused, is_new)


def store_evaluated_model(connection: Connection, trained: FinishedRun, config: str) -> None:
    """Do nothing: the training database does not answer single images."""


def features_for(trained: TrainingData, data: TrainingData) -> Features | None:
    """Return the features of `data` for a model that was trained on `trained`; None when it answers another question.

    It answers the same where shape, classes, dtype and values of the pixels are the same.
    """
    if trained.shape != data.shape:
        return None
    before, present = (data_set.statistics.get("pixels", images.BYTES) for data_set in (trained, data))
    if _values(before) != _values(present):
        return None
    return AS_STORED if trained.classes == data.classes and trained.dtype == data.dtype else None


def _values(pixels: PixelFormat) -> tuple[float, float, str]:
    """Return the values of black and white, and the order of the channels."""
    return pixels["minimum"], pixels["maximum"], pixels["channels"]


def examples(connection: Connection, data: TrainingData) -> Examples:
    """Return rows of the validation split to check a model with, and one per class for the page to offer."""
    rows, labels = training_db.sample_rows(connection, data, "validation", CHECKED_ROWS)
    return Examples(rows, _samples(rows, labels, data.classes, labelled_images.digests(connection)))


def served_rows(connection: Connection, trained: FinishedRun, config: str) -> ServedRows:
    """Return validation rows as the app decodes their PNG files, with the training database's answers.

    Raises StepError when a row does not come back: a value changes by more than rounding to 256 levels explains.
    """
    data = trained.data
    rows, _ = training_db.sample_rows(connection, data, "validation", ROUND_TRIP_ROWS)
    decoded = np.stack([_through_a_file(row, data) for row in rows])
    return ServedRows(decoded, predict_rows(connection, decoded, len(data.classes), trained.weights, config))


def pictures(connection: Connection, data: TrainingData, places: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """Return the PNG file of each row of the validation split, given as (batch_id, row index from 0).

    None stands for a row that a visitor sent: such rows must not leave the databases.
    """
    from_visitors = labelled_images.digests(connection)
    rows = [block_row(connection, data, "validation", *place).tobytes() for place in places]
    return [None if _digest(row) in from_visitors else _thumbnail(row, data) for row in rows]


def input_file(stored: bytes, shape: tuple[int, ...], dtype: str, pixels: PixelFormat | None) -> tuple[str, bytes]:
    """Return the suffix and the content of a file that shows an input of the app to a person."""
    file = io.BytesIO()
    images.to_picture(stored, shape, dtype, pixels).save(file, "PNG")
    return ".png", file.getvalue()


def _thumbnail(row: bytes, data: TrainingData) -> bytes:
    """Return the PNG file of a row, made smaller than MAX_PICTURE_SIZE where it is larger."""
    picture = images.to_picture(row, data.shape, data.dtype, data.statistics.get("pixels", images.BYTES))
    picture.thumbnail(MAX_PICTURE_SIZE)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def errors_query(connection: Connection, data: TrainingData) -> str:
    """Return no query: the report shows the rows themselves."""
    return ""


def _digest(row: bytes) -> str:
    return hashlib.md5(row, usedforsecurity=False).hexdigest()


def _through_a_file(row: npt.NDArray[Any], data: TrainingData) -> npt.NDArray[Any]:
    """Return a row as the app decodes it from a PNG file. Raises StepError."""
    pixels = data.statistics.get("pixels", images.BYTES)
    file = io.BytesIO()
    images.to_picture(row.tobytes(), data.shape, data.dtype, pixels).save(file, "PNG")
    content = images.decode(file.getvalue(), data.shape, data.dtype, pixels)
    decoded = np.frombuffer(content, row.dtype).reshape(data.shape)
    level = (pixels["maximum"] - pixels["minimum"]) / 255
    difference = float(np.abs(decoded.astype("f8") - row).max())
    if difference > (0.51 + pixels["whole"]) * level:
        raise StepError(
            f"a validation row that is sent as a PNG file comes back with values that differ by {difference:.3g}; "
            f"one level of grey is {level:.3g}; check valueRange in project.yaml"
        )
    return decoded


def _samples(
    rows: npt.NDArray[Any], labels: npt.NDArray[np.int32], classes: list[str], from_visitors: set[str]
) -> dict[str, str]:
    """Return one row per class, as base64 of its bytes; as many as fit into SAMPLE_BYTES.

    Rows that visitors sent, given by their MD5, are not shown to other visitors.
    """
    labels = np.where([_digest(row.tobytes()) not in from_visitors for row in rows], labels, -1)
    first = {name: np.flatnonzero(labels == number)[:1] for number, name in enumerate(classes)}
    samples = [(name, rows[numbers[0]].tobytes()) for name, numbers in first.items() if len(numbers)]
    return {name: base64.b64encode(row).decode() for name, row in samples[: SAMPLE_BYTES // rows[0].nbytes]}


def unseen_row() -> HoldoutRow:
    """Return the first image of the holdout, whose hash keeps it out of every training."""
    data = load_images()
    row = mini_batches.split_rows(mini_batches.row_digests(data.features))["holdout"][0]
    return HoldoutRow(data.features[row].tobytes(), "bytea", data.classes[data.labels[row]], "an image")
