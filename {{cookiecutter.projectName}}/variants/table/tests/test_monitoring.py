"""What the inference database says of a table's rows, keeps of them, and measures them by."""

import json
import pathlib

import numpy as np
import psycopg2
import pytest
from psycopg2 import sql

from local import sql_bodies
from pipeline.databases import query
from pipeline.settings import settings
from pipeline.steps.monitor_model import metric_of, observe

# How often a change set holds a copy of database/python/encode.py.
COPIES = {"training/006-table.sql": 2, "inference/006-row.sql": 1}
ENCODING = {
    "label": "outcome",
    "key": [],
    "columns": [
        {"name": "weight", "type": "real", "kind": "number", "mean": 70.0, "deviation": 8.0, "nulls": True},
        {"name": "smoker", "type": "boolean", "kind": "boolean", "mean": 0.25, "deviation": 0.5, "nulls": True},
        {"name": "city", "type": "character(8)", "kind": "text", "vocabulary": ["Basel", "Bern"], "nulls": True},
    ],
}
# As a column of the type real holds 70.1.
REAL = float(np.float32(70.1))
# Each row with its raw values (NaN: NULL) and what the model is given.
ENCODED = [
    ({"weight": 78, "smoker": True, "city": "Bern"}, [78, 1, 1], [1, 1.5, 0, 1]),
    ({"weight": 70, "smoker": False, "city": "Basel   ", "other": []}, [70, 0, 0], [0, -0.5, 1, 0]),
    ({"weight": None, "smoker": None, "city": None}, [np.nan] * 3, [0, 0, 0, 0]),
    ({"weight": -1e-400, "smoker": False, "city": "Zug"}, [0, 0, 2], [-8.75, -0.5, 0, 0]),
    (
        {"weight": 70.1, "smoker": False, "city": ""},
        [np.float32(70.1), 0, 2],
        [(np.float32(70.1) - 70.0) / 8, -0.5, 0, 0],
    ),
]


@pytest.fixture(name="log")
def _log(deployer):
    """A deployer's session with an empty log that keeps everything; what a test writes is forgotten afterwards."""
    deployer.autocommit = False
    query(deployer, "UPDATE {schema}.setting SET log_statistics = true, store_inputs = true, window_size = 500")
    query(deployer, "DELETE FROM {schema}.prediction_label")
    query(deployer, "DELETE FROM {schema}.prediction_log")
    yield deployer
    deployer.rollback()


@pytest.fixture(name="rows")
def _rows(trainer) -> list[dict]:
    """Rows of the source table, with all their columns."""
    source = settings().source
    statement = sql.SQL("SELECT to_jsonb(t) FROM {} AS t LIMIT 400").format(sql.Identifier(source.schema, source.table))
    with trainer.cursor() as cursor:
        cursor.execute(statement)
        return [row for (row,) in cursor]


@pytest.fixture(name="served")
def _served(deployer) -> tuple[dict, dict]:
    """The encoding of the served model, and the statistics of its training rows."""
    return query(deployer, "SELECT encoding, training_statistics FROM {schema}.model_version WHERE version = 1")[0]


def predict(log, rows: list[dict]) -> list[dict]:
    """Ask run_inference_task for each row."""
    ask = "SELECT {schema}.run_inference_task(%s::jsonb, %s, %s)"
    stage = settings().promotion_stage
    return [query(log, ask, (json.dumps(row), settings().model, stage))[0][0] for row in rows]


def answers(connection, rows: list[dict]) -> np.ndarray:
    """Ask predict_row for each row."""
    return np.array([query(connection, "SELECT {schema}.predict_row(%s)", (json.dumps(row),))[0][0] for row in rows])


@pytest.mark.servers
def test_both_databases_give_the_same_answer(app, trainer, rows, served) -> None:
    """To rows as they are, and with each column unknown."""
    unknown = [{**rows[0], column["name"]: None} for column in served[0]["columns"]]
    asked = [*rows[:50], *unknown]
    assert np.abs(answers(app, asked) - answers(trainer, asked)).max() < 1e-6


@pytest.mark.servers
def test_a_row_of_any_table_with_the_columns_is_answered(app, rows, served) -> None:
    """SELECT predict(t.*) FROM t."""
    columns = served[0]["columns"]
    values = sql.SQL(", ").join(
        sql.SQL("%s::{} AS {}").format(sql.SQL(column["type"]), sql.Identifier(column["name"])) for column in columns
    )
    statement = sql.SQL("SELECT {}.predict(t.*) FROM (SELECT {}) AS t").format(
        sql.Identifier(settings().schema), values
    )
    with app.cursor() as cursor:
        cursor.execute(statement, [rows[0][column["name"]] for column in columns])
        assert cursor.fetchone()[0] == answers(app, rows[:1])[0].tolist()


