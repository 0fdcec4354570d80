"""Where the rows come from: `dataset.py`, packed here and copied into the training database."""

import base64
import hashlib
import io
import json
from typing import Any

import numpy as np

from pipeline import training_db
from pipeline.data import mini_batches, source_labels, splits
from pipeline.data.mini_batches import PackedDataset
from pipeline.data.splits import Described, Packed, Unseen
from pipeline.databases import in_schema, insert
from pipeline.training_db import AS_STORED, Examples, Features, FinishedRun, TrainingData
from pipeline.user_code import load_dataset

CHECKED_ROWS = 100
# Samples travel in the model's description, which is read whole.
SAMPLE_BYTES = 500_000


def describe() -> Described:
    """Return the shape of a row and the classes. Raises StepError."""
    data = load_dataset()
    return Described(data.shape, data.classes)


def grant(connection: Any, group: str) -> None:
    """Do nothing: the trainer needs no right on what comes from here."""


def pack(connection: Any, seed: int, rows_per_block: int) -> Packed:
    """Put the data set, with the rows that collect_labels brought, into the training database, or find that it is
    there; the caller commits. Raises StepError."""
    merged = source_labels.merge(connection, load_dataset())
    packed = mini_batches.pack(merged.data, seed, rows_per_block)
    new = not training_db.select_data(connection, packed.dataset)
    if new:
        upload(connection, packed, seed)
    counts = {split: len(rows) for split, rows in packed.rows.items()}
    return Packed(packed.data_hash, counts, merged.added, merged.unused, new)


def upload(connection: Any, packed: PackedDataset, seed: int) -> None:
    """Copy the blocks and then their description; the caller commits."""
    batch_ids = splits.batch_ids(connection, mini_batches.block_count(packed))
    stream = mini_batches.CopyStream(packed.dataset, mini_batches.blocks(packed, batch_ids))
    with connection.cursor() as cursor:
        cursor.copy_expert(
            in_schema(
                "COPY {schema}.dataset_batch (dataset, split, batch_id, row_count, features, labels) "
                "FROM STDIN (FORMAT binary)"
            ),
            io.BufferedReader(stream, 1 << 20),
            size=1 << 20,
        )
    insert(
        connection,
        "dataset",
        {
            "dataset": packed.dataset,
            "data_hash": packed.data_hash,
            "seed": seed,
            "rows_per_block": packed.rows_per_block,
            "shape": ",".join(map(str, packed.data.shape)),
            "dtype": str(packed.data.features.dtype),
            "classes": json.dumps(packed.data.classes),
            "split_rows": json.dumps({split: len(rows) for split, rows in packed.rows.items()}),
            "training_statistics": json.dumps(mini_batches.training_statistics(packed)),
        },
    )


def keep_evaluated(connection: Any, trained: FinishedRun, config: str) -> None:
    """Do nothing: the training database answers no single image."""


def features_for(kept: dict[str, Any], data: TrainingData) -> Features | None:
    """Return what the model described by `kept` is given of this data set; None when it answers another question."""
    same = tuple(kept["shape"]) == data.shape and kept["classes"] == data.classes and kept["dtype"] == data.dtype
    return AS_STORED if same else None


def examples(connection: Any, data: TrainingData) -> Examples:
    """Return rows of the validation split to check a model with, and one a class for the page to offer."""
    rows, labels = training_db.sample_rows(connection, data, "validation", CHECKED_ROWS)
    return Examples(rows, _samples(rows, labels, data.classes, source_labels.digests(connection)))


def _samples(rows: np.ndarray, labels: np.ndarray, classes: list[str], visitors: set[str]) -> dict[str, str]:
    """Return one row a class, as base64 of its bytes; as many as fit into SAMPLE_BYTES.

    What visitors sent (MD5 of rows) is shown to no other visitor.
    """
    own = np.array([hashlib.md5(row.tobytes(), usedforsecurity=False).hexdigest() not in visitors for row in rows])
    labels = np.where(own, labels, -1)
    first = {name: np.flatnonzero(labels == number)[:1] for number, name in enumerate(classes)}
    found = [(name, rows[numbers[0]].tobytes()) for name, numbers in first.items() if len(numbers)]
    return {name: base64.b64encode(row).decode() for name, row in found[: SAMPLE_BYTES // rows[0].nbytes]}


def unseen_row() -> Unseen:
    """Return the first image of the holdout: the row's own hash says that it was not trained on."""
    data = load_dataset()
    row = mini_batches.split_rows(mini_batches.row_digests(data.features))["holdout"][0]
    return Unseen(data.features[row].tobytes(), "bytea", data.classes[data.labels[row]], "an image")
