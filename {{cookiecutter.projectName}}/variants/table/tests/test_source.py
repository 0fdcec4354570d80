"""A table is checked, split, encoded and packed inside the database, and only counts leave it."""

import datetime
import json
import re

import numpy as np
import psycopg2.extras
import pytest
from psycopg2 import sql
from source_table import MAKE, ROWS, Place

from database.python.encode import encode_values, row_values
from pipeline import training_db
from pipeline.data import catalog, expressions, feedback, labelled_rows, splits
from pipeline.data.feedback import Limits
from pipeline.data.labelled_rows import LabelledRow
from pipeline.databases import query
from pipeline.errors import StepError
from pipeline.settings import Source, settings
from pipeline.settings import _source as section

COLUMNS = [
    {"name": "n", "type": "real", "kind": "number", "mean": 1.0, "deviation": 2.0},
    {"name": "b", "type": "boolean", "kind": "boolean", "mean": 0.5, "deviation": 0.5},
    {"name": "t", "type": "character(4)", "kind": "text", "vocabulary": ["x", "y"]},
]


@pytest.mark.parametrize(
    ("row", "encoded"),
    [
        ({"n": 3, "b": True, "t": "y   "}, [1, 1, 0, 1]),
        ({"n": None, "b": None, "t": None, "more": 1}, [0, 0, 0, 0]),
        ({"n": 1.5, "b": False, "t": "unknown"}, [0.25, -1, 0, 0]),
    ],
)
def test_a_row_becomes_numbers(row, encoded) -> None:
    answer = encode_values(COLUMNS, row_values(COLUMNS, row))
    assert answer.dtype == np.dtype("<f4")
    assert answer.tolist() == [encoded]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": "3"}, 'column n must be a number; "3" was given'),
        ({"n": True}, "column n must be a number; true was given"),
        ({"n": 10**400}, "column n must be a finite number"),
        ({"n": 1e300}, "column n must be a finite number"),
        ({"b": 1}, "column b must be true or false; 1 was given"),
        ({"t": 1}, "column t must be text; 1 was given"),
    ],
)
def test_a_wrong_value_is_refused_with_its_column(changed, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        row_values(COLUMNS, {"n": 1, "b": True, "t": "x", **changed})


@pytest.mark.parametrize(("row", "message"), [({"n": 1, "b": True}, "has no column t"), ([1], "must be a JSON object")])
def test_a_row_that_is_none_is_refused(row, message) -> None:
    with pytest.raises(ValueError, match=message):
        row_values(COLUMNS, row)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (None, "source.schema is None; it must be text, not empty"),
        ({"table": " "}, "source.table is ' '; it must be text, not empty"),
        ({"key": 7}, "source.key is 7; it must be text"),
        ({"tabel": "t"}, "source.tabel is unknown; did you mean table?"),
        ({"features": "a,"}, "source.features has a comma without a name"),
        ({"features": "a, b,a"}, "source.features names a twice"),
    ],
)
def test_a_wrong_section_source_is_refused(written, message) -> None:
    usual = {"schema": "s", "table": "t", "label": "l", "features": "*", "key": ""}
    assert section(usual) == Source("s", "t", "l", None, ())
    with pytest.raises(StepError, match=re.escape(message)):
        section(written if written is None else {**usual, **written})


@pytest.fixture(name="place")
def _place(deployed, monkeypatch):
    place = Place(monkeypatch)
    yield place
    place.end()


def rows_by_split(place: Place) -> dict[str, list[dict]]:
    """Every row as JSON, in the split that docs/reference/data.md says."""
    rows: dict[str, list[dict]] = {split: [] for split in splits.SPLITS}
    for row, digest in place.ask("SELECT to_jsonb(t), hashtextextended(id::text, 0) FROM {table} AS t"):
        share = (digest + 2**63) / 2**64
        rows["holdout" if share < 0.1 else "validation" if share < 0.2 else "train"].append(row)
    return rows


