"""Rows that people labelled where the model serves, added to what dataset.py gives."""

from typing import Any, NamedTuple

import numpy as np

from pipeline.data.mini_batches import row_digests
from pipeline.databases import query
from pipeline.user_code import Dataset


class Merged(NamedTuple):
    """A data set with the labelled rows that were new to it, and how many were not used."""

    data: Dataset
    added: int
    unused: int


def merge(trainer: Any, data: Dataset) -> Merged:
    """Return the data set with the labelled rows of its shape, dtype and classes.

    A row that `dataset.py` has already is not used: what stands under version control is not overruled. Of equal
    labelled rows the last label counts.
    """
    rows = query(
        trainer,
        "SELECT features, label FROM {schema}.labelled_row WHERE shape = %s AND dtype = %s AND label = ANY(%s) "
        "ORDER BY labelled_at, prediction_id",
        (",".join(map(str, data.shape)), str(data.features.dtype), data.classes),
    )
    kept = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    if not rows:
        return Merged(data, 0, kept)
    features, labels = _arrays(rows, data)
    new = np.flatnonzero(_is_last_of_its_kind(features) & ~_is_in(features, data.features))
    merged = Dataset(
        np.concatenate([data.features, features[new]]), np.concatenate([data.labels, labels[new]]), data.classes
    )
    return Merged(merged, len(new), kept - len(new))


def digests(trainer: Any) -> set[str]:
    """Return the MD5 of every labelled row, hexadecimal."""
    return {digest for (digest,) in query(trainer, "SELECT md5(features) FROM {schema}.labelled_row")}


def _arrays(rows: list[tuple[Any, ...]], data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, *shape) and labels (n,) of what the database gave; rows with NaN or infinity are left out."""
    packed = b"".join(bytes(features) for features, _ in rows)
    features = np.frombuffer(packed, data.features.dtype.newbyteorder("<")).reshape(-1, *data.shape)
    labels = np.array([data.classes.index(label) for _, label in rows], "<i4")
    finite = np.isfinite(features.reshape(len(features), -1)).all(axis=1)
    return features[finite].astype(data.features.dtype, copy=False), labels[finite]


def _is_last_of_its_kind(features: np.ndarray) -> np.ndarray:
    """Return (n,) booleans: whether no later row is the same."""
    if not len(features):
        return np.zeros(0, bool)
    _, last = np.unique(row_digests(features)[::-1], axis=0, return_index=True)
    is_last = np.zeros(len(features), bool)
    is_last[len(features) - 1 - last] = True
    return is_last


def _is_in(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (n,) booleans: whether the same row is among the others."""
    known = {digest.tobytes() for digest in row_digests(others)}
    return np.array([digest.tobytes() in known for digest in row_digests(features)], bool)
