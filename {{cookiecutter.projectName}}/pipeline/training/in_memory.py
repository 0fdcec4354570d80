"""Training outside the database: the functions of the aggregates `fit` and `evaluate`, run here on an export."""

import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from pipeline import training_db
from pipeline.databases import in_schema
from pipeline.errors import StepError
from pipeline.records import Scores
from pipeline.settings import ROOT
from pipeline.training_db import Fitted, TrainingData

AGGREGATES = "database/training/004-fit-and-evaluate.sql"
# Blocks that the server sends at a time, as hexadecimal text.
FETCHED_BLOCKS = 16

Block = tuple[bytes, bytes, int]


@functools.cache
def function(name: str) -> Callable[..., Any]:
    """Return a PL/Python function of the training database as one of this process. Raises StepError.

    It is compiled as PL/Python does it: GD is a dictionary that stays.
    """
    arguments, body, line = source(name)
    text = "\n\t".join(body.splitlines())
    names: dict[str, Any] = {"GD": {}}
    # The project's own file, which the database runs too; empty lines before it, so that errors name the file's own.
    code = "\n" * (line - 2) + f"def {name}({', '.join(arguments)}):\n\t{text}\n"
    exec(compile(code, str(ROOT / AGGREGATES), "exec"), names)
    return names[name]


def source(name: str) -> tuple[list[str], str, int]:
    """Return a PL/Python function's arguments, its body, the text between the dollar quotes, and the line on which
    that begins. Raises StepError."""
    text = (ROOT / AGGREGATES).read_text(encoding="utf-8")
    start = re.escape('CREATE FUNCTION "${schema}".' + name)
    found = re.search(start + r"\((.*?)\)\s+RETURNS .*? AS \$python\$\n(.*?)\$python\$;", text, re.DOTALL)
    if not found:
        raise StepError(f"{AGGREGATES} has no function {name} between dollar quotes $python$, which where=memory runs")
    line = text.count("\n", 0, found.start(2)) + 1
    return [argument.split()[0] for argument in found[1].split(",")], found[2], line


class InMemory:
    """Trains and evaluates in this process: the same blocks, in the order of their numbers."""

    # TensorFlow has been started here already, with as many threads as it likes.
    threads = 0

    def __init__(self, connection: Any, data: TrainingData, weight_count: int) -> None:
        """Export the training and the validation split; they stay in memory."""
        self.weight_count = weight_count
        with connection:
            self.blocks = {split: export(connection, data.dataset, split) for split in ("train", "validation")}

    def fit(self, state: bytes, config: str) -> Fitted | None:
        """Train one epoch from `state`: weights and optimizer slots, empty before the first. Raises StepError."""
        return training_db.fitted(aggregate(b"fit", self.blocks["train"], state, config), self.weight_count)

    def evaluate(self, weights: bytes, config: str) -> Scores:
        """Return the scores of the validation split."""
        state = aggregate(b"evaluate", self.blocks["validation"], weights, config)
        scores: Scores = json.loads(function("evaluate_final")(state))
        return scores


def aggregate(task: bytes, blocks: Iterable[Block], weights: bytes, config: str) -> bytes:
    """Return the last state of the aggregate `task` over the blocks. Raises StepError when it refuses."""
    transition, state = function("model_transition"), task
    try:
        for features, labels, row_count in blocks:
            state = transition(state, features, labels, row_count, weights, config)
    except ValueError as error:
        raise StepError(f"the training in memory stopped: {error}") from error
    return state


def export(connection: Any, dataset: str, split: str) -> list[Block]:
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
