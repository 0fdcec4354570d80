"""Packing of a data set into blocks of mini-batches: splits, order, hashes, and the COPY stream."""

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg2.extensions import connection as Connection

from app.images import BYTES, row_statistics, statistic_names
from pipeline.data import description, splits
from pipeline.data.splits import FEEDBACK, HOLDOUT_SHARE, SPLITS, VALIDATION_SHARE
from pipeline.databases import in_schema
from pipeline.errors import StepError
from pipeline.records import InputStatistics, PixelFormat, TrainingStatistics
from pipeline.user_code import Dataset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SALT = b"split"
ROWS_PER_STATISTICS = 4096
COPY_BUFFER_BYTES = 1 << 20


class Block(NamedTuple):
    """One row of dataset_batch."""

    split: str
    batch_id: int
    row_count: int
    features: bytes
    labels: bytes


class PackedDataset(NamedTuple):
    """A data set divided and ordered: row numbers per split, and its hashes (hexadecimal)."""

    data: Dataset
    pixels: PixelFormat
    rows: dict[str, npt.NDArray[np.int64]]
    data_hash: str
    dataset: str
    rows_per_block: int

    @property
    def row_counts(self) -> dict[str, int]:
        """Row counts per split."""
        return {split: len(rows) for split, rows in self.rows.items()}


