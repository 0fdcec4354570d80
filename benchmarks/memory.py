"""Anonymous memory of the training backend: it must not grow with the rows of an epoch."""

import statistics

from pipeline import training_db
from pipeline.databases import connect
from pipeline.user_code import build_optimizer

from benchmarks import data, stored
from benchmarks.figures import Figure, interleave
from benchmarks.processes import anonymous_memory
from benchmarks.training import small_architecture

ROWS = 10_240
TIMES = 10
ROWS_PER_BLOCK = 512
GOAL = 0.05
# Each round opens two sessions that import TensorFlow, and rounds hardly differ.
MOST_ROUNDS = 3


def measure(rounds: int) -> list[Figure]:
    """Return RssAnon after an epoch of 102,400 rows relative to that after 10,240, each in a new session."""
    architecture, optimizer = small_architecture(), build_optimizer(0.001)
    config = training_db.model_config(
        architecture, data.SHAPE, len(data.CLASSES), "uint8", {"batch_size": 128, "seed": 1}, optimizer, 1
    )
    rounds = min(rounds, MOST_ROUNDS)
    with (
        stored.training_rows("benchmark few", ROWS, ROWS_PER_BLOCK),
        stored.training_rows("benchmark many", TIMES * ROWS, ROWS_PER_BLOCK),
    ):
        ways = {name: lambda name=name: _after_epoch(f"benchmark {name}", config) for name in ("few", "many")}
        kibibytes = interleave(rounds, ways)
    few, many = statistics.median(kibibytes["few"]), statistics.median(kibibytes["many"])
    change = many / few - 1
    return [
        Figure(
            f"Memory of the training backend after {TIMES * ROWS:,} rows",
            f"{100 * change:+.1f} %",
            f"the same after {ROWS:,} rows",
            f"within ±{100 * GOAL:.0f} %",
            "yes" if abs(change) <= GOAL else "no",
            rounds,
            f"RssAnon {many / 1024:.0f} against {few / 1024:.0f} MiB; each epoch in a new session",
        )
    ]


def _after_epoch(dataset: str, config: str) -> float:
    """Return the backend's RssAnon in KiB after one epoch."""
    connection = connect("trainer")
    try:
        with connection:
            training_db.prepare_session(connection, greenplum=False)
            training_db.fit(connection, dataset, b"", config, 0)
        return anonymous_memory(connection.info.backend_pid)
    finally:
        connection.close()
