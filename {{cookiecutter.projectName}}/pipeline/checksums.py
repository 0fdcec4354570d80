"""Checksums of change sets that were worded anew after release 0.1.0 had deployed them."""

import psycopg2.extensions

from pipeline.databases import has_relation, query

# The change set in both changelogs that marks a database whose checksums are those of the present texts.
MARKER = "texts-after-0.1.0"
# Files of 0.1.0, in either changelog: their change sets still do the same.
FILES = (
    "001-roles.sql",
    "002-dataset.sql",
    "002-model.sql",
    "003-predict.sql",
    "003-training-run.sql",
    "004-fit-and-evaluate.sql",
    "004-prediction-log.sql",
    "005-labelled-row.sql",
    "005-monitoring.sql",
    "006-row.sql",
    "006-table.sql",
)


def accept_present_texts(connection: psycopg2.extensions.connection) -> None:
    """Remove the checksums that 0.1.0 wrote, once: Liquibase refuses other checksums, and fills in missing ones.

    A list of accepted checksums in the change sets (validCheckSum) cannot do this, because the schema's name is part of
    every checksum.
    """
    with connection:
        if not has_relation(connection, "databasechangelog"):
            return
        if not query(connection, "SELECT 1 FROM {schema}.databasechangelog WHERE id = %s", (MARKER,)):
            query(
                connection,
                "UPDATE {schema}.databasechangelog SET md5sum = NULL WHERE author = 'project' AND filename = ANY (%s)",
                (list(FILES),),
            )
