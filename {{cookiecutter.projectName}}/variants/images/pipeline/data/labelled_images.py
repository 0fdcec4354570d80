"""Images that people labelled where the model is served, added to the rows of dataset.py."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection

from app.images import BYTES
from pipeline.data import feedback, near_duplicates
from pipeline.data.feedback import Limits
from pipeline.data.mini_batches import row_digests, split_rows
from pipeline.data.splits import FEEDBACK
from pipeline.databases import query
from pipeline.records import PixelFormat
from pipeline.user_code import Dataset

# Rows that are looked at per row that may be used: some are near-duplicates.
CANDIDATES = 3


class Merged(NamedTuple):
    """A data set whose last rows are labelled ones: their predictions' ids, and how many rows were not used."""

    data: Dataset
    prediction_ids: list[str]
    unused: int


class Candidates(NamedTuple):
    """Labelled rows, the last label first: features (n, *shape), labels (n,), predictions' ids, subjects of labels."""

    features: npt.NDArray[Any]
    labels: npt.NDArray[np.int32]
    prediction_ids: list[str]
    subjects: list[str]


def merge(trainer: Connection, data: Dataset, pixels: PixelFormat = BYTES) -> Merged:
    """Return the data set with the labelled rows of its shape, dtype, classes and values.

    A near-duplicate of a row that dataset.py has already is not used: version control overrules a label from the app.
    Of near-duplicates among the labelled rows, the last label counts. The number of rows is limited by their share, in
    total and per subject: see project.yaml.
    """
    stored = query(trainer, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    if not stored:
        return Merged(data, [], 0)
    own_rows = {split: len(rows) for split, rows in split_rows(row_digests(data.features)).items()}
    limits = feedback.limits_by_split(own_rows)
    candidates = _candidates(trainer, data, pixels, limits)
    new = near_duplicates.first_of_each(candidates.features, data.features)
    if not len(new):
        return Merged(data, [], stored)
    digests = row_digests(candidates.features[new])
    in_training = np.isin(np.arange(len(new)), split_rows(digests)["train"])
    places = ["train" if training else FEEDBACK for training in in_training]
    used = new[_within_limits(places, [candidates.subjects[number] for number in new], limits)]
    merged = Dataset(
        np.concatenate([data.features, candidates.features[used]]),
        np.concatenate([data.labels, candidates.labels[used]]),
        data.classes,
    )
    return Merged(merged, [candidates.prediction_ids[number] for number in used], stored - len(used))


def digests(trainer: Connection) -> set[str]:
    """Return the MD5 of every labelled row, hexadecimal."""
    return {digest for (digest,) in query(trainer, "SELECT md5(features) FROM {schema}.labelled_row")}


def _candidates(trainer: Connection, data: Dataset, pixels: PixelFormat, limits: Mapping[str, Limits]) -> Candidates:
    """Return the labelled rows that the data set could take, the last label first."""
    rows = query(
        trainer,
        "SELECT features, label, prediction_id, subject FROM (SELECT *, row_number() OVER ("
        "PARTITION BY subject ORDER BY labelled_at DESC, prediction_id) AS place FROM {schema}.labelled_row "
        "WHERE shape = %s AND dtype = %s AND label = ANY(%s)) AS of_subject WHERE place <= %s "
        "ORDER BY labelled_at DESC, prediction_id LIMIT %s",
        (
            ",".join(map(str, data.shape)),
            str(data.features.dtype),
            data.classes,
            CANDIDATES * sum(limit.per_subject for limit in limits.values()),
            CANDIDATES * sum(limit.total for limit in limits.values()),
        ),
    )
    if not rows:
        return Candidates(data.features[:0], data.labels[:0], [], [])
    features, labels, fits = _arrays([row[:2] for row in rows], data, pixels)
    known = [row for row, fit in zip(rows, fits, strict=True) if fit]
    return Candidates(features, labels, [row[2] for row in known], [row[3] for row in known])


def _within_limits(places: Sequence[str], subjects: Sequence[str], limits: Mapping[str, Limits]) -> list[int]:
    """Return the numbers of the rows that keep the limits of their split: the first of each subject, then of all."""
    used: collections.Counter[str] = collections.Counter()
    used_of_subject: collections.Counter[tuple[str, str]] = collections.Counter()
    chosen: list[int] = []
    for number, (place, subject) in enumerate(zip(places, subjects, strict=True)):
        limit = limits[place]
        if used[place] < limit.total and used_of_subject[place, subject] < limit.per_subject:
            used[place] += 1
            used_of_subject[place, subject] += 1
            chosen.append(number)
    return chosen


def _arrays(
    rows: Sequence[tuple[bytes, str]], data: Dataset, pixels: PixelFormat
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return features (n, *shape) of the data set's dtype, labels (n,) of rows from the database, and which rows fit.

    Rows with NaN or infinity are left out, and so are rows with values beyond black and white: the model that they
    were sent to was trained on other values.
    """
    packed = b"".join(bytes(features) for features, _ in rows)
    features = np.frombuffer(packed, data.features.dtype.newbyteorder("<")).reshape(-1, *data.shape)
    labels = np.array([data.classes.index(label) for _, label in rows], "<i4")
    low, high = np.float32(pixels["minimum"]), np.float32(pixels["maximum"])
    is_inside = (features >= low) & (features <= high)
    fits = np.asarray(is_inside.reshape(len(features), -1).all(axis=1))
    return features[fits].astype(data.features.dtype, copy=False), labels[fits], fits
