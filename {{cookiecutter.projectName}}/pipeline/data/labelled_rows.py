"""Rows that people labelled where the model serves, brought to the training database."""

from collections.abc import Iterator
from typing import Any

import psycopg2.extras

from pipeline.databases import in_schema
from pipeline.settings import settings

FETCHED_AT_ONCE = 1000


def stored_inputs(inference: Any, model: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield labelled predictions whose input was kept, in parts: (prediction_id, features, shape, dtype, label,
    labelled_at), as labelled_row holds them. `inference` is a session that may read the log.

    A table's row is kept as JSON, which is its dtype.
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
        while rows := cursor.fetchmany(FETCHED_AT_ONCE):
            yield rows


def keep(trainer: Any, rows: list[tuple[Any, ...]]) -> int:
    """Write rows of `stored_inputs` into labelled_row; return how many are new there or have another label now."""
    with trainer.cursor() as cursor:
        changed = psycopg2.extras.execute_values(
            cursor,
            in_schema(
                "INSERT INTO {schema}.labelled_row AS kept "
                "(prediction_id, features, shape, dtype, label, labelled_at) VALUES %s "
                "ON CONFLICT (prediction_id) DO UPDATE SET label = excluded.label, labelled_at = excluded.labelled_at "
                "WHERE kept.label <> excluded.label RETURNING 1"
            ),
            rows,
            fetch=True,
        )
    return len(changed)
