"""Rows of a table that people labelled where the model serves, as SQL: packing adds them to the table's own."""

from collections.abc import Sequence

from psycopg2 import sql

from pipeline.settings import settings

# What the kinds of an encoding are in SQL. Not the columns' own types: what a person sent may be too long for them.
TYPES = {"number": "double precision", "boolean": "boolean", "text": "text"}


def relation(columns: Sequence[tuple[str, str, str]], label: str, classes: Sequence[str]) -> sql.Composed:
    """Return a SELECT of labelled_row with columns of the table: those given as (name, kind, type), and the label.

    Of equal rows there is the one that was labelled last; there are none that lack a column or whose label is none of
    the classes. collect_labels brings them as JSON with the numbers that the model was given, so no cast can fail.
    """
    read = [
        sql.SQL("(kept.given ->> {name})::{cast} AS {column}").format(
            name=sql.Literal(name), cast=sql.SQL(_cast(kind, own)), column=sql.Identifier(name)
        )
        for name, kind, own in columns
    ]
    return sql.SQL(
        "SELECT {read}, kept.label AS {label} FROM ("
        "SELECT DISTINCT ON (j.given) j.given, j.label FROM ("
        "SELECT CASE WHEN dtype = 'json' THEN convert_from(features, 'UTF8')::jsonb END AS given, "
        "label, labelled_at, prediction_id FROM {labelled_row}"
        ") AS j WHERE j.given ?& {names}::text[] ORDER BY j.given, j.labelled_at DESC, j.prediction_id DESC"
        ") AS kept WHERE kept.label = ANY({classes}::text[])"
    ).format(
        read=sql.SQL(", ").join(read),
        label=sql.Identifier(label),
        labelled_row=sql.Identifier(settings().schema, "labelled_row"),
        names=sql.Literal([name for name, _, _ in columns]),
        classes=sql.Literal(list(classes)),
    )


def _cast(kind: str, own: str) -> str:
    """Return the casts of a JSON text that give what the table's column would: of real less digits, of char no blanks
    at the end."""
    if own == "real":
        return f"{TYPES[kind]}::real"
    return "bpchar::text" if own.startswith("character(") else TYPES[kind]