@pytest.mark.servers
def test_the_hash_of_a_key_never_changes(place) -> None:
    """Another hash would train on rows of a holdout after a change of the database or of its version."""
    expected = {
        "1": 8680131335536356089, "-20": 1240045901543824477, "Zürich": 6325084439750968862,
        '(1,"a b")': 2542221001795912342, "": -6939563903564495251,
    }  # fmt: skip
    asked = {key: sql.SQL("SELECT {}").format(expressions.text_hash(sql.Literal(key))) for key in expected}
    assert {key: expressions.execute(place.trainer, question)[0][0] for key, question in asked.items()} == expected


@pytest.mark.servers
def test_rows_are_split_encoded_and_described(place) -> None:
    packed = place.made().pack()
    data = training_db.current_data(place.trainer)
    columns = data.encoding["columns"]
    assert [(c["name"], c["kind"], c["nulls"]) for c in columns] == [
        ("{schema} %s", "number", False), ("height, in %", "number", True), ("smoker", "boolean", True),
        ("home", "text", True),
    ]  # fmt: skip
    assert (columns[3]["vocabulary"], columns[3]["type"]) == (["Basel", "Bern", "Zug"], "character(8)")
    assert (data.classes, data.shape, data.encoding["key"]) == (["9", "10"], (6,), ["id"])
    parts = rows_by_split(place)
    assert packed.row_counts == data.split_rows == {split: len(rows) for split, rows in parts.items()}
    train = encoded_values(columns, parts["train"])
    for number, column in enumerate(columns[:3]):
        known = train[:, number][~np.isnan(train[:, number])]
        assert column["mean"] == pytest.approx(known.mean(), rel=1e-12)
        assert column["deviation"] == pytest.approx(known.std(), rel=1e-12)
    for split, rows in parts.items():
        expected = encode_values(columns, encoded_values(columns, rows))
        labels = np.array([data.classes.index(str(row["outcome"])) for row in rows])
        features, stored = place.blocks(split)
        together = [np.column_stack(pair)[np.lexsort(np.column_stack(pair).T)]
                    for pair in ((features, stored), (expected, labels))]  # fmt: skip
        assert np.allclose(*together, atol=1e-6)


def encoded_values(columns: list[dict], rows: list[dict]) -> np.ndarray:
    return np.concatenate([row_values(columns, row) for row in rows])


@pytest.mark.servers
def test_a_new_seed_and_new_rows_leave_every_row_in_its_split(place) -> None:
    place.made()
    first, before = place.pack(), place.blocks("holdout")
    assert first.is_new
    assert not place.pack().is_new
    other, after = place.pack(seed=2), place.blocks("holdout")
    assert (other.is_new, other.data_hash) == (True, first.data_hash)
    assert before[0].tolist() != after[0].tolist()
    assert sorted(before[0].tolist()) == sorted(after[0].tolist())
    place.trainer.rollback()
    place.run(MAKE.replace("CREATE TABLE {table} AS", "INSERT INTO {table}").replace("(1, {rows})", "(10001, 12000)"))
    grown = place.pack()
    assert grown.data_hash != first.data_hash
    assert grown.row_counts == {split: len(rows) for split, rows in rows_by_split(place).items()}


@pytest.mark.servers
def test_parallel_workers_share_the_look_at_the_rows(place) -> None:
    place.made()
    for setting in ("min_parallel_table_scan_size", "parallel_setup_cost", "parallel_tuple_cost"):
        place.ask(f"SET LOCAL {setting} = 0")
    counted = sql.SQL("EXPLAIN SELECT count(hash) FROM {}").format(
        expressions.evaluated_once(expressions.source_rows(catalog.read_table(place.trainer)))
    )
    assert "Partial Aggregate" in str(expressions.execute(place.trainer, counted))


@pytest.mark.servers
def test_the_statistics_are_those_of_the_training_rows(place) -> None:
    place.made().pack()
    data = training_db.current_data(place.trainer)
    rows = rows_by_split(place)["train"]
    values = encoded_values(data.encoding["columns"], rows).astype("<f4")
    statistics = data.statistics
    assert statistics["rows"] == len(rows)
    assert statistics["class_counts"] == [sum(str(row["outcome"]) == name for row in rows) for name in data.classes]
    for number, described in enumerate(statistics["inputs"]):
        known = values[:, number][~np.isnan(values[:, number])]
        bins = np.searchsorted(np.array(described["edges"], "<f4"), known, side="right")
        assert described["statistic"] == data.encoding["columns"][number]["name"]
        assert np.bincount(bins, minlength=len(described["edges"]) + 1).tolist() == described["counts"]
    assert max(statistics["inputs"][0]["counts"]) < 2 * len(rows) / 10
    assert [len(described["edges"]) for described in statistics["inputs"]] == [9, 9, 1, 3]


