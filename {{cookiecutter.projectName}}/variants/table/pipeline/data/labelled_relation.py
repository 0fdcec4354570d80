"""Rows of the table that people labelled where the model is served, as a SELECT in the table's form."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2 import sql

from pipeline.settings import settings

# SQL types of an encoding's kinds. A column's own type may be too short for what a person sent.
TYPES = {"number": "double precision", "boolean": "boolean", "text": "text"}


class Provenance(NamedTuple):
    """The names of the columns that say where a labelled row comes from; no column of the table has one of them."""

    prediction_id: str
    subject: str
    labelled_at: str


def provenance(columns: Sequence[str]) -> Provenance:
    """Return names beside those of the table's columns."""
    return Provenance(*(_unused(name, columns) for name in Provenance._fields))


def _unused(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else _unused(f"{name}_", taken)


def select_rows(columns: Sequence[tuple[str, str, str]], label: str, classes: Sequence[str]) -> sql.Composed:
    """Return a SELECT of labelled_row with columns of the table, given as (name, kind, type), and the label.

    The columns of `provenance` follow. Of equal rows it returns the one labelled last; it leaves out rows that lack a
    column, and labels that are no class. collect_labels stores the JSON that the model was given, which the app had
    checked, so no cast can fail.
    """
    read = [
        sql.SQL("(latest.given ->> {name})::{cast} AS {column}").format(
            name=sql.Literal(name), cast=sql.SQL(_cast(kind, column_type)), column=sql.Identifier(name)
        )
        for name, kind, column_type in columns
    ]
    names = provenance([label, *(name for name, _, _ in columns)])
    read += [
        sql.SQL("latest.{} AS {}").format(sql.Identifier(own), sql.Identifier(name))
        for own, name in zip(Provenance._fields, names)
    ]
    return sql.SQL(
        "SELECT {read}, latest.label AS {label} FROM ("
        "SELECT DISTINCT ON (j.given) j.given, j.label, j.prediction_id, j.subject, j.labelled_at FROM ("
        "SELECT CASE WHEN dtype = 'json' THEN convert_from(features, 'UTF8')::jsonb END AS given, "
        "label, labelled_at, prediction_id, subject FROM {labelled_row}"
        ") AS j WHERE j.given ?& {names}::text[] ORDER BY j.given, j.labelled_at DESC, j.prediction_id DESC"
        ") AS latest WHERE latest.label = ANY({classes}::text[])"
    ).format(
        read=sql.SQL(", ").join(read),
        label=sql.Identifier(label),
        labelled_row=sql.Identifier(settings().schema, "labelled_row"),
        names=sql.Literal([name for name, _, _ in columns]),
        classes=sql.Literal(list(classes)),
    )


def _cast(kind: str, column_type: str) -> str:
    """Return the casts that turn a JSON text into the value the table's column would hold.

    A real has fewer digits, and a char loses its blanks at the end.
    """
    if column_type == "real":
        return f"{TYPES[kind]}::real"
    return "bpchar::text" if column_type.startswith("character(") else TYPES[kind]
