"""Deletion of predictions and labels from both databases, and the data sets and versions that contained them."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline.data import labelled_rows
from pipeline.databases import query


class Affected(NamedTuple):
    """A data set with some labelled rows, and the versions that were trained on it."""

    dataset: str
    data_hash: str
    versions: list[int]


def affected(connection: Connection, prediction_ids: Sequence[str]) -> list[Affected]:
    """Return the data sets that contain labelled rows of some predictions, oldest first."""
    rows = query(
        connection,
        "SELECT d.dataset, d.data_hash, array_remove(array_agg(DISTINCT v.version), NULL) "
        "FROM {schema}.dataset AS d LEFT JOIN {schema}.training_run AS r ON r.dataset = d.dataset "
        "LEFT JOIN {schema}.registered_version AS v ON v.run_hash = r.run_hash WHERE d.dataset IN ("
        "SELECT m.dataset FROM {schema}.dataset_labelled_row AS m WHERE m.prediction_id = ANY(%s)) "
        "GROUP BY d.dataset, d.data_hash, d.uploaded_at ORDER BY d.uploaded_at",
        (list(prediction_ids),),
    )
    return [Affected(*row) for row in rows]


def predictions_of(inference: Connection, subject: str) -> list[str]:
    """Return the ids of the predictions that a subject asked for or labelled."""
    rows = query(
        inference,
        "SELECT prediction_id::text FROM {schema}.prediction_log WHERE subject = %(subject)s "
        "UNION SELECT prediction_id::text FROM {schema}.prediction_label WHERE subject = %(subject)s",
        {"subject": subject},
    )
    return [prediction_id for (prediction_id,) in rows]


def delete_predictions(inference: Connection, prediction_ids: Sequence[str], subject: str) -> tuple[int, int]:
    """Delete predictions with their labels; return how many predictions and labels.

    With a subject, the predictions that it asked for and the labels that it gave; predictions of others stay.
    """
    ids = list(prediction_ids)
    labels = query(
        inference,
        "DELETE FROM {schema}.prediction_label WHERE prediction_id = ANY(%(ids)s::uuid[]) AND (%(subject)s = '' OR "
        "subject = %(subject)s OR prediction_id IN ("
        "SELECT prediction_id FROM {schema}.prediction_log WHERE subject = %(subject)s)) RETURNING 1",
        {"ids": ids, "subject": subject},
    )
    predictions = query(
        inference,
        "DELETE FROM {schema}.prediction_log WHERE prediction_id = ANY(%(ids)s::uuid[]) "
        "AND (%(subject)s = '' OR subject = %(subject)s) RETURNING 1",
        {"ids": ids, "subject": subject},
    )
    return len(predictions), len(labels)


def delete_copies(training: Connection, prediction_ids: Sequence[str], datasets: Sequence[Affected]) -> int:
    """Delete the copies of labelled rows, and the blocks of the data sets that contain them; return how many copies.

    `training` is a session of the deploying role.
    """
    names = [data_set.dataset for data_set in datasets]
    deleted = labelled_rows.delete(training, prediction_ids)
    query(training, "DELETE FROM {schema}.dataset_batch WHERE dataset = ANY(%s)", (names,))
    query(training, "DELETE FROM {schema}.dataset_labelled_row WHERE dataset = ANY(%s)", (names,))
    query(training, "UPDATE {schema}.dataset SET erased_at = now() WHERE dataset = ANY(%s)", (names,))
    return deleted


def clause(datasets: Sequence[Affected]) -> str:
    """Return a clause about the data sets and versions that contained the rows."""
    if not datasets:
        return "no data set contained them"
    names = ", ".join(data_set.data_hash[:12] for data_set in datasets)
    versions = sorted({version for data_set in datasets for version in data_set.versions})
    trained = f"trained versions: {', '.join(map(str, versions)) or 'none'}"
    return f"data that contained them: {names}; {trained}; `./run retrain` trains without them"
