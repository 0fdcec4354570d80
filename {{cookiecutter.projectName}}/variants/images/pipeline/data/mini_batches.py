"""From a data set to packed mini-batch blocks: splits, order, hashes, and the COPY stream."""

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.data.splits import HOLDOUT_SHARE, SPLITS, VALIDATION_SHARE
from pipeline.errors import StepError
from pipeline.user_code import Dataset

SALT = b"split"
# As many parts of a row are compared with later rows; the inference database has the same number.
MOST_PARTS = 8


class Block(NamedTuple):
    """One row of dataset_batch."""

    split: str
    batch_id: int
    row_count: int
    features: bytes
    labels: bytes


class PackedDataset(NamedTuple):
    """A data set divided and ordered: row numbers a split, and its hashes (hexadecimal)."""

    data: Dataset
    rows: dict[str, np.ndarray]
    data_hash: str
    dataset: str
    rows_per_block: int


def row_digests(features: np.ndarray) -> np.ndarray:
    """Return a keyed 16-byte BLAKE2b of each row's bytes, as (n, 2) big-endian uint64."""
    flat = np.ascontiguousarray(features).reshape(len(features), -1).view(np.uint8)
    digests = b"".join(hashlib.blake2b(row, digest_size=16, key=SALT).digest() for row in flat)
    return np.frombuffer(digests, ">u8").reshape(-1, 2)


def split_rows(digests: np.ndarray) -> dict[str, np.ndarray]:
    """Return each split's row numbers. The row's own bytes decide: equal rows fall together, and neither
    a new seed nor new rows move an old one, so a holdout stays unseen for ever."""
    share = digests[:, 0] / 2.0**64
    holdout = share < HOLDOUT_SHARE
    validation = ~holdout & (share < HOLDOUT_SHARE + VALIDATION_SHARE)
    return {
        "train": np.flatnonzero(~holdout & ~validation),
        "validation": np.flatnonzero(validation),
        "holdout": np.flatnonzero(holdout),
    }


def pack(data: Dataset, seed: int, rows_per_block: int) -> PackedDataset:
    """Divide, order and hash a data set.

    Rows are brought into the order of their hashes first, so that the result does not depend on the order
    in which `load` returned them; the seed then orders the rows inside each split.
    Raises StepError when a class is missing in a split.
    """
    if rows_per_block < 1:
        raise StepError(f"rows_per_block is {rows_per_block}; allowed is 1 or more")
    digests = row_digests(data.features)
    order = np.lexsort((data.labels, digests[:, 1], digests[:, 0]))
    data_hash = _data_hash(data, digests[order], data.labels[order])
    rows = {name: order[np.isin(order, numbers)] for name, numbers in split_rows(digests).items()}
    _require_all_classes(data, rows)
    for number, name in enumerate(SPLITS):
        rows[name] = np.random.default_rng([seed, number]).permutation(rows[name])
    name = hashlib.sha256(f"{data_hash} {seed} {rows_per_block}".encode()).hexdigest()
    return PackedDataset(data, rows, data_hash, name, rows_per_block)


def _data_hash(data: Dataset, digests: np.ndarray, labels: np.ndarray) -> str:
    described = json.dumps([data.shape, str(data.features.dtype), data.classes])
    return hashlib.sha256(described.encode() + digests.tobytes() + labels.astype("<i4").tobytes()).hexdigest()


def _require_all_classes(data: Dataset, rows: dict[str, np.ndarray]) -> None:
    for split in SPLITS:
        missing = set(range(len(data.classes))) - set(data.labels[rows[split]].tolist())
        if missing:
            names = ", ".join(data.classes[number] for number in sorted(missing)[:5])
            raise StepError(
                f"dataset.py: the {split} split ({len(rows[split])} of {len(data.labels)} rows) has no row of "
                f"class {names}; every class needs rows in each split: give more rows of it"
            )


