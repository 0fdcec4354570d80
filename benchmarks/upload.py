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
    """Return rows/s of the project's upload in parts of psql's, and what the steps around the COPY take."""
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
        taken = interleave(rounds, ways)
    return _figures(taken)


def _into_database(packed: PackedDataset, way: Callable[[], None]) -> float:
    """Return the seconds of one way to upload; what it wrote is taken away again."""
    taken = seconds(way)
    stored.remove(packed.dataset)
    stored.vacuum()
    return taken


def _upload(packed: PackedDataset) -> None:
    """Do what the step upload_dataset does once the data set is packed: blocks, COPY, description, commit.

    The statistics in the description are left out: they are measured alone.
    """
    trainer = session("trainer")
    without = unittest.mock.patch.object(mini_batches, "training_statistics", return_value={})
    with without, trainer:
        mini_batches.upload(trainer, packed, SEED)


def _psql(file: pathlib.Path) -> None:
    """Copy the finished blocks with psql, over the same address and TLS settings."""
    found = binding("trainer")
    copy = (
        in_schema("\\copy {schema}.dataset_batch (dataset, split, batch_id, row_count, features, labels) ")
        + f"from '{file}' (format binary)"
    )
    address = {
        "PGHOST": found.host,
        "PGPORT": found.port,
        "PGDATABASE": found.database,
        "PGUSER": found.username,
        "PGPASSWORD": found.password,
        "PGSSLMODE": found.sslmode or "prefer",
        "PGSSLROOTCERT": found.ca_file,
    }
    given = {name: value for name, value in address.items() if value}
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", copy], env={**os.environ, **given}, check=True)


def _figures(taken: dict[str, list[float]]) -> list[Figure]:
    """Return the ratio for the COPY, the same with splitting and hashing before it, and these parts alone."""
    median = {name: statistics.median(values) for name, values in taken.items()}
    whole = [sum(parts) for parts in zip(taken["pack"], taken["upload"], taken["statistics"], strict=True)]
    parts = (
        f"splitting and ordering {median['pack']:.2f} s, of which hashes of the rows {median['hashes']:.2f} s; "
        f"statistics {median['statistics']:.2f} s; blocks and COPY {median['upload']:.2f} s"
    )
    peer = "psql's raw COPY BINARY of finished blocks"
    return [
        speed(f"Upload of {ROWS:,} rows of 3 KB: blocks and COPY", taken["upload"], taken["psql"], peer, 0.90, ROWS),
        speed("Upload with splitting, hashes and statistics", whole, taken["psql"], peer, None, ROWS),
        Figure("Upload: what the parts take", parts, rounds=len(whole)),
    ]
