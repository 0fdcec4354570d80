"""Images that people labelled where the model is served, added to the rows of dataset.py."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection

from app.images import BYTES
from pipeline.data.mini_batches import row_digests
from pipeline.databases import query
from pipeline.records import PixelFormat
from pipeline.user_code import Dataset


class Merged(NamedTuple):
    """A data set with its new labelled rows: how many were added, and how many were not used."""

    data: Dataset
    added: int
    unused: int


def merge(trainer: Connection, data: Dataset, pixels: PixelFormat = BYTES) -> Merged:
    """Return the data set with the labelled rows of its shape, dtype, classes and values.

    A row that dataset.py has already is not used: version control overrules a label from the app. Of equal labelled
    rows, the last label counts.
    """
    rows = query(
        trainer,
        "SELECT features, label FROM {schema}.labelled_row WHERE shape = %s AND dtype = %s AND label = ANY(%s) "
        "ORDER BY labelled_at, prediction_id",
        (",".join(map(str, data.shape)), str(data.features.dtype), data.classes),
    )
    stored = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    if not rows:
        return Merged(data, 0, stored)
    features, labels = _arrays(rows, data, pixels)
    new = np.flatnonzero(_is_last_occurrence(features) & ~_is_in(features, data.features))
    merged = Dataset(
        np.concatenate([data.features, features[new]]), np.concatenate([data.labels, labels[new]]), data.classes
    )
    return Merged(merged, len(new), stored - len(new))


def digests(trainer: Connection) -> set[str]:
    """Return the MD5 of every labelled row, hexadecimal."""
    return {digest for (digest,) in query(trainer, "SELECT md5(features) FROM {schema}.labelled_row")}


def _arrays(
    rows: list[tuple[bytes, str]], data: Dataset, pixels: PixelFormat
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """Return features (n, *shape) of the data set's dtype and labels (n,) of rows from the database.

    Rows with NaN or infinity are left out, and so are rows with values beyond black and white: the model that they
    were sent to was trained on other values.
    """
    packed = b"".join(bytes(features) for features, _ in rows)
    features = np.frombuffer(packed, data.features.dtype.newbyteorder("<")).reshape(-1, *data.shape)
    labels = np.array([data.classes.index(label) for _, label in rows], "<i4")
    low, high = np.float32(pixels["minimum"]), np.float32(pixels["maximum"])
    fits = ((features >= low) & (features <= high)).reshape(len(features), -1).all(axis=1)
    return features[fits].astype(data.features.dtype, copy=False), labels[fits]


def _is_last_occurrence(features: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (n,) booleans: whether no later row is equal."""
    if not len(features):
        return np.zeros(0, bool)
    _, last = np.unique(row_digests(features)[::-1], axis=0, return_index=True)
    is_last = np.zeros(len(features), bool)
    is_last[len(features) - 1 - last] = True
    return is_last


def _is_in(features: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (n,) booleans: whether an equal row is among the others."""
    known = {digest.tobytes() for digest in row_digests(others)}
    return np.array([digest.tobytes() in known for digest in row_digests(features)], bool)
