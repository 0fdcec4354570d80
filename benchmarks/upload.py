"""Upload of a data set, against psql's raw COPY of finished blocks."""

import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import unittest.mock
from collections.abc import Callable

from pipeline.data import mini_batches
from pipeline.data.mini_batches import PackedDataset
from pipeline.databases import binding, in_schema, session
from pipeline.user_code import Dataset

from benchmarks import data, stored
from benchmarks.figures import Figure, interleave, seconds, speed

ROWS = 50_000
ROWS_PER_BLOCK = 512
SEED = 1


def measure(rounds: int) -> list[Figure]:
    """Return rows/s of the project's upload relative to psql's, and the seconds of the steps around the COPY."""
    features, labels = data.images(ROWS)
    dataset = Dataset(features, labels, data.CLASSES)
    packed = mini_batches.pack(dataset, SEED, ROWS_PER_BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "blocks"
        with file.open("wb") as target:
            shutil.copyfileobj(mini_batches.CopyStream(packed.dataset, mini_batches.blocks(packed)), target, 1 << 20)
        ways = {
            "psql": lambda: _into_database(packed, lambda: _psql(file)),
            "upload": lambda: _into_database(packed, lambda: _upload(packed)),
            "pack": lambda: seconds(lambda: mini_batches.pack(dataset, SEED, ROWS_PER_BLOCK)),
            "hashes": lambda: seconds(lambda: mini_batches.row_digests(features)),
            "statistics": lambda: seconds(lambda: mini_batches.training_statistics(packed)),
        }
        _into_database(packed, lambda: _upload(packed))
        durations = interleave(rounds, ways)
    return _figures(durations)


def _into_database(packed: PackedDataset, way: Callable[[], None]) -> float:
    """Return the seconds of one way to upload, and delete its rows."""
    duration = seconds(way)
    stored.remove(packed.dataset)
    stored.vacuum()
    return duration


def _upload(packed: PackedDataset) -> None:
    """Upload as the step upload_dataset does after packing: blocks, COPY, description, commit.

    The statistics in the description are left out, because they are measured separately.
    """
    trainer = session("trainer")
    without = unittest.mock.patch.object(mini_batches, "training_statistics", return_value={})
    with without, trainer:
        mini_batches.upload(trainer, packed, SEED)


def _psql(file: pathlib.Path) -> None:
    """Copy the finished blocks with psql, with the same address and TLS settings."""
    connection = binding("trainer")
    copy = (
        in_schema("\\copy {schema}.dataset_batch (dataset, split, batch_id, row_count, features, labels) ")
        + f"from '{file}' (format binary)"
    )
    address = {
        "PGHOST": connection.host,
        "PGPORT": connection.port,
        "PGDATABASE": connection.database,
        "PGUSER": connection.username,
        "PGPASSWORD": connection.password,
        "PGSSLMODE": connection.sslmode or "prefer",
        "PGSSLROOTCERT": connection.ca_file,
    }
    environment = {name: value for name, value in address.items() if value}
    subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", copy], env={**os.environ, **environment}, check=True
    )


def _figures(durations: dict[str, list[float]]) -> list[Figure]:
    """Return the ratio for the COPY, the ratio with splitting and hashing, and the seconds of the parts."""
    median = {name: statistics.median(values) for name, values in durations.items()}
    whole = [sum(parts) for parts in zip(durations["pack"], durations["upload"], durations["statistics"], strict=True)]
    parts = (
        f"splitting and ordering {median['pack']:.2f} s, of which hashes of the rows {median['hashes']:.2f} s; "
        f"statistics {median['statistics']:.2f} s; blocks and COPY {median['upload']:.2f} s"
    )
    peer = "psql's raw COPY BINARY of finished blocks"
    return [
        speed(
            f"Upload of {ROWS:,} rows of 3 KB: blocks and COPY",
            durations["upload"],
            durations["psql"],
            peer,
            0.90,
            ROWS,
        ),
        speed("Upload with splitting, hashes and statistics", whole, durations["psql"], peer, None, ROWS),
        Figure("Upload: seconds of its parts", parts, rounds=len(whole)),
    ]
