"""Rows that people labelled where the model is served, copied to the training database."""

import datetime
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import psycopg2.extras
from psycopg2.extensions import connection as Connection

from pipeline.data.label_reviews import ACCEPTED, WAITING
from pipeline.databases import in_schema, query
from pipeline.settings import settings

ROWS_PER_FETCH = 1000


class LabelledRow(NamedTuple):
    """A row of the table labelled_row: `subject` gave the label, `asked_by` sent the row."""

    prediction_id: str
    features: bytes
    shape: str
    dtype: str
    label: str
    labelled_at: datetime.datetime
    subject: str
    asked_by: str


def stored_inputs(inference: Connection, model: str, doubtful: Collection[str] = ()) -> Iterator[list[LabelledRow]]:
    """Yield the labelled predictions of a model whose input was stored, up to ROWS_PER_FETCH at a time.

    Of a prediction's labels, the last one that was accepted counts, or where project.yaml says `labels: automatic` the
    last one that was not refused and whose subject is not among the `doubtful`. `inference` is a session of the
    deploying role. The row of a table is stored as JSON: its dtype is "json".
    """
    with inference.cursor("labelled_prediction") as cursor:
        cursor.execute(
            in_schema(
                "SELECT DISTINCT ON (s.prediction_id) s.prediction_id::text, s.input, "
                "array_to_string(v.input_shape, ','), coalesce(%s, v.input_dtype), s.label, s.labelled_at, s.subject, "
                "s.asked_by FROM {schema}.label_status AS s JOIN {schema}.model_version AS v USING (model, version) "
                "WHERE s.input IS NOT NULL AND s.model = %s AND s.verdict = ANY(%s) "
                "AND (s.verdict = 'accepted' OR s.subject <> ALL(%s)) ORDER BY s.prediction_id, s.label_id DESC"
            ),
            ("json" if settings().source else None, model, _usable_verdicts(), list(doubtful)),
        )
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield [LabelledRow(*row) for row in rows]


def refused_predictions(inference: Connection, model: str) -> list[str]:
    """Return the ids of the predictions with a refused label and no label that `stored_inputs` would take."""
    rows = query(
        inference,
        "SELECT prediction_id::text FROM {schema}.label_status WHERE model = %s "
        "GROUP BY prediction_id HAVING bool_or(verdict = 'refused') AND NOT bool_or(verdict = ANY(%s))",
        (model, _usable_verdicts()),
    )
    return [prediction_id for (prediction_id,) in rows]


def _usable_verdicts() -> list[str]:
    """Return the verdicts about labels that may be trained on."""
    return [ACCEPTED] if settings().monitoring.labels == "reviewed" else [ACCEPTED, WAITING]


def upsert(trainer: Connection, rows: Sequence[LabelledRow]) -> int:
    """Write rows of `stored_inputs` to labelled_row; return how many are new or have another label now."""
    with trainer.cursor() as cursor:
        changed = psycopg2.extras.execute_values(
            cursor,
            in_schema(
                "INSERT INTO {schema}.labelled_row AS stored "
                "(prediction_id, features, shape, dtype, label, labelled_at, subject, asked_by) VALUES %s "
                "ON CONFLICT (prediction_id) DO UPDATE SET label = excluded.label, labelled_at = excluded.labelled_at, "
                "subject = excluded.subject WHERE stored.label <> excluded.label RETURNING 1"
            ),
            rows,
            fetch=True,
        )
    return len(changed)


def ids_of_subject(connection: Connection, subject: str) -> list[str]:
    """Return the ids of the predictions that a subject asked for or labelled, in labelled_row or any data set."""
    rows = query(
        connection,
        "SELECT prediction_id FROM {schema}.labelled_row WHERE subject = %(subject)s OR asked_by = %(subject)s UNION "
        "SELECT prediction_id FROM {schema}.dataset_labelled_row WHERE subject = %(subject)s OR asked_by = %(subject)s",
        {"subject": subject},
    )
    return [prediction_id for (prediction_id,) in rows]


def ids_labelled_by(connection: Connection, subject: str) -> list[str]:
    """Return the ids of the predictions in some data set that a subject labelled."""
    rows = query(
        connection, "SELECT DISTINCT prediction_id FROM {schema}.dataset_labelled_row WHERE subject = %s", (subject,)
    )
    return [prediction_id for (prediction_id,) in rows]


def delete(connection: Connection, prediction_ids: Collection[str] = (), subjects: Collection[str] = ()) -> int:
    """Delete the labelled rows of some predictions, and those that some subjects labelled; return how many."""
    deleted = query(
        connection,
        "DELETE FROM {schema}.labelled_row WHERE prediction_id = ANY(%s) OR subject = ANY(%s) RETURNING 1",
        (list(prediction_ids), list(subjects)),
    )
    return len(deleted)


def delete_expired(trainer: Connection) -> int:
    """Delete the labelled rows that are older than `monitoring.retentionDays`; return how many."""
    deleted = query(
        trainer,
        "DELETE FROM {schema}.labelled_row WHERE labelled_at < now() - make_interval(days => %s) RETURNING 1",
        (settings().monitoring.retention_days,),
    )
    return len(deleted)
