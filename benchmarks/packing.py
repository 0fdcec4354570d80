"""Packing a table inside the database, against COPY out, pandas and COPY in; and the memory it takes.

Runs in a project that trains on a table. $BENCHMARK_TABLE_ROWS (1,000,000) is the size of the table.
"""

import contextlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from pipeline.data import source
from pipeline.databases import binding, connect, in_schema, query, session
from pipeline.steps import deploy_training_db

from benchmarks import copy_format
from benchmarks.figures import Figure, interleave, seconds, speed
from benchmarks.processes import anonymous_memory, session_memory

ROWS = int(os.environ.get("BENCHMARK_TABLE_ROWS", "1000000"))
FEW = ROWS // 10
ROWS_PER_BLOCK = 512
SEED = 1
GOAL = 3.0
MOST_GROWTH = 0.10
# A round takes half a minute.
MOST_ROUNDS = 3
# The table in the project's project.yaml.
TABLE = "public.benchmark_rows"
NUMBERS = [f"number_{number}" for number in range(18)]
CITIES = ("Aarau", "Basel", "Bern", "Chur", "Genf")
CLASSES = ("a", "b", "c")
MAKE = f"""
CREATE TABLE {TABLE} AS
SELECT
    i AS id, {
    ", ".join(
        f"(hashint8extended(i, {n}) / 2^63 * {n + 1} + i %% 3)::float8 AS {name}" for n, name in enumerate(NUMBERS)
    )
},
    hashint8extended(i, 99) > 0 AS flag,
    ('{{{",".join(CITIES)}}}'::text[])[1 + abs(hashint8extended(i, 98) %% {len(CITIES)})] AS city,
    ('{{{",".join(CLASSES)}}}'::text[])[1 + i %% 3] AS diagnosis
FROM generate_series(1, %s) AS i
"""


def measure(rounds: int) -> list[Figure]:
    """Return rows/s relative to the peer, and the growth of memory from a tenth of the rows to all."""
    rounds = min(rounds, MOST_ROUNDS)
    with _table(ROWS):
        deploy_training_db.run()
        ways: dict[str, Callable[[], float]] = {
            "export": lambda: _time_and_delete(_export),
            "ours": lambda: _time_and_delete(_pack),
        }
        durations = interleave(rounds, ways)
        many = _peaks()
    with _table(FEW):
        few = _peaks()
    rows = f"Packing {ROWS:,} rows of {len(NUMBERS)} numbers, a boolean and a text, inside the database"
    return [
        speed(rows, durations["ours"], durations["export"], "COPY out as CSV, pandas, binary COPY in", GOAL, ROWS),
        *(_growth(place, few[place], many[place]) for place in few),
    ]


def _growth(place: str, few: float, many: float) -> Figure:
    change = many / few - 1
    return Figure(
        f"Memory of the {place} while {ROWS:,} rows are packed",
        f"{100 * change:+.1f} %",
        f"the same for {FEW:,} rows",
        f"≤ +{100 * MOST_GROWTH:.0f} %",
        "yes" if change <= MOST_GROWTH else "no",
        1,
        f"largest RssAnon {many / 1024:.0f} against {few / 1024:.0f} MiB",
    )


@contextlib.contextmanager
def _table(rows: int) -> Iterator[None]:
    """Keep the table with this many rows for a block."""
    deployer = session("training-deployer")
    with deployer:
        query(deployer, f"DROP TABLE IF EXISTS {TABLE}")
        query(deployer, MAKE, (rows,))
        query(deployer, f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id)")
        # The memory of a worker does not depend on the rows, so the smaller table gets as many workers.
        query(deployer, f"ALTER TABLE {TABLE} SET (parallel_workers = 2)")
        query(deployer, f'GRANT SELECT ON {TABLE} TO "{binding("trainer").username}"')
    _settle()
    yield
    with deployer:
        query(deployer, f"DROP TABLE {TABLE}")


