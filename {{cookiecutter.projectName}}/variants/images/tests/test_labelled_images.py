"""Labelled images are added to the data set, once, and do not overrule dataset.py."""

import datetime
import uuid

import numpy as np
import pytest

from app.images import BYTES
from pipeline.data import feedback, labelled_images, labelled_rows, mini_batches
from pipeline.data.feedback import Limits
from pipeline.data.labelled_rows import LabelledRow
from pipeline.databases import query
from pipeline.records import PixelFormat
from pipeline.user_code import Dataset, load_dataset

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def row(features: np.ndarray, name: str, minute: int = 0, **other: str) -> LabelledRow:
    """Return a row of labelled_row."""
    described = {
        "prediction_id": str(uuid.uuid4()),
        "features": features.tobytes(),
        "shape": ",".join(map(str, features.shape)),
        "dtype": str(features.dtype),
        "label": name,
        "labelled_at": NOON + datetime.timedelta(minutes=minute),
        "subject": "ann",
        "asked_by": "ann",
    }
    return LabelledRow(**{**described, **other})


@pytest.fixture(name="labelling")
def _labelling(trainer):
    """The trainer's session; its labelled rows are rolled back after the test."""
    trainer.autocommit = False
    yield trainer
    trainer.rollback()


@pytest.fixture(name="new", scope="module")
def _new() -> np.ndarray:
    """Two rows that dataset.py does not have."""
    data = load_dataset()
    noise = np.random.default_rng(7).integers(0, 255, (2, *data.shape))
    return noise.astype(data.features.dtype)


@pytest.mark.servers
def test_new_rows_are_added_with_their_label(labelling, new) -> None:
    data = load_dataset()
    labelled_rows.upsert(labelling, [row(new[0], data.classes[1]), row(new[1], data.classes[0])])
    merged = labelled_images.merge(labelling, data)
    assert (len(merged.prediction_ids), merged.unused) == (2, 0)
    assert len(merged.data.labels) == len(data.labels) + 2
    added = {features.tobytes(): label for features, label in zip(merged.data.features[-2:], merged.data.labels[-2:])}
    assert added == {new[0].tobytes(): 1, new[1].tobytes(): 0}


@pytest.mark.servers
def test_of_equal_rows_the_last_label_counts(labelling, new) -> None:
    data = load_dataset()
    labels = (data.classes[0], data.classes[1], data.classes[0])
    labelled_rows.upsert(labelling, [row(new[0], label, minute) for label, minute in zip(labels, (2, 3, 1))])
    merged = labelled_images.merge(labelling, data)
    assert (len(merged.prediction_ids), merged.unused) == (1, 2)
    assert merged.data.labels[-1] == 1


@pytest.mark.servers
def test_a_row_of_dataset_py_is_not_overruled(labelling) -> None:
    data = load_dataset()
    wrong = data.classes[(data.labels[0] + 1) % len(data.classes)]
    labelled_rows.upsert(labelling, [row(data.features[0], wrong)])
    merged = labelled_images.merge(labelling, data)
    assert (len(merged.prediction_ids), merged.unused) == (0, 1)
    assert np.array_equal(merged.data.labels, data.labels)


@pytest.mark.servers
@pytest.mark.parametrize("other", [{"shape": "3"}, {"dtype": "int64"}, {"label": "a class of the past"}])
def test_rows_of_another_kind_are_not_used(labelling, new, other) -> None:
    data = load_dataset()
    labelled_rows.upsert(labelling, [row(new[0], data.classes[0], **other)])
    assert labelled_images.merge(labelling, data)[1:] == ([], 1)


@pytest.mark.servers
def test_a_label_that_was_changed_is_changed(labelling, new) -> None:
    data = load_dataset()
    first = row(new[0], data.classes[0])
    assert labelled_rows.upsert(labelling, [first]) == 1
    assert labelled_rows.upsert(labelling, [first]) == 0
    assert labelled_rows.upsert(labelling, [first._replace(label=data.classes[1])]) == 1
    assert query(labelling, "SELECT label FROM {schema}.labelled_row WHERE prediction_id = %s", (first[0],)) == [
        (data.classes[1],)
    ]


@pytest.mark.servers
def test_a_near_copy_of_a_known_row_is_not_used(labelling) -> None:
    """One level of noise in one pixel: neither the bytes nor the label of the row are new."""
    data = load_dataset()
    copy = data.features[0].copy()
    copy[0, 0] += 1
    labelled_rows.upsert(labelling, [row(copy, data.classes[(data.labels[0] + 1) % len(data.classes)])])
    assert labelled_images.merge(labelling, data)[1:] == ([], 1)


@pytest.mark.servers
def test_a_subject_and_all_subjects_have_a_limited_share(labelling, monkeypatch) -> None:
    """Of the rows of a subject, and of all, those labelled last are used."""
    monkeypatch.setattr(feedback, "limits_by_split", lambda _: dict.fromkeys(("train", "feedback"), Limits(3, 2)))
    data = load_dataset()
    noise = np.random.default_rng(8).integers(0, 255, (60, *data.shape)).astype(data.features.dtype)
    place = mini_batches.split_rows(mini_batches.row_digests(noise))
    rows = noise[place["train"][:8]]
    subjects = ("ann", "ann", "bob", "bob", "bob", "cy", "cy", "cy")
    given = [
        row(features, data.classes[0], minute, subject=subject)
        for minute, (features, subject) in enumerate(zip(rows, subjects))
    ]
    labelled_rows.upsert(labelling, given)
    merged = labelled_images.merge(labelling, data)
    assert merged.prediction_ids == [given[number].prediction_id for number in (7, 6, 4)]
    assert merged.unused == 5


def test_a_row_that_is_no_number_is_not_used() -> None:
    data = Dataset(np.ones((1, 2), np.float32), np.zeros(1, "<i4"), ["a", "b"])
    rows = [(np.array(values, "<f4").tobytes(), "b") for values in ([np.nan, 1], [1, np.inf], [1, 2])]
    features, labels, fits = labelled_images._arrays(rows, data, BYTES)
    assert features.tolist() == [[1, 2]]
    assert (labels.tolist(), fits.tolist()) == ([1], [False, False, True])


def test_a_row_of_other_values_is_not_used() -> None:
    """An earlier model took bytes, this one takes values from -0.1 to 0.1."""
    data = Dataset(np.zeros((1, 2), np.float32), np.zeros(1, "<i4"), ["a", "b"])
    rows = [(np.array(values, "<f4").tobytes(), "b") for values in ([0, 255], [0, 0], [-0.1, 0.1])]
    pixels = PixelFormat(minimum=-0.1, maximum=0.1, whole=False, channels="RGB")
    features, _, _ = labelled_images._arrays(rows, data, pixels)
    assert features == pytest.approx(np.array([[0, 0], [-0.1, 0.1]], "f4"))


@pytest.mark.servers
def test_old_rows_stay_in_their_split(labelling, new) -> None:
    data = load_dataset()
    labelled_rows.upsert(labelling, [row(new[0], data.classes[0]), row(new[1], data.classes[1])])
    before = mini_batches.split_rows(mini_batches.row_digests(data.features))
    merged = labelled_images.merge(labelling, data).data
    after = mini_batches.split_rows(mini_batches.row_digests(merged.features))
    for split, rows in before.items():
        assert set(rows) == {number for number in after[split] if number < len(data.labels)}
