"""Blocks go evenly over the segments."""

import pytest

from pipeline.data import splits


def hash_of(number: int) -> int:
    return number * 2654435761 % 2**32 >> 7


def test_batch_ids_go_round_the_segments() -> None:
    segments = [hash_of(batch_id) % 3 for batch_id in range(200)]
    chosen = splits.balanced_batch_ids(31, segments)
    assert len(set(chosen)) == 31
    per_segment = [sum(segments[batch_id] == segment for batch_id in chosen) for segment in range(3)]
    assert max(per_segment) - min(per_segment) <= 1


def test_too_few_batch_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        splits.balanced_batch_ids(10, [0, 0, 0, 1])


@pytest.mark.parametrize(
    ("rows", "rows_per_block", "segments", "blocks"),
    [(451, 512, 1, 1), (1478, 512, 1, 3), (451, 512, 2, 2), (1478, 512, 2, 4), (800, 512, 200, 200), (3, 512, 8, 3)],
)
def test_every_segment_gets_as_many_blocks(rows: int, rows_per_block: int, segments: int, blocks: int) -> None:
    assert splits.block_count(rows, rows_per_block, segments) == blocks
