"""Predictions of the training database: the probabilities of a split's rows, and of other rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.databases import Connection, in_schema, query
from pipeline.training_db import AS_STORED, STATE_HEADER, Features, TrainingData

BLOCKS_PER_FETCH = 16


class PredictedBlock(NamedTuple):
    """A block of a split: batch_id, labels (n,) and predicted probabilities (n, classes)."""

    batch_id: int
    labels: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.float32]


def predict_blocks(
    connection: Connection, data: TrainingData, split: str, weights: bytes, config: str, features: Features = AS_STORED
) -> Iterator[PredictedBlock]:
    """Yield each block of a split with the probabilities that the database predicts, in no particular order."""
    with connection.cursor("predict_blocks") as cursor:
        cursor.itersize = BLOCKS_PER_FETCH
        cursor.execute(
            in_schema(
                "SELECT batch_id, labels, {schema}.predict_block("
                + features.expression
                + ", labels, row_count, %s, %s) "
                "FROM {schema}.dataset_batch WHERE dataset = %s AND split = %s GROUP BY batch_id, labels"
            ),
            (*features.parameters, weights, config, data.dataset, split),
        )
        for batch_id, labels, state in cursor:
            yield PredictedBlock(batch_id, np.frombuffer(labels, "<i4"), _probabilities(state, len(data.classes)))


def correct_rows(
    connection: Connection, data: TrainingData, split: str, weights: bytes, config: str, features: Features = AS_STORED
) -> npt.NDArray[np.bool_]:
    """Return (n,) booleans: whether the model answers each row of a split correctly, in the order of the blocks."""
    blocks = sorted(
        predict_blocks(connection, data, split, weights, config, features), key=lambda block: block.batch_id
    )
    return np.concatenate([block.probabilities.argmax(axis=1) == block.labels for block in blocks])


def predict_rows(
    connection: Connection, rows: npt.NDArray[Any], classes: int, weights: bytes, config: str
) -> npt.NDArray[np.float32]:
    """Return the probabilities (n, classes) that the training database predicts for rows (n, *shape)."""
    state = query(
        connection,
        "SELECT {schema}.predict_block(%s, %s, %s, %s, %s)",
        (rows.tobytes(), bytes(4 * len(rows)), len(rows), weights, config),
    )[0][0]
    return _probabilities(state, classes)


def block_row(
    connection: Connection, data: TrainingData, split: str, batch_id: int, row_index: int
) -> npt.NDArray[Any]:
    """Return one row of a block, of the data set's shape and dtype; `row_index` counts from 0."""
    dtype = np.dtype(data.dtype).newbyteorder("<")
    row_bytes = dtype.itemsize * int(np.prod(data.shape))
    packed = query(
        connection,
        "SELECT substring(features FROM %s FOR %s) FROM {schema}.dataset_batch "
        "WHERE dataset = %s AND split = %s AND batch_id = %s",
        (1 + row_index * row_bytes, row_bytes, data.dataset, split, batch_id),
    )[0][0]
    return np.frombuffer(packed, dtype).reshape(data.shape)


def _probabilities(state: bytes, classes: int) -> npt.NDArray[np.float32]:
    """Return the probabilities (n, classes) in a state of `predict_block`."""
    return np.frombuffer(state, "<f4", offset=STATE_HEADER.size).reshape(-1, classes)
