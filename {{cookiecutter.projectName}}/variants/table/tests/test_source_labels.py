"""Rows of a table that people labelled, as the training database reads them."""

import datetime
import json
import uuid

import pytest

from pipeline.data import labelled_rows, source_labels

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
COLUMNS = [("weight", "number", "real"), ("smoker", "boolean", "boolean"), ("home town", "text", "character(8)")]
ROW = {"weight": 70.1, "smoker": True, "home town": "Bern    "}


@pytest.fixture(name="kept")
def _kept(trainer):
    """The trainer's session, whose labelled rows are forgotten afterwards."""
    trainer.autocommit = False
    yield trainer
    trainer.rollback()


def keep(session, row: object, label: str, minute: int = 0, **other: object) -> None:
    """Keep a row as collect_labels does."""
    described = {
        "prediction_id": str(uuid.uuid4()),
        "features": json.dumps(row).encode(),
        "shape": "4",
        "dtype": "json",
        "label": label,
        "labelled_at": NOON + datetime.timedelta(minutes=minute),
    }
    labelled_rows.keep(session, [tuple({**described, **other}.values())])


def read(session) -> list[tuple]:
    with session.cursor() as cursor:
        cursor.execute(source_labels.relation(COLUMNS, "outcome", ["ill", "well"]))
        assert [column.name for column in cursor.description] == ["weight", "smoker", "home town", "outcome"]
        return cursor.fetchall()


@pytest.mark.servers
def test_a_row_has_the_columns_types(kept) -> None:
    keep(kept, ROW, "well")
    assert read(kept) == [(pytest.approx(70.1), True, "Bern", "well")]


@pytest.mark.servers
def test_of_equal_rows_the_last_label_counts(kept) -> None:
    for minute, label in ((2, "ill"), (3, "well"), (1, "ill")):
        keep(kept, ROW, label, minute)
    assert [row[-1] for row in read(kept)] == ["well"]


@pytest.mark.servers
def test_what_is_unknown_stays_unknown(kept) -> None:
    keep(kept, dict.fromkeys(ROW), "ill")
    assert read(kept) == [(None, None, None, "ill")]


@pytest.mark.servers
def test_no_row_can_break_it(kept) -> None:
    """Whatever the app takes: numbers and texts that no column of the table could hold."""
    keep(kept, {"weight": 3e38, "smoker": None, "home town": "x" * 10_000}, "ill")
    assert len(read(kept)) == 1


@pytest.mark.servers
@pytest.mark.parametrize(
    ("row", "label", "other"),
    [
        ({"weight": 1, "smoker": True}, "well", {}),
        (ROW, "a class of the past", {}),
        (ROW, "well", {"dtype": "uint8", "features": b"\xff\x00"}),
    ],
)
def test_rows_of_another_kind_are_not_used(kept, row, label, other) -> None:
    """Those without a column, of another class, and of images."""
    keep(kept, row, label, **other)
    assert read(kept) == []