def _settle() -> None:
    """Vacuum and write a checkpoint, so that every round starts from the same state."""
    deployer = session("training-deployer")
    deployer.autocommit = True
    for statement in (f"VACUUM ANALYZE {TABLE}", "CHECKPOINT"):
        query(deployer, statement)
    deployer.autocommit = False


def _time_and_delete(way: Callable[[Any], None]) -> float:
    """Return the seconds of one way with its commit, and delete its rows."""
    trainer = session("trainer")

    def work() -> None:
        with trainer:
            way(trainer)

    duration = seconds(work)
    deployer = session("training-deployer")
    with deployer:
        for table in ("dataset_batch", "dataset"):
            query(deployer, "DELETE FROM {schema}." + table)
    _settle()
    return duration


def _pack(trainer: Any) -> None:
    source.pack(trainer, SEED, ROWS_PER_BLOCK)


def _export(trainer: Any) -> None:
    """Do the same in the client: export all rows, split by a hash of the key, scale, pack, import all blocks."""
    copied = io.BytesIO()
    with trainer.cursor() as cursor:
        cursor.copy_expert(f"COPY (SELECT * FROM {TABLE}) TO STDOUT (FORMAT csv, HEADER)", copied, size=1 << 20)
    copied.seek(0)
    frame = pd.read_csv(copied, true_values=["t"], false_values=["f"])
    split = pd.util.hash_pandas_object(frame["id"], index=False).to_numpy() / 2.0**64
    parts = {"holdout": split < 0.1, "validation": (split >= 0.1) & (split < 0.2), "train": split >= 0.2}
    labels = pd.Categorical(frame["diagnosis"], categories=CLASSES).codes
    scaled = frame[[*NUMBERS, "flag"]].astype("float64")
    train = scaled[parts["train"]]
    scaled = (scaled - train.mean()) / train.std(ddof=0)
    tenths = [np.quantile(train[name], np.arange(1, 10) / 10) for name in NUMBERS]
    features = pd.concat([scaled, pd.get_dummies(frame["city"])], axis=1).to_numpy("<f4")
    blocks = copy_format.write(_blocks(features, labels, parts))
    with trainer.cursor() as cursor:
        cursor.copy_expert(
            in_schema(
                "COPY {schema}.dataset_batch (dataset, split, batch_id, row_count, features, labels) "
                "FROM STDIN (FORMAT binary)"
            ),
            io.BytesIO(blocks),
            size=1 << 20,
        )
    query(trainer, "SELECT %s", (json.dumps([edges.tolist() for edges in tenths]),))


def _blocks(features: np.ndarray, labels: np.ndarray, parts: dict[str, np.ndarray]) -> Iterator[tuple[bytes, ...]]:
    random = np.random.default_rng(SEED)
    for split, chosen in parts.items():
        order = random.permutation(np.flatnonzero(chosen))
        for number, start in enumerate(range(0, len(order), ROWS_PER_BLOCK)):
            rows = order[start : start + ROWS_PER_BLOCK]
            counts = [value.to_bytes(4, "big") for value in (number, len(rows))]
            yield b"export", split.encode(), *counts, features[rows].tobytes(), labels[rows].astype("<i4").tobytes()


def _peaks() -> dict[str, float]:
    """Return the largest RssAnon in KiB of backend and client while a new session packs the table.

    The backend's includes its parallel workers.
    """
    trainer = connect("trainer")
    backend = trainer.info.backend_pid
    watched: dict[str, Callable[[], float]] = {
        "backend": lambda: session_memory(backend),
        "client": lambda: anonymous_memory(os.getpid()),
    }
    peaks = dict.fromkeys(watched, 0.0)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for place, memory in watched.items():
                peaks[place] = max(peaks[place], memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        _pack(trainer)
    finally:
        stop.set()
        thread.join()
        trainer.rollback()
        trainer.close()
    return peaks
