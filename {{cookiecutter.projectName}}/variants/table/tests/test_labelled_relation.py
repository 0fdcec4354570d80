"""Rows of a table that people labelled, as the training database reads them."""

import datetime
import json
import uuid

import pytest

from pipeline.data import labelled_relation, labelled_rows
from pipeline.data.labelled_rows import LabelledRow

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
COLUMNS = [("weight", "number", "real"), ("smoker", "boolean", "boolean"), ("home town", "text", "character(8)")]
ROW = {"weight": 70.1, "smoker": True, "home town": "Bern    "}


@pytest.fixture(name="labelling")
def _labelling(trainer):
    """The trainer's session; its labelled rows are rolled back after the test."""
    trainer.autocommit = False
    yield trainer
    trainer.rollback()


def label(session, row: object, name: str, minute: int = 0, **other: object) -> None:
    """Store a labelled row as collect_labels does."""
    described = {
        "prediction_id": str(uuid.uuid4()),
        "features": json.dumps(row).encode(),
        "shape": "4",
        "dtype": "json",
        "label": name,
        "labelled_at": NOON + datetime.timedelta(minutes=minute),
        "subject": "ann",
        "asked_by": "bob",
    }
    labelled_rows.upsert(session, [LabelledRow(**{**described, **other})])


def read(session) -> list[tuple]:
    with session.cursor() as cursor:
        cursor.execute(labelled_relation.select_rows(COLUMNS, "outcome", ["ill", "well"]))
        names = [column.name for column in cursor.description]
        assert names == ["weight", "smoker", "home town", "prediction_id", "subject", "labelled_at", "outcome"]
        return [(*row[:3], row[-1]) for row in cursor.fetchall()]


def test_names_of_the_tables_columns_are_not_used_twice() -> None:
    taken = ["subject", "subject_", "labelled_at"]
    assert labelled_relation.provenance(taken) == ("prediction_id", "subject__", "labelled_at_")


@pytest.mark.servers
def test_a_row_has_the_columns_types(labelling) -> None:
    label(labelling, ROW, "well")
    assert read(labelling) == [(pytest.approx(70.1), True, "Bern", "well")]


@pytest.mark.servers
def test_of_equal_rows_the_last_label_counts(labelling) -> None:
    for minute, name in ((2, "ill"), (3, "well"), (1, "ill")):
        label(labelling, ROW, name, minute)
    assert [row[-1] for row in read(labelling)] == ["well"]


@pytest.mark.servers
def test_what_is_unknown_stays_unknown(labelling) -> None:
    label(labelling, dict.fromkeys(ROW), "ill")
    assert read(labelling) == [(None, None, None, "ill")]


@pytest.mark.servers
def test_no_row_can_break_it(labelling) -> None:
    """Whatever the app takes: numbers and texts that no column of the table could hold."""
    label(labelling, {"weight": 3e38, "smoker": None, "home town": "x" * 10_000}, "ill")
    assert len(read(labelling)) == 1


@pytest.mark.servers
@pytest.mark.parametrize(
    ("row", "name", "other"),
    [
        ({"weight": 1, "smoker": True}, "well", {}),
        (ROW, "a class of the past", {}),
        (ROW, "well", {"dtype": "uint8", "features": b"\xff\x00"}),
    ],
)
def test_rows_of_another_kind_are_not_used(labelling, row, name, other) -> None:
    """Those without a column, of another class, and of images."""
    label(labelling, row, name, **other)
    assert read(labelling) == []
