"""The source of the rows: a table of the training database, examined and packed there by SQL.

This process receives counts, means, and few values: those that name classes and vocabularies, and the tenths of each
column.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg2.extras
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from app import rows as app_rows
from app.predictions import RefusedInput
from database.python.encode import encode_values, row_values
from pipeline import training_db
from pipeline.data import packing
from pipeline.data.catalog import read_table
from pipeline.data.encoding import Examined, examine
from pipeline.data.expressions import execute, project_name, read_one_snapshot, row_hash, split_of_hash
from pipeline.data.splits import DataSpec, HoldoutRow, PackResult
from pipeline.databases import insert, query, session
from pipeline.errors import StepError
from pipeline.records import Encoding, PixelFormat
from pipeline.training_db import AS_STORED, Examples, Features, FinishedRun, ServedRows, TrainingData

CHECKED_ROWS = 100
# Rows that are answered as JSON before a version can be promoted.
ROUND_TRIP_ROWS = 32
# Most values of scaled columns: standard deviations from the mean.
SCALED_VALUES = (-3.0, 3.0)


def describe() -> DataSpec:
    """Return the shape of a row and the classes, measured by the deploying role. Raises StepError."""
    connection = session("training-deployer")
    with connection:
        read_one_snapshot(connection)
        examined = examine(connection, with_labelled=False)
    return DataSpec((examined.width,), examined.classes, "float32", SCALED_VALUES)


def grant(connection: Connection, group: str) -> None:
    """Let the trainer group read the table."""
    with connection:
        table = read_table(connection)
        names = {
            "schema": sql.Identifier(table.source.schema), "table": table.name, "group": sql.Identifier(group),
            "database": sql.Identifier(connection.info.dbname),
        }  # fmt: skip
        # Measurements are stored in temporary tables.
        execute(connection, sql.SQL("GRANT TEMPORARY ON DATABASE {database} TO {group}").format(**names))
        execute(connection, sql.SQL("GRANT USAGE ON SCHEMA {schema} TO {group}").format(**names))
        execute(connection, sql.SQL("GRANT SELECT ON {table} TO {group}").format(**names))


def pack(connection: Connection, seed: int, rows_per_block: int) -> PackResult:
    """Pack the table with the labelled rows, unless the training database holds the data set; the caller commits.

    The data set becomes the one to train on. Raises StepError.
    """
    read_one_snapshot(connection)
    has_labelled = query(connection, "SELECT EXISTS (SELECT 1 FROM {schema}.labelled_row)")[0][0]
    examined = examine(connection, has_labelled)
    dataset = hashlib.sha256(f"{examined.data_hash} {seed} {rows_per_block}".encode()).hexdigest()
    is_new = not training_db.select_data(connection, dataset)
    if is_new:
        packing.upload(connection, examined, dataset, seed, rows_per_block)
    stored, used = _labelled_counts(connection, examined)
    return PackResult(examined.data_hash, examined.row_counts(), used, stored - used, is_new)


def _labelled_counts(connection: Connection, examined: Examined) -> tuple[int, int]:
    """Return how many labelled rows there are, and how many of them are used."""
    if examined.labelled is None:
        return 0, 0
    stored = query(connection, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    return stored, execute(connection, sql.SQL("SELECT count(*) FROM ({}) AS r").format(examined.labelled))[0][0]


def store_evaluated_model(connection: Connection, trained: FinishedRun, config: str) -> None:
    """Let predict_row in the training database answer with this model."""
    query(connection, "LOCK TABLE {schema}.evaluated_model IN SHARE ROW EXCLUSIVE MODE")
    query(connection, "DELETE FROM {schema}.evaluated_model")
    insert(
        connection,
        "evaluated_model",
        {
            "run_hash": trained.run_hash,
            "config": config,
            "weights": trained.weights,
            "encoding": json.dumps(trained.data.encoding),
        },
    )


def features_for(trained: TrainingData, data: TrainingData) -> Features | None:
    """Return the features of `data` for a model that was trained on `trained`, scaled as the model's rows were.

    None when the model answers another question: it has other classes, or a column that `data` lacks.
    """
    encoding = trained.encoding
    if trained.classes != data.classes:
        return None
    if encoding == data.encoding:
        return AS_STORED
    if encoding is None or data.encoding is None:
        return None
    if encoding["label"] != data.encoding["label"] or not _columns(encoding) <= _columns(data.encoding):
        return None
    expression = "{schema}.reencode_block(features, row_count, %s, %s)"
    return Features(expression, (json.dumps(data.encoding), json.dumps(encoding)))


def _columns(encoding: Encoding) -> set[tuple[str, str]]:
    return {(column["name"], column["kind"]) for column in encoding["columns"]}


def examples(connection: Connection, data: TrainingData) -> Examples:
    """Return synthetic rows to check a model with, the row of means first: no row of the table leaves the database."""
    rows = np.random.default_rng(1).standard_normal((CHECKED_ROWS, *data.shape)).astype("<f4")
    rows[0] = 0
    return Examples(rows, {})


def served_rows(connection: Connection, trained: FinishedRun, config: str) -> ServedRows:
    """Return validation rows as the app and the inference database read their JSON, with this database's answers.

    Raises StepError when the table has no such row any more.
    """
    read_one_snapshot(connection)
    store_evaluated_model(connection, trained, config)
    table = read_table(connection)
    hashed = row_hash(table, "s")
    answered = execute(
        connection,
        sql.SQL(
            "SELECT to_jsonb(s.*), {predict}(to_jsonb(s.*)) FROM {table} AS s "
            "WHERE {split} = 'validation' AND s.{label} IS NOT NULL ORDER BY {hash} LIMIT {count}"
        ).format(
            predict=project_name("predict_row"), table=table.name, split=split_of_hash(hashed), hash=hashed,
            label=sql.Identifier(table.source.label), count=sql.Literal(ROUND_TRIP_ROWS),
        ),
    )  # fmt: skip
    if not answered:
        raise StepError(f"{table.where} has no row of the validation split any more, so no answer can be compared")
    encoded = np.concatenate([_through_json(row, trained.data) for row, _ in answered])
    return ServedRows(encoded, np.array([answer for _, answer in answered], "f4"))


def pictures(connection: Connection, data: TrainingData, places: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """Return no picture: a row of a table has none."""
    return []


def input_file(stored: bytes, shape: tuple[int, ...], dtype: str, pixels: PixelFormat | None) -> tuple[str, bytes]:
    """Return the suffix and the content of a file that shows an input of the app to a person."""
    return ".json", stored


def errors_query(connection: Connection, data: TrainingData) -> str:
    """Return the query that lists the table's 20 most confident errors in the validation split.

    It uses the model that was evaluated last. The report contains the query, not the rows.
    """
    table = read_table(connection)
    # Greenplum must compute predict_row on its segments: above them, the function may not query a table. Without
    # MATERIALIZED it would be merged into the outer query. `s.*` is the row even if a column is called s.
    composed = sql.SQL(
        "WITH answered AS MATERIALIZED (\n"
        "  SELECT (s.*)::{table} AS source_row, {predict}(to_jsonb(s.*)) AS probabilities FROM {table} AS s\n"
        "  WHERE {split} = 'validation' AND s.{label} IS NOT NULL)\n"
        "SELECT ({classes})[best.number] AS predicted, best.probability, (answered.source_row).*\n"
        "FROM answered CROSS JOIN LATERAL (\n"
        "  SELECT * FROM unnest(answered.probabilities) WITH ORDINALITY AS u (probability, number)\n"
        "  ORDER BY probability DESC LIMIT 1) AS best\n"
        "WHERE ({classes})[best.number] <> (answered.source_row).{label}::text\n"
        "ORDER BY best.probability DESC LIMIT 20;"
    ).format(
        classes=sql.Literal(data.classes), predict=project_name("predict_row"), table=table.name,
        split=split_of_hash(row_hash(table, "s")), label=sql.Identifier(table.source.label),
    )  # fmt: skip
    return composed.as_string(connection)


def _through_json(row: Mapping[str, Any], data: TrainingData) -> npt.NDArray[np.float32]:
    """Return a row of the table, read as the app reads it and encoded as the inference database encodes it.

    Raises StepError when the app would refuse the row, as after a change of a column's type.
    """
    columns: Any = data.encoding["columns"] if data.encoding else []
    features = {column["name"]: row[column["name"]] for column in columns}
    encoding: Any = data.encoding
    try:
        text = app_rows.read(features, encoding)
    except RefusedInput as error:
        raise StepError(f"the app would refuse a row of the table: {error}; run `./run all` to train again") from error
    return encode_values(columns, row_values(columns, json.loads(text)))


def unseen_row() -> HoldoutRow:
    """Return a row of the holdout, whose hash keeps it out of every training."""
    connection = session("trainer")
    with connection:
        read_one_snapshot(connection)
        table = read_table(connection)
        hashed = row_hash(table, "s")
        value, label = execute(
            connection,
            sql.SQL(
                "SELECT to_jsonb(s.*), s.{label}::text FROM {table} AS s WHERE {split} = 'holdout' "
                "ORDER BY {hash} LIMIT 1"
            ).format(
                label=sql.Identifier(table.source.label), table=table.name, split=split_of_hash(hashed), hash=hashed
            ),
        )[0]  # fmt: skip
    return HoldoutRow(psycopg2.extras.Json(value), "jsonb", label, "a row")
