"""Rows that measurements keep in the project's databases while they run."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from app.images import BYTES
from pipeline.data import mini_batches
from pipeline.data.mini_batches import SPLITS, PackedDataset
from pipeline.databases import query, session
from pipeline.user_code import Dataset

from benchmarks import data


def packed(name: str, features: np.ndarray, labels: np.ndarray, rows_per_block: int) -> PackedDataset:
    """Return the rows as a data set whose rows are all in the training split, in this order."""
    rows = {split: np.arange(len(labels) if split == "train" else 0) for split in SPLITS}
    return PackedDataset(Dataset(features, labels, data.CLASSES), BYTES, rows, name, name, rows_per_block)


@contextlib.contextmanager
def training_rows(name: str, rows: int, rows_per_block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keep synthetic images in dataset_batch under this name for a block; yield them as arrays."""
    features, labels = data.images(rows)
    remove(name)
    trainer = session("trainer")
    with trainer:
        mini_batches.upload(trainer, packed(name, features, labels, rows_per_block), data.SEED)
    vacuum()
    try:
        yield features, labels
    finally:
        remove(name)


def remove(name: str) -> None:
    """Delete a data set as the deployer, because the trainer may not."""
    deployer = session("training-deployer")
    with deployer:
        for table in ("dataset_batch", "dataset"):
            query(deployer, "DELETE FROM {schema}." + table + " WHERE dataset = %s", (name,))


def vacuum() -> None:
    """Vacuum and write a checkpoint, so that every round starts from the same state."""
    deployer = session("training-deployer")
    with _autocommit(deployer):
        query(deployer, "VACUUM ANALYZE {schema}.dataset_batch")
        query(deployer, "CHECKPOINT")


@contextlib.contextmanager
def _autocommit(connection: Any) -> Iterator[None]:
    connection.autocommit = True
    try:
        yield
    finally:
        connection.autocommit = False
