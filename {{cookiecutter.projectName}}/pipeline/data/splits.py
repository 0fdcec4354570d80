"""The three splits, and on which of Greenplum's segments their blocks lie."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.databases import binding, query

SPLITS = ("train", "validation", "holdout")
# Share of the hash space that is validation, and holdout; changing either moves rows across the fence.
VALIDATION_SHARE = 0.1
HOLDOUT_SHARE = 0.1


class Described(NamedTuple):
    """What a model is built for: the shape of one row and the classes' names."""

    shape: tuple[int, ...]
    classes: list[str]


class Packed(NamedTuple):
    """What lies in dataset_batch now: rows a split, rows that people labelled (used, not used), whether it is new."""

    data_hash: str
    counts: dict[str, int]
    labelled: int
    unused: int
    new: bool


class Unseen(NamedTuple):
    """A row of the holdout as the inference database takes it, with its SQL type, true class, and what it is."""

    value: Any
    type: str
    label: str
    what: str


def batch_ids(connection: Any, count: int) -> list[int] | None:
    """Return batch ids that spread `count` blocks evenly over Greenplum's segments; None on PostgreSQL."""
    if not binding("trainer").is_greenplum:
        return None
    segments = query(connection, "SELECT count(*) FROM gp_segment_configuration WHERE role = 'p' AND content >= 0")[0][
        0
    ]
    candidates = 4 * count + 64 * segments
    query(connection, "CREATE TEMP TABLE placement (batch_id int) ON COMMIT DROP DISTRIBUTED BY (batch_id)")
    query(connection, "INSERT INTO placement SELECT generate_series(0, %s)", (candidates - 1,))
    placed = query(connection, "SELECT gp_segment_id FROM placement ORDER BY batch_id")
    return balanced_batch_ids(count, [segment for (segment,) in placed])


def balanced_batch_ids(count: int, segments: Sequence[int]) -> list[int]:
    """Choose `count` batch ids so that consecutive blocks go round the segments.

    `segments[i]` is the segment on which the database places batch id i. A hash alone would give some
    segment more blocks than another, and an epoch lasts as long as the fullest one.
    Raises ValueError when `segments` is too short to choose from.
    """
    waiting: dict[int, list[int]] = {}
    for batch_id in reversed(range(len(segments))):
        waiting.setdefault(segments[batch_id], []).append(batch_id)
    order = sorted(waiting)
    if any(len(ids) < -(-count // len(order)) for ids in waiting.values()):
        raise ValueError(f"{len(segments)} batch ids are too few to choose {count} from")
    return [waiting[order[number % len(order)]].pop() for number in range(count)]