def row_digests(features: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a keyed 16-byte BLAKE2b per row, of its bytes, as (n, 2) big-endian uint64."""
    flat = np.ascontiguousarray(features).reshape(len(features), -1).view(np.uint8)
    digests = b"".join(hashlib.blake2b(row.data, digest_size=16, key=SALT).digest() for row in flat)
    return np.frombuffer(digests, ">u8").reshape(-1, 2)


def split_rows(digests: npt.NDArray[np.uint64]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the row numbers per split, from the digests of `row_digests`.

    The row's own bytes decide: equal rows share a split, and neither a new seed nor new rows move an old row, so a
    holdout stays unseen for ever.
    """
    share = digests[:, 0] / 2.0**64
    holdout = share < HOLDOUT_SHARE
    validation = ~holdout & (share < HOLDOUT_SHARE + VALIDATION_SHARE)
    return {
        "train": np.flatnonzero(~holdout & ~validation),
        "validation": np.flatnonzero(validation),
        "holdout": np.flatnonzero(holdout),
    }


def pack(
    data: Dataset, seed: int, rows_per_block: int, pixels: PixelFormat = BYTES, labelled: int = 0
) -> PackedDataset:
    """Divide, order and hash a data set whose last `labelled` rows come from feedback.

    Rows are sorted by their hashes first, so that the result does not depend on the order in which `load` returned
    them; the seed then orders the rows inside each split. Labelled rows that are not in `train` form a split of their
    own. Raises StepError when a class is missing in a split.
    """
    if rows_per_block < 1:
        raise StepError(f"rows_per_block is {rows_per_block}; allowed is 1 or more")
    digests = row_digests(data.features)
    order = np.lexsort((data.labels, digests[:, 1], digests[:, 0]))
    is_labelled = np.arange(len(data.labels)) >= len(data.labels) - labelled
    data_hash = _data_hash(data, pixels, digests[order], data.labels[order], is_labelled[order])
    rows = {name: order[np.isin(order, numbers)] for name, numbers in _rows_by_split(digests, is_labelled).items()}
    _require_all_classes(data, rows)
    for number, (name, numbers) in enumerate(rows.items()):
        rows[name] = np.random.default_rng([seed, number]).permutation(numbers)
    name = hashlib.sha256(f"{data_hash} {seed} {rows_per_block}".encode()).hexdigest()
    return PackedDataset(data, pixels, rows, data_hash, name, rows_per_block)


def _rows_by_split(
    digests: npt.NDArray[np.uint64], is_labelled: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the row numbers per split, with those of the labelled rows that are not in `train`, if there are any."""
    rows = split_rows(digests)
    own = {name: numbers if name == "train" else numbers[~is_labelled[numbers]] for name, numbers in rows.items()}
    feedback = np.concatenate([numbers[is_labelled[numbers]] for name, numbers in rows.items() if name != "train"])
    return {**own, FEEDBACK: feedback} if len(feedback) else own


def _data_hash(
    data: Dataset,
    pixels: PixelFormat,
    digests: npt.NDArray[np.uint64],
    labels: npt.NDArray[np.int32],
    is_labelled: npt.NDArray[np.bool_],
) -> str:
    # Other values of black and white make another data set, though its rows are the same. So do other labelled rows.
    contract = [pixels] if (pixels["minimum"], pixels["maximum"], pixels["channels"]) != (0, 255, "RGB") else []
    form = json.dumps([data.shape, str(data.features.dtype), data.classes, *contract])
    content = form.encode() + digests.tobytes() + labels.astype("<i4").tobytes()
    return hashlib.sha256(content + digests[is_labelled].tobytes()).hexdigest()


def _require_all_classes(data: Dataset, rows: dict[str, npt.NDArray[np.int64]]) -> None:
    for split in SPLITS:
        missing = set(range(len(data.classes))) - set(data.labels[rows[split]].tolist())
        if missing:
            names = ", ".join(data.classes[number] for number in sorted(missing)[:5])
            raise StepError(
                f"dataset.py: the {split} split ({len(rows[split])} of {len(data.labels)} rows) has no row of "
                f"class {names}; every class needs rows in each split: give more rows of it"
            )


def blocks(packed: PackedDataset, batch_ids: Sequence[int] | None = None, segments: int = 1) -> Iterator[Block]:
    """Yield the blocks of every split in order; `batch_ids` replaces the numbers 0, 1, … in each split.

    On several segments, the blocks of a split differ by at most one row; on one, all but the last are full.
    """
    features = packed.data.features
    little_endian = features.dtype.newbyteorder("<")
    for split in packed.rows:
        for number, block_rows in enumerate(_rows_by_block(packed.rows[split], packed.rows_per_block, segments)):
            yield Block(
                split,
                batch_ids[number] if batch_ids else number,
                len(block_rows),
                features[block_rows].astype(little_endian, copy=False).tobytes(),
                packed.data.labels[block_rows].astype("<i4").tobytes(),
            )


def _rows_by_block(rows: npt.NDArray[np.int64], rows_per_block: int, segments: int) -> list[npt.NDArray[np.int64]]:
    """Return the row numbers of a split per block."""
    if segments == 1:
        return [rows[start : start + rows_per_block] for start in range(0, len(rows), rows_per_block)]
    return np.array_split(rows, splits.block_count(len(rows), rows_per_block, segments))


def upload(connection: Connection, packed: PackedDataset, seed: int, prediction_ids: Sequence[str] = ()) -> None:
    """Copy the blocks and then their description into the training database; the caller commits.

    `prediction_ids` names the labelled rows.
    """
    segments = splits.segment_count(connection)
    most_blocks = max(splits.block_count(len(rows), packed.rows_per_block, segments) for rows in packed.rows.values())
    batch_ids = splits.batch_ids(connection, most_blocks, segments)
    stream = CopyStream(packed.dataset, blocks(packed, batch_ids, segments))
    with connection.cursor() as cursor:
        cursor.copy_expert(
            in_schema(
                "COPY {schema}.dataset_batch (dataset, split, batch_id, row_count, features, labels) "
                "FROM STDIN (FORMAT binary)"
            ),
            io.BufferedReader(stream, COPY_BUFFER_BYTES),
            size=COPY_BUFFER_BYTES,
        )
    description.store(
        connection,
        {
            "dataset": packed.dataset,
            "data_hash": packed.data_hash,
            "seed": seed,
            "rows_per_block": packed.rows_per_block,
            "shape": ",".join(map(str, packed.data.shape)),
            "dtype": str(packed.data.features.dtype),
            "classes": json.dumps(packed.data.classes),
            "split_rows": json.dumps(packed.row_counts),
            "training_statistics": json.dumps(training_statistics(packed)),
        },
    )
    description.store_labelled(connection, packed.dataset, prediction_ids)


def training_statistics(packed: PackedDataset) -> TrainingStatistics:
    """Return the statistics of the training split, which later rows are compared with.

    Mean and standard deviation are over all values of all rows; `inputs` has the statistics of a row. The number of a
    value's bin is the number of edges that are not above it, as in PostgreSQL's width_bucket.
    """
    rows = packed.rows["train"]
    chunks = (rows[start : start + ROWS_PER_STATISTICS] for start in range(0, len(rows), ROWS_PER_STATISTICS))
    statistics = np.concatenate([row_statistics(packed.data.features[chunk]) for chunk in chunks])
    means, deviations = statistics[:, 0].astype(np.float64), statistics[:, 1].astype(np.float64)
    mean = float(means.mean())
    counts = np.bincount(packed.data.labels[rows], minlength=len(packed.data.classes))
    names = statistic_names(statistics.shape[1])
    return {
        "rows": len(rows),
        "class_counts": counts.tolist(),
        "mean": mean,
        "standard_deviation": max(0.0, float((deviations**2 + means**2).mean()) - mean**2) ** 0.5,
        "inputs": [_tenths(name, values) for name, values in zip(names, statistics.T)],
        "pixels": packed.pixels,
    }


def _tenths(name: str, values: npt.NDArray[np.float32]) -> InputStatistics:
    """Return the edges of the values' tenths, without repetitions, the number of values per bin, and the extremes."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10).astype(np.float32))
    bins = np.searchsorted(edges, values, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1).tolist()
    low, high = float(values.min()), float(values.max())
    return InputStatistics(statistic=name, edges=edges.tolist(), counts=counts, minimum=low, maximum=high)


class CopyStream(io.RawIOBase):
    """Rows of dataset_batch in PostgreSQL's binary COPY format, encoded while they are read."""

    def __init__(self, dataset: str, rows: Iterable[Block]):
        self._chunks = self._encode(dataset.encode(), rows)
        self._unread = memoryview(b"")

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
        """Return true: the stream can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer with the next bytes, and return how many; 0 at the end."""
        target = memoryview(buffer).cast("B")
        while not self._unread:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._unread = memoryview(chunk)
        size = min(len(target), len(self._unread))
        target[:size] = self._unread[:size]
        self._unread = self._unread[size:]
        return size
