"""Rows that people labelled where the model is served, copied to the training database."""

import datetime
from collections.abc import Iterator

import psycopg2.extras
from psycopg2.extensions import connection as Connection

from pipeline.databases import in_schema
from pipeline.settings import settings

ROWS_PER_FETCH = 1000

# prediction_id, features, shape, dtype, label, labelled_at: the columns of labelled_row.
LabelledRow = tuple[str, bytes, str, str, str, datetime.datetime]


def stored_inputs(inference: Connection, model: str) -> Iterator[list[LabelledRow]]:
    """Yield the labelled predictions of a model whose input was stored, up to ROWS_PER_FETCH at a time.

    `inference` is a session that may read the log. The row of a table is stored as JSON: its dtype is "json".
    """
    with inference.cursor("labelled_prediction") as cursor:
        cursor.execute(
            in_schema(
                "SELECT l.prediction_id::text, l.input, array_to_string(v.input_shape, ','), "
                "coalesce(%s, v.input_dtype), l.label, l.labelled_at FROM {schema}.labelled_prediction AS l "
                "JOIN {schema}.model_version AS v USING (model, version) WHERE l.input IS NOT NULL AND l.model = %s"
            ),
            ("json" if settings().source else None, model),
        )
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield rows


def upsert(trainer: Connection, rows: list[LabelledRow]) -> int:
    """Write rows of `stored_inputs` to labelled_row; return how many are new or have another label now."""
    with trainer.cursor() as cursor:
        changed = psycopg2.extras.execute_values(
            cursor,
            in_schema(
                "INSERT INTO {schema}.labelled_row AS stored "
                "(prediction_id, features, shape, dtype, label, labelled_at) VALUES %s "
                "ON CONFLICT (prediction_id) DO UPDATE SET label = excluded.label, labelled_at = excluded.labelled_at "
                "WHERE stored.label <> excluded.label RETURNING 1"
            ),
            rows,
            fetch=True,
        )
    return len(changed)
