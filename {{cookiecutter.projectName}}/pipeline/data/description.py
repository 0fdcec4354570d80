"""The description of a packed data set in the training database, and the labelled rows that it holds."""

from collections.abc import Mapping, Sequence

from psycopg2.extensions import connection as Connection

from pipeline.databases import insert, query


def store(connection: Connection, values: Mapping[str, object]) -> None:
    """Write the row of the table `dataset`; one whose blocks were erased counts as packed again."""
    revived = query(
        connection,
        "UPDATE {schema}.dataset SET erased_at = NULL, selected_at = now() WHERE dataset = %s RETURNING 1",
        (values["dataset"],),
    )
    if not revived:
        insert(connection, "dataset", values)


def store_labelled(connection: Connection, dataset: str, prediction_ids: Sequence[str]) -> None:
    """Record which labelled rows the data set holds, so that `erase` finds it."""
    query(
        connection,
        "INSERT INTO {schema}.dataset_labelled_row (dataset, prediction_id, subject, asked_by) "
        "SELECT %s, prediction_id, subject, asked_by FROM {schema}.labelled_row WHERE prediction_id = ANY(%s) "
        "ON CONFLICT DO NOTHING",
        (dataset, list(prediction_ids)),
    )
