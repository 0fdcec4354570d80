"""The splits, and the segments of Greenplum on which their blocks lie."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from pipeline.databases import binding, query

SPLITS = ("train", "validation", "holdout")
# Labelled rows that no training sees. They may veto a promotion; the splits above but `train` hold none.
FEEDBACK = "feedback"
# Shares of the hash space. Changing one moves rows between the splits.
VALIDATION_SHARE = 0.1
HOLDOUT_SHARE = 0.1


class DataSpec(NamedTuple):
    """The shape, dtype and values of one row and the names of the classes, for which a model is built and checked."""

    shape: tuple[int, ...]
    classes: list[str]
    dtype: str
    value_range: tuple[float, float]


class PackResult(NamedTuple):
    """The contents of dataset_batch: row counts per split, and how many labelled rows are used and not used.

    `is_new` is false when the database held the data set already.
    """

    data_hash: str
    row_counts: dict[str, int]
    labelled: int
    unused: int
    is_new: bool


class HoldoutRow(NamedTuple):
    """A row of the holdout: its value and SQL type for the inference database, its true class, and what it is."""

    value: bytes | Json
    sql_type: str
    label: str
    description: str


def segment_count(connection: Connection) -> int:
    """Return the number of Greenplum's segments; 1 on PostgreSQL."""
    if not binding("trainer").is_greenplum:
        return 1
    statement = "SELECT count(*) FROM gp_segment_configuration WHERE role = 'p' AND content >= 0"
    return int(query(connection, statement)[0][0])


def block_count(rows: int, rows_per_block: int, segments: int) -> int:
    """Return the number of blocks of a split with at most `rows_per_block` rows each.

    It is a multiple of the segments, so that each segment trains on the same number of rows; with fewer rows than
    that, each row is a block.
    """
    full_blocks = -(-rows // rows_per_block)
    return min(rows, -(-full_blocks // segments) * segments)


def batch_ids(connection: Connection, count: int, segments: int) -> list[int] | None:
    """Return batch ids that spread `count` blocks evenly over Greenplum's segments; None for a single segment."""
    if segments == 1:
        return None
    candidates = 4 * count + 64 * segments
    query(connection, "CREATE TEMP TABLE placement (batch_id int) ON COMMIT DROP DISTRIBUTED BY (batch_id)")
    query(connection, "INSERT INTO placement SELECT generate_series(0, %s)", (candidates - 1,))
    rows = query(connection, "SELECT gp_segment_id FROM placement ORDER BY batch_id")
    return balanced_batch_ids(count, [segment for (segment,) in rows])


def balanced_batch_ids(count: int, segments: Sequence[int]) -> list[int]:
    """Choose `count` batch ids so that consecutive blocks lie on the segments in turn.

    `segments[i]` is the segment on which the database places batch id i. A hash alone would give some segments more
    blocks than others, and an epoch lasts as long as the fullest segment.
    Raises ValueError when `segments` is too short to choose from.
    """
    ids_by_segment: dict[int, list[int]] = {}
    for batch_id in reversed(range(len(segments))):
        ids_by_segment.setdefault(segments[batch_id], []).append(batch_id)
    order = sorted(ids_by_segment)
    if any(len(ids) < -(-count // len(order)) for ids in ids_by_segment.values()):
        raise ValueError(f"{len(segments)} batch ids are too few to choose {count} from")
    return [ids_by_segment[order[number % len(order)]].pop() for number in range(count)]
