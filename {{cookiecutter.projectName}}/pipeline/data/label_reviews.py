"""Decisions of people about labels, in the inference database."""

from collections.abc import Sequence

from psycopg2.extensions import connection as Connection

from pipeline.databases import query
from pipeline.run_identity import person
from pipeline.settings import settings

ACCEPTED, REFUSED, WAITING = "accepted", "refused", "waiting"


def decide(inference: Connection, verdict: str, condition: str, values: Sequence[object]) -> int:
    """Store a verdict about the labels of a condition in SQL over label_status; return how many it changes."""
    decided = query(
        inference,
        "INSERT INTO {schema}.label_review (label_id, verdict, reviewed_by) "
        "SELECT label_id, %s, %s FROM {schema}.label_status WHERE model = %s AND verdict <> %s AND " + condition + " "
        "ON CONFLICT (label_id) DO UPDATE SET verdict = excluded.verdict, reviewed_by = excluded.reviewed_by, "
        "reviewed_at = clock_timestamp() RETURNING 1",
        (verdict, person(), settings().model, verdict, *values),
    )
    return len(decided)


def waiting_labels(inference: Connection, model: str) -> int:
    """Return how many labels nobody has reviewed."""
    rows = query(
        inference,
        "SELECT count(*) FROM {schema}.label_status WHERE model = %s AND verdict = 'waiting'",
        (model,),
    )
    return int(rows[0][0])
