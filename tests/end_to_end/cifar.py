"""Synthetic pictures in the file format of CIFAR-10."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

ARCHIVE = "cifar-10-batches-py-target_archive"
# Keras reads exactly 50,000 rows of training data, and any number of test data.
BATCHES = {**{f"data_batch_{number}": 10000 for number in range(1, 6)}, "test_batch": 200}


def write_cifar10(keras_home: Path) -> None:
    """Write the archive that `keras.datasets.cifar10` would download into `keras_home`."""
    folder = keras_home / "datasets"
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    with tarfile.open(folder / ARCHIVE, "w") as archive:
        for name, rows in BATCHES.items():
            add(archive, f"cifar-10-batches-py/{name}", batch(random, rows))


def batch(random: np.random.Generator, rows: int) -> bytes:
    """Return a pickled batch: rows of 3,072 bytes (red, green, blue), whose brightness depends on the class."""
    labels = random.integers(0, 10, rows)
    data = (labels[:, np.newaxis] * 20 + random.integers(0, 40, (rows, 3072), dtype=np.uint8)).astype(np.uint8)
    return pickle.dumps({b"data": data, b"labels": labels.tolist()}, protocol=4)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one file to an archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