@pytest.mark.servers
def test_the_extremes_are_those_of_all_training_rows(place, monkeypatch) -> None:
    """The tenths of a large table are those of a sample, which lacks its rarest values."""
    monkeypatch.setattr("pipeline.data.statistics.ROWS_FOR_TENTHS", 10)
    place.made().pack()
    inputs = training_db.current_data(place.trainer).statistics["inputs"]
    (described,) = (entry for entry in inputs if entry["statistic"] == "height, in %")
    heights = [row["height, in %"] for row in rows_by_split(place)["train"] if row["height, in %"] is not None]
    assert sum(described["counts"]) < len(heights) / 10
    assert (described["minimum"], described["maximum"]) == (min(heights), max(heights))


@pytest.mark.servers
def test_without_a_key_the_features_decide_and_equal_rows_fall_together(place) -> None:
    place.run(MAKE)
    place.name(features=("{schema} %s", "smoker"))
    counts = place.granted().pack().row_counts
    assert sum(counts.values()) == ROWS
    features, _ = place.blocks("holdout")
    held_out = {tuple(row) for row in features.tolist()}
    for split in ("train", "validation"):
        assert not held_out & {tuple(row) for row in place.blocks(split)[0].tolist()}


def labelled(number: int, row: dict, label: str, subject: str) -> LabelledRow:
    """Return the row that a subject labelled in this second."""
    time = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=number)
    return LabelledRow(str(number), json.dumps(row).encode(), "6", "json", label, time, subject, subject)


@pytest.mark.servers
def test_labelled_rows_are_limited_and_decide_nothing(place, monkeypatch) -> None:
    """Those labelled last, per subject and in total; those that are not trained on form a split of their own."""
    monkeypatch.setattr(feedback, "limits_by_split", lambda _: {"train": Limits(5, 4), "feedback": Limits(2, 1)})
    before = place.made().pack()
    (row,) = place.ask("SELECT to_jsonb(t) FROM {table} AS t WHERE smoker IS NOT NULL LIMIT 1")[0]
    names = [column.name for column in catalog.read_table(place.trainer).columns]
    row = {name: row[name] for name in names}
    own = training_db.current_data(place.trainer).statistics["inputs"]
    width = own[0]["maximum"] - own[0]["minimum"]
    numbers = [own[0]["maximum"] + width * (n + 1) / 61 for n in range(60)]
    rows = [labelled(n, {**row, names[0]: numbers[n]}, "9", "ann" if n < 30 else "bob") for n in range(60)]
    # No row is used that would scale all others to the same number.
    rows.append(labelled(60, {**row, names[0]: 1e30}, "9", "eve"))
    labelled_rows.upsert(place.trainer, rows)
    packed = place.pack()
    assert packed.row_counts == {**before.row_counts, "train": before.row_counts["train"] + 5, "feedback": 2}
    assert (packed.labelled, packed.unused) == (7, 54)
    assert training_db.current_data(place.trainer).statistics["inputs"] == own
    used = place.ask("SELECT prediction_id::int, subject FROM {schema}.dataset_labelled_row ORDER BY 1")
    assert [subject for _, subject in used].count("bob") == 5
    assert all(number >= 20 for number, _ in used)