@pytest.mark.servers
@pytest.mark.parametrize(("row", "raw", "features"), ENCODED)
def test_a_row_is_encoded_column_by_column(log, row, raw, features) -> None:
    ask = "SELECT e.raw, e.features FROM {schema}.encode_row(%s, %s) AS e"
    # JSON's own text: a number that is too small for a float is one all the same.
    text = json.dumps(row).replace("-0.0", "-1e-400")
    ((values, encoded),) = query(log, ask, (text, json.dumps(ENCODING)))
    assert np.array_equal(values, np.array(raw, float), equal_nan=True)
    assert np.array_equal(np.frombuffer(encoded, "<f4"), np.array(features, "f4"))


@pytest.mark.servers
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"weight": 1, "smoker": true}', "the row has no column city; give null for an unknown value"),
        ('{"weight": "1", "smoker": true, "city": null}', 'column weight must be a number; "1" was given'),
        ('{"weight": true, "smoker": true, "city": null}', "column weight must be a number; true was given"),
        ('{"weight": 1, "smoker": 1, "city": null}', "column smoker must be true or false; 1"),
        ('{"weight": 1, "smoker": true, "city": 1}', "column city must be text; 1"),
        ('{"weight": 1e60, "smoker": true, "city": null}', "column weight must be a finite number"),
        ('{"weight": 3.2e38, "smoker": true, "city": null}', "column weight is too far from what it was in the"),
        ("[]", "a row must be a JSON object"),
        (None, "a row must be a JSON object"),
    ],
)
def test_a_wrong_row_is_refused_with_a_sentence(log, row, message) -> None:
    with pytest.raises(psycopg2.Error, match=message) as raised:
        query(log, "SELECT {schema}.encode_row(%s, %s)", (row, json.dumps(ENCODING)))
    assert raised.value.pgcode == "22023"


@pytest.mark.servers
def test_only_what_the_settings_say_is_kept(log, rows, served) -> None:
    columns = served[0]["columns"]
    row = {**rows[0], columns[0]["name"]: None}
    for keeps in (True, False):
        query(log, "UPDATE {schema}.setting SET log_statistics = %s, store_inputs = %s", (keeps, keeps))
        predict(log, [row])
        ((statistics, stored),) = query(log, "DELETE FROM {schema}.prediction_log RETURNING statistics, input")
        if not keeps:
            assert (statistics, stored) == (None, None)
            continue
        assert statistics[0] is None
        assert len(statistics) == len(columns)
        # Neither the key nor the label, nor whatever else the row had.
        assert json.loads(bytes(stored)) == {column["name"]: row[column["name"]] for column in columns}


@pytest.mark.servers
def test_a_refused_row_is_not_logged(log) -> None:
    with pytest.raises(psycopg2.Error):
        predict(log, [{}])
    log.rollback()
    before = query(log, "SELECT count(*) FROM {schema}.prediction_log")
    with pytest.raises(psycopg2.Error):
        predict(log, [{}])
    log.rollback()
    assert query(log, "SELECT count(*) FROM {schema}.prediction_log") == before


@pytest.mark.servers
def test_drift_is_the_population_stability_index_of_each_column(log, rows, served) -> None:
    encoding, statistics = served
    numbers = [column["name"] for column in encoding["columns"] if column["kind"] == "number"]
    assert numbers
    drifted = [{**row, **{name: row[name] and row[name] * 1.5 for name in numbers}} for row in rows[:60]]
    predict(log, drifted)
    measured = {name: drift.psi for name, drift in observe(log, settings().promotion_stage).drift.items()}
    for column, entry in zip(encoding["columns"], statistics["inputs"], strict=True):
        if column["name"] not in numbers:
            continue
        values = np.array([row[column["name"]] for row in drifted if row[column["name"]] is not None], "f4")
        bins = np.searchsorted(np.array(entry["edges"], "f4"), values, side="right")
        counts = (np.array(entry["counts"]), np.bincount(bins, minlength=len(entry["counts"])))
        expected, actual = ((count + 0.5) / (count + 0.5).sum() for count in counts)
        psi = float(((actual - expected) * np.log(actual / expected)).sum())
        assert measured[entry["statistic"]] == pytest.approx(psi)


@pytest.mark.servers
def test_the_rows_it_was_trained_on_do_not_drift(log, rows) -> None:
    predict(log, rows)
    drift = observe(log, settings().promotion_stage).drift
    assert max(measured.psi for measured in drift.values()) < 0.25


@pytest.mark.servers
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT {schema}.encode_row('{}', '{}')",
        "SELECT {schema}.answer_encoded_row('', '')",
        "SELECT encoding FROM {schema}.model_version",
    ],
)
def test_the_app_may_not(app, statement) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(app, statement)


def test_a_columns_metric_has_a_name_that_mlflow_takes() -> None:
    assert [metric_of(name) for name in ("mean_radius", "größe", "a/b", "price (€)")] == [
        "psi_mean_radius", "psi_größe", "psi_a_b", "psi_price ___",
    ]  # fmt: skip


def test_both_databases_encode_by_the_same_text() -> None:
    folder = pathlib.Path(__file__).parent.parent / "database"
    path = folder / "python" / "encode.py"
    copy = sql_bodies.body(path.read_text(encoding="utf-8"), path)
    copies = {name: (folder / name).read_text(encoding="utf-8").count(copy) for name in COPIES}
    assert copies == COPIES
