"""A row decides its split, the seed decides the order, and COPY gets the blocks that were packed."""

import io
import struct

import numpy as np
import pytest

from app import images
from pipeline.data import mini_batches
from pipeline.errors import StepError
from pipeline.user_code import Dataset


@pytest.fixture(name="data")
def _data() -> Dataset:
    random = np.random.default_rng(7)
    features = random.integers(0, 256, (600, 4, 4, 1), np.uint8)
    return Dataset(features, random.integers(0, 2, 600).astype("<i4"), ["a", "b"])


def packed_bytes(data: Dataset, seed: int = 1) -> list[tuple]:
    return list(mini_batches.blocks(mini_batches.pack(data, seed, 64)))


def test_the_same_seed_and_data_give_the_same_bytes(data) -> None:
    order = np.random.default_rng(1).permutation(600)
    shuffled = Dataset(data.features[order], data.labels[order], data.classes)
    assert packed_bytes(data) == packed_bytes(shuffled)


def test_a_seed_moves_no_row_to_another_split(data) -> None:
    first, second = mini_batches.pack(data, 1, 64), mini_batches.pack(data, 2, 64)
    assert first.data_hash == second.data_hash
    assert first.dataset != second.dataset
    for split in mini_batches.SPLITS:
        assert set(first.rows[split]) == set(second.rows[split])
        assert first.rows[split].tolist() != second.rows[split].tolist()


def test_new_rows_move_no_old_row(data) -> None:
    old = mini_batches.split_rows(mini_batches.row_digests(data.features[:500]))
    new = mini_batches.split_rows(mini_batches.row_digests(data.features))
    for split in mini_batches.SPLITS:
        assert old[split].tolist() == [row for row in new[split] if row < 500]


def test_labelled_rows_that_are_not_trained_on_form_a_split(data) -> None:
    """The other splits but `train` hold the rows of dataset.py alone; the same rows without feedback are other data."""
    own = mini_batches.pack(Dataset(data.features[:500], data.labels[:500], data.classes), 1, 64)
    packed = mini_batches.pack(data, 1, 64, labelled=100)
    assert set(packed.rows) == {*mini_batches.SPLITS, "feedback"}
    for split in ("validation", "holdout"):
        assert sorted(packed.rows[split]) == sorted(own.rows[split])
    labelled = np.concatenate([packed.rows["train"][packed.rows["train"] >= 500], packed.rows["feedback"]])
    assert sorted(labelled) == list(range(500, 600))
    assert {block.split for block in mini_batches.blocks(packed)} == set(packed.rows)
    assert packed.data_hash != mini_batches.pack(data, 1, 64).data_hash


def test_equal_rows_share_a_split(data) -> None:
    twice = np.concatenate([data.features, data.features])
    for rows in mini_batches.split_rows(mini_batches.row_digests(twice)).values():
        assert {row % 600 for row in rows if row < 600} == {row % 600 for row in rows if row >= 600}


def test_shares_are_about_a_tenth() -> None:
    features = np.arange(20_000, dtype="<i8").view(np.uint8).reshape(20_000, 8)
    rows = mini_batches.split_rows(mini_batches.row_digests(features))
    assert len(rows["holdout"]) / 20_000 == pytest.approx(0.1, abs=0.01)
    assert len(rows["validation"]) / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_class_that_is_missing_in_a_split_is_named(data) -> None:
    labels = np.zeros(600, "<i4")
    labels[:2] = 1
    with pytest.raises(StepError, match="has no row of class b"):
        mini_batches.pack(Dataset(data.features, labels, data.classes), 1, 64)


def test_a_label_changes_the_hash(data) -> None:
    labels = data.labels.copy()
    labels[0] = 1 - labels[0]
    changed = Dataset(data.features, labels, data.classes)
    assert mini_batches.pack(changed, 1, 64).data_hash != mini_batches.pack(data, 1, 64).data_hash


def test_copy_gets_the_packed_blocks(data) -> None:
    packed = mini_batches.pack(data, 1, 64)
    stream = io.BufferedReader(mini_batches.CopyStream(packed.dataset, mini_batches.blocks(packed)), 100)
    assert stream.read(19) == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for block in mini_batches.blocks(packed):
        assert struct.unpack(">h", stream.read(2)) == (6,)
        fields = [stream.read(struct.unpack(">i", stream.read(4))[0]) for _ in range(6)]
        assert fields == [
            packed.dataset.encode(),
            block.split.encode(),
            struct.pack(">i", block.batch_id),
            struct.pack(">i", block.row_count),
            block.features,
            block.labels,
        ]
    assert stream.read() == struct.pack(">h", -1)


def test_all_segments_get_the_same_number_of_rows(data) -> None:
    packed = mini_batches.pack(data, 1, 64)
    alike = [block for block in mini_batches.blocks(packed, segments=4) if block.split == "train"]
    counts = [block.row_count for block in alike]
    assert len(counts) % 4 == 0
    assert max(counts) - min(counts) <= 1
    assert max(counts) <= 64
    together = b"".join(block.features for block in alike)
    assert together == b"".join(block.features for block in mini_batches.blocks(packed) if block.split == "train")


def test_statistics_are_those_of_the_training_rows(data) -> None:
    packed = mini_batches.pack(data, 1, 64)
    statistics = mini_batches.training_statistics(packed)
    rows = data.features[packed.rows["train"]]
    assert statistics["mean"] == pytest.approx(rows.mean(), rel=1e-4)
    assert statistics["standard_deviation"] == pytest.approx(rows.std(), rel=1e-4)
    assert sum(statistics["class_counts"]) == statistics["rows"] == len(rows)


def test_statistics_of_a_row() -> None:
    rows = np.arange(40, dtype=np.float32).reshape(2, 20)
    mean, deviation, *parts = images.row_statistics(rows)[1]
    assert (mean, deviation) == pytest.approx((rows[1].mean(), rows[1].std()))
    assert len(parts) == 8
    # 20 values in 8 parts: the first part has two values, the second three.
    assert parts[:2] == [20.5, 23.0]
    assert images.row_statistics(rows[:, :3]).shape == (2, 5)


def test_tenths_of_the_training_rows_are_alike(data) -> None:
    packed = mini_batches.pack(data, 1, 64)
    inputs = mini_batches.training_statistics(packed)["inputs"]
    assert [entry["statistic"] for entry in inputs[:3]] == ["mean", "standard_deviation", "part_1"]
    for entry in inputs:
        assert sum(entry["counts"]) == len(packed.rows["train"])
        assert len(entry["counts"]) == len(entry["edges"]) + 1
    assert max(inputs[0]["counts"]) < 2 * len(packed.rows["train"]) / 10


def test_a_statistic_that_never_varies_has_one_edge() -> None:
    assert mini_batches._tenths("mean", np.full(50, 3.0, np.float32)) == {
        "statistic": "mean", "edges": [3.0], "counts": [0, 50], "minimum": 3.0, "maximum": 3.0,
    }  # fmt: skip