@pytest.mark.servers
def test_labelled_rows_join_once_and_never_overrule_the_table(place) -> None:
    place.made()
    before = place.pack()
    (known,) = place.ask("SELECT to_jsonb(t) FROM {table} AS t WHERE smoker IS NOT NULL LIMIT 1")[0]
    names = [column.name for column in catalog.read_table(place.trainer).columns]
    known = {name: known[name] for name in names}
    new, other = {**known, names[0]: known[names[0]] + 0.125}, {**known, names[0]: known[names[0]] + 0.25}
    for number, (row, label) in enumerate(((known, "9"), (new, "9"), (new, "10"), (other, "no class"))):
        labelled_rows.upsert(
            place.trainer,
            [labelled(number, row, label, "ann")],
        )
    packed = place.pack()
    assert (packed.labelled, packed.unused) == (1, 3)
    assert sum(packed.row_counts.values()) == sum(before.row_counts.values()) + 1
    assert sum(training_db.current_data(place.trainer).split_rows.values()) == ROWS + 1


@pytest.mark.servers
def test_a_model_of_other_scales_is_given_rows_as_its_own_were(trainer) -> None:
    theirs = [{**COLUMNS[2], "vocabulary": ["y", "z"]}, {**COLUMNS[0], "mean": -4.0, "deviation": 3.0}]
    rows = [{"n": 3, "b": True, "t": "y"}, {"n": None, "b": None, "t": "x"}]
    values = {
        name: np.concatenate([encode_values(c, row_values(c, row)) for row in rows])
        for name, c in (("ours", COLUMNS), ("theirs", theirs))
    }
    encodings = [json.dumps({"columns": columns}) for columns in (COLUMNS, theirs)]
    answer = query(trainer, "SELECT {schema}.reencode_block(%s, 2, %s, %s)", (values["ours"].tobytes(), *encodings))[0][
        0
    ]
    assert np.allclose(np.frombuffer(answer, "<f4").reshape(2, 3), values["theirs"], atol=1e-6)


@pytest.mark.servers
def test_constant_and_extreme_numbers_are_packed(place) -> None:
    """What rounding leaves of a constant column's deviation scales nothing; what real cannot hold has tenths too."""
    place.made()
    place.run(
        "ALTER TABLE {table} ADD same float8 DEFAULT 0.1, ADD tiny float8, ADD huge float8; "
        "UPDATE {table} SET tiny = 1e-60 * id, huge = 1e60 * id"
    )
    place.pack()
    data = training_db.current_data(place.trainer)
    columns = {column["name"]: column for column in data.encoding["columns"]}
    assert columns["same"]["deviation"] == 1.0
    assert columns["tiny"]["deviation"] > 0 < columns["huge"]["deviation"]
    edges = {entry["statistic"]: entry["edges"] for entry in data.statistics["inputs"]}
    assert (edges["tiny"], edges["huge"]) == ([0.0], pytest.approx([3e38]))


@pytest.mark.servers
def test_the_key_has_no_column_that_the_index_only_carries(place) -> None:
    place.run(MAKE)
    place.run("ALTER TABLE {table} ADD PRIMARY KEY (id) INCLUDE (home)")
    place.granted()
    assert catalog.read_table(place.trainer).key == ("id",)


@pytest.mark.servers
def test_the_database_answers_as_the_model_that_was_evaluated(trainer) -> None:
    own = settings().source
    row = f'SELECT t.* FROM "{own.schema}"."{own.table}" AS t LIMIT 20'
    answers = query(trainer, f"SELECT {{schema}}.predict(t.*), {{schema}}.predict_row(to_jsonb(t)) FROM ({row}) AS t")
    assert len(answers) == 20
    for of_row, of_json in answers:
        assert of_row == of_json
        assert sum(of_row) == pytest.approx(1, abs=1e-3)
    assert len({tuple(answer) for answer, _ in answers}) > 10
    with pytest.raises(psycopg2.Error, match="has no column"):
        query(trainer, "SELECT {schema}.predict_row('{}')")


@pytest.mark.servers
def test_both_databases_give_the_same_answer(trainer, app) -> None:
    own = settings().source
    rows = query(
        trainer, f'SELECT to_jsonb(t), {{schema}}.predict_row(to_jsonb(t)) FROM "{own.schema}"."{own.table}" t'
    )
    for row, expected in rows[:100]:
        answer = query(app, "SELECT {schema}.predict_row(%s::jsonb)", (json.dumps(row),))[0][0]
        assert answer == pytest.approx(expected, abs=1e-6)