def blocks(packed: PackedDataset, batch_ids: Sequence[int] | None = None) -> Iterator[Block]:
    """Yield the blocks of every split in order; `batch_ids` replaces the numbers 0, 1, … of each split."""
    features = packed.data.features
    little_endian = features.dtype.newbyteorder("<")
    for split in SPLITS:
        rows = packed.rows[split]
        for number, start in enumerate(range(0, len(rows), packed.rows_per_block)):
            chosen = rows[start : start + packed.rows_per_block]
            yield Block(
                split,
                batch_ids[number] if batch_ids else number,
                len(chosen),
                features[chosen].astype(little_endian, copy=False).tobytes(),
                packed.data.labels[chosen].astype("<i4").tobytes(),
            )


def block_count(packed: PackedDataset) -> int:
    """Return the number of blocks of the largest split."""
    return max(-(-len(rows) // packed.rows_per_block) for rows in packed.rows.values())


def row_statistics(features: np.ndarray) -> np.ndarray:
    """Return (n, 2 + parts) float32: of each row the mean, the standard deviation and the means of up to 8 parts.

    row_statistics in the inference database computes the same of each row that it answers.
    """
    flat = np.ascontiguousarray(features).reshape(len(features), -1)
    parts = min(MOST_PARTS, flat.shape[1])
    starts = np.arange(parts) * flat.shape[1] // parts
    widths = np.diff([*starts, flat.shape[1]])
    found = np.empty((len(flat), 2 + parts), np.float32)
    for start in range(0, len(flat), 256):
        # Small parts stay in the processor's cache.
        rows = flat[start : start + 256].astype(np.float64)
        found[start : start + 256, 0] = rows.mean(axis=1)
        found[start : start + 256, 1] = rows.std(axis=1)
        found[start : start + 256, 2:] = np.add.reduceat(rows, starts, axis=1) / widths
    return found


def training_statistics(packed: PackedDataset) -> dict[str, object]:
    """Return what later data is compared with, from the training split alone.

    rows, rows a class, mean and standard deviation over all values, and of each statistic of a row (`inputs`) the
    edges of its tenths with the rows in each bin: a value belongs to the bin whose number is that of the edges that
    are not above it, as PostgreSQL's width_bucket says.
    """
    rows = packed.rows["train"]
    parts = (rows[start : start + 4096] for start in range(0, len(rows), 4096))
    found = np.concatenate([row_statistics(packed.data.features[part]) for part in parts])
    means, deviations = found[:, 0].astype(np.float64), found[:, 1].astype(np.float64)
    mean = float(means.mean())
    counts = np.bincount(packed.data.labels[rows], minlength=len(packed.data.classes))
    names = ["mean", "standard_deviation", *(f"part_{number}" for number in range(1, found.shape[1] - 1))]
    return {
        "rows": len(rows),
        "class_counts": counts.tolist(),
        "mean": mean,
        "standard_deviation": max(0.0, float((deviations**2 + means**2).mean()) - mean**2) ** 0.5,
        "inputs": [{"statistic": name, **_tenths(values)} for name, values in zip(names, found.T)],
    }


def _tenths(values: np.ndarray) -> dict[str, list[float]]:
    """Return the edges of the values' tenths, without repetitions, and how many values lie in each bin."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10).astype(np.float32))
    bins = np.searchsorted(edges, values, side="right")
    return {"edges": edges.tolist(), "counts": np.bincount(bins, minlength=len(edges) + 1).tolist()}


class CopyStream(io.RawIOBase):
    """Rows of dataset_batch in PostgreSQL's binary COPY format, made while they are read."""

    def __init__(self, dataset: str, rows: Iterable[Block]):
        self._chunks = self._encode(dataset.encode(), rows)
        self._rest = memoryview(b"")

    @staticmethod
    def _encode(dataset: bytes, rows: Iterable[Block]) -> Iterator[bytes]:
        yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
        for row in rows:
            split = row.split.encode()
            yield struct.pack(
                f">hi{len(dataset)}si{len(split)}siiiii",
                6, len(dataset), dataset, len(split), split, 4, row.batch_id, 4, row.row_count, len(row.features),
            )  # fmt: skip
            yield row.features
            yield struct.pack(">i", len(row.labels))
            yield row.labels
        yield struct.pack(">h", -1)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Fill the buffer with the next bytes; 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
