"""Training outside the database: the Python of the aggregates `fit` and `evaluate`, run here on an export."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import psycopg2.extensions

from database.python.fit import transition
from database.python.scores import scores
from pipeline import training_db
from pipeline.databases import in_schema
from pipeline.errors import StepError
from pipeline.records import Scores
from pipeline.training_db import Fitted, TrainingData

if TYPE_CHECKING:
    from database.python.fit import Session

# Blocks that the server sends at a time, as hexadecimal text.
FETCHED_BLOCKS = 16
# Compiled models last as long as this process, as PL/Python's GD lasts as long as a session.
SESSION: "Session" = {}

Block = tuple[bytes, bytes, int]


class InMemory:
    """Trains and evaluates in this process: the same blocks, in the order of their numbers."""

    # TensorFlow runs here already, with as many threads as it likes.
    threads = 0

    def __init__(self, connection: psycopg2.extensions.connection, data: TrainingData, weight_count: int) -> None:
        """Export the training and the validation split; they stay in memory."""
        self.weight_count = weight_count
        with connection:
            self.blocks = {split: export(connection, data.dataset, split) for split in ("train", "validation")}

    def fit(self, state: bytes, config: str) -> Fitted | None:
        """Train one epoch from `state`: weights and optimizer slots, empty before the first. Raises StepError."""
        return training_db.fitted(aggregate(b"fit", self.blocks["train"], state, config), self.weight_count)

    def evaluate(self, weights: bytes, config: str) -> Scores:
        """Return the scores of the validation split. Raises StepError."""
        text = scores(aggregate(b"evaluate", self.blocks["validation"], weights, config))
        if text is None:
            raise StepError("the validation split has no rows")
        evaluated: Scores = json.loads(text)
        return evaluated


def aggregate(task: bytes, blocks: Iterable[Block], weights: bytes, config: str) -> bytes:
    """Return the last state of the aggregate `task`, fit or evaluate, over the blocks. Raises StepError."""
    state = task
    try:
        for features, labels, row_count in blocks:
            state = transition(state, features, labels, row_count, weights, config, SESSION)
    except ValueError as error:
        raise StepError(f"the training in memory stopped: {error}") from error
    return state


def export(connection: psycopg2.extensions.connection, dataset: str, split: str) -> list[Block]:
    """Copy the blocks of a split out of the database; the caller ends the transaction."""
    with connection.cursor("export") as cursor:
        cursor.itersize = FETCHED_BLOCKS
        cursor.execute(
            in_schema(
                "SELECT features, labels, row_count FROM {schema}.dataset_batch "
                "WHERE dataset = %s AND split = %s ORDER BY batch_id"
            ),
            (dataset, split),
        )
        return [(bytes(features), bytes(labels), row_count) for features, labels, row_count in cursor]
