"""SQL over the source table: the hash and the split of a row, its features, and the rows that people labelled."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.data import labelled_relation
from pipeline.data.catalog import Table
from pipeline.data.feedback import Limits
from pipeline.data.splits import FEEDBACK, HOLDOUT_SHARE, VALIDATION_SHARE
from pipeline.databases import query
from pipeline.settings import settings


class OwnRows(NamedTuple):
    """The limits of labelled rows per split, and the least and largest number per column of the table's training rows.

    The columns are those of numbers, by their position; both extremes are None where no value is known.
    """

    limits: Mapping[str, Limits]
    ranges: Mapping[int, tuple[float | None, float | None]]


def read_one_snapshot(connection: Connection) -> None:
    """Let all statements of the transaction see the same rows, and write values as text in the same way.

    Must be the transaction's first statement. Keys are hashed as text, so settings of the session must not change it.
    Only PostgreSQL's own functions are found: others may write to the schemas of the usual search path.
    """
    query(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    query(connection, "SET LOCAL search_path = pg_catalog, pg_temp")
    for name, value in (
        # To compile long lists of columns takes longer than it saves; with work_mem, a sort of blocks is merged once.
        ("jit", "off"), ("work_mem", "16MB"),
        ("extra_float_digits", "1"), ("datestyle", "ISO, MDY"), ("intervalstyle", "postgres"), ("timezone", "UTC"),
        ("bytea_output", "hex"),
    ):  # fmt: skip
        query(connection, f"SET LOCAL {name} = '{value}'")


def execute(connection: Connection, statement: sql.Composable) -> list[tuple[Any, ...]]:
    """Run a composed statement and return its rows.

    The statement contains its literals, because the name of a column may contain the mark of a parameter.
    """
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def project_name(name: str) -> sql.Identifier:
    """Return a table or function of the project's schema for use in a statement."""
    return sql.Identifier(settings().schema, name)


def comma_separated(parts: Sequence[sql.Composable]) -> sql.Composed:
    """Return the parts with commas between them."""
    return sql.SQL(", ").join(parts)


def column_list(alias: str, names: Sequence[str]) -> sql.Composed:
    """Return the columns of a relation, with commas between them."""
    return comma_separated([sql.Identifier(alias, name) for name in names])


def row_hash(table: Table, alias: str) -> sql.Composed:
    """Return the expression for a row's hash (bigint): of its key if it has one, else of its features.

    The hash of a row never changes.
    """
    fields = column_list(alias, table.key) if table.key else comma_separated(feature_values(table, alias))
    # A key of one column needs no ROW, which would take longer than everything else.
    return text_hash(sql.SQL("{}::text" if len(table.key) == 1 else "ROW({})::text").format(fields))


def text_hash(text: sql.Composable) -> sql.Composed:
    """Return the expression for a text's hash (bigint), which depends on its bytes alone.

    The same function chooses the partition in tables partitioned by hash, so no version of the database may change it.
    """
    return sql.SQL('hashtextextended({} COLLATE "C", 0)').format(text)


def split_of_hash(row_hash: sql.Composable) -> sql.Composed:
    """Return the expression for the split of a row of the table: it depends on the row's hash alone."""
    limits = [round((share - 0.5) * 2**64) for share in (HOLDOUT_SHARE, HOLDOUT_SHARE + VALIDATION_SHARE)]
    # Evaluate the hash once, not at each mention.
    return sql.SQL("(ARRAY['holdout', 'validation', 'train'])[1 + width_bucket({}, {}::bigint[])]").format(
        row_hash, sql.Literal(limits)
    )


def split_of_row() -> sql.Composed:
    """Return the expression for the split of a row of `source_rows` or `labelled_rows`.

    Labelled rows that are not in `train` form a split of their own.
    """
    return sql.SQL("CASE WHEN is_labelled AND {split} <> 'train' THEN {feedback} ELSE {split} END").format(
        split=split_of_hash(sql.Identifier("hash")), feedback=sql.Literal(FEEDBACK)
    )


def feature_values(table: Table, alias: str) -> list[sql.Composed]:
    """Return the features as they are compared and hashed: numbers and booleans as float8, texts as text."""
    casts = {"number": "{}::float8", "boolean": "{}::int::float8", "text": "{}::text"}
    return [sql.SQL(casts[column.kind]).format(sql.Identifier(alias, column.name)) for column in table.columns]


def source_rows(table: Table) -> sql.Composed:
    """Return the SELECT of each row's features c0, c1, …, its label as text, its hash, and that nobody labelled it."""
    return sql.SQL(
        "SELECT {features}, s.{label}::text AS label, {hash} AS hash, false AS is_labelled FROM {table} AS s"
    ).format(
        features=_numbered_features(table, "s"),
        label=sql.Identifier(table.source.label),
        hash=row_hash(table, "s"),
        table=table.name,
    )


def labelled_rows(table: Table, classes: list[str], own: OwnRows) -> sql.Composed:
    """Return the SELECT of the rows that people labelled, in the form of `source_rows`.

    Such a row has no key: its features decide its split. `own` limits them as in `labelled_candidates`.
    """
    return sql.SQL("SELECT {features}, label, hash, true AS is_labelled FROM ({candidates}) AS l").format(
        features=comma_separated([sql.Identifier(f"c{number}") for number in range(len(table.columns))]),
        candidates=labelled_candidates(table, classes, own),
    )


def labelled_candidates(table: Table, classes: list[str], own: OwnRows) -> sql.Composed:
    """Return the SELECT of the labelled rows that may be used: features, label, hash and prediction_id.

    Rows of the table are left out, and rows with a number farther outside the table's range than this range is wide. Of
    the others, those labelled last are taken, as many per split as the limits allow of each subject, and then of all
    subjects.
    """
    columns = [(column.name, column.kind, column.type) for column in table.columns]
    names = labelled_relation.provenance([table.source.label, *(column.name for column in table.columns)])
    labelled = sql.SQL("({}) AS p").format(labelled_relation.select_rows(columns, table.source.label, classes))
    ours, theirs = (
        sql.SQL("ROW({})::text").format(comma_separated(feature_values(table, alias))) for alias in ("p", "s")
    )
    new_rows = sql.SQL(
        "SELECT {features}, p.{label} AS label, {hash} AS hash, p.{prediction_id} AS prediction_id, "
        "p.{subject} AS subject, p.{labelled_at} AS labelled_at FROM {labelled} WHERE {ours} NOT IN ("
        "SELECT {theirs} FROM {table} AS s WHERE {theirs} IN (SELECT {ours} FROM {labelled}))"
    ).format(
        features=_numbered_features(table, "p"), label=sql.Identifier(table.source.label), table=table.name,
        labelled=labelled, ours=ours, theirs=theirs, hash=text_hash(ours),
        **{name: sql.Identifier(column) for name, column in names._asdict().items()},
    )  # fmt: skip
    return sql.SQL(
        "SELECT * FROM (SELECT *, {place_of_all} AS place FROM (SELECT *, {place_of_subject} AS place_of_subject FROM ("
        "SELECT *, {split} = 'train' AS in_training FROM {rows} WHERE {is_near}) AS divided) AS numbered "
        "WHERE place_of_subject <= CASE WHEN in_training THEN {of_subject} ELSE {of_subject_apart} END) AS limited "
        "WHERE place <= CASE WHEN in_training THEN {of_all} ELSE {of_all_apart} END"
    ).format(
        place_of_all=_place("in_training"),
        place_of_subject=_place("subject, in_training"),
        split=split_of_hash(sql.Identifier("hash")),
        rows=evaluated_once(new_rows),
        is_near=_is_near(own.ranges),
        of_subject=sql.Literal(own.limits["train"].per_subject),
        of_subject_apart=sql.Literal(own.limits[FEEDBACK].per_subject),
        of_all=sql.Literal(own.limits["train"].total),
        of_all_apart=sql.Literal(own.limits[FEEDBACK].total),
    )


def _is_near(ranges: Mapping[int, tuple[float | None, float | None]]) -> sql.Composable:
    """Return the condition that no number lies farther outside its range than the range is wide."""
    conditions = [
        sql.SQL("({column} IS NULL OR {column} BETWEEN {low} AND {high})").format(
            column=sql.Identifier(f"c{number}"),
            low=sql.Literal(low - (high - low)),
            high=sql.Literal(high + (high - low)),
        )
        for number, (low, high) in ranges.items()
        if low is not None and high is not None
    ]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


def _place(group: str) -> sql.Composable:
    """Return the expression for a labelled row's position in its group, from the last label on."""
    return sql.SQL(f"row_number() OVER (PARTITION BY {group} ORDER BY labelled_at DESC, prediction_id)")


def _numbered_features(table: Table, alias: str) -> sql.Composed:
    """Return the features with their names c0, c1, …"""
    return comma_separated(
        [
            sql.SQL("{} AS {}").format(value, sql.Identifier(f"c{number}"))
            for number, value in enumerate(feature_values(table, alias))
        ]
    )


def evaluated_once(rows: sql.Composable) -> sql.Composed:
    """Return a SELECT as a relation r whose expressions are evaluated once per row.

    OFFSET keeps the planner from merging it with the outer query. A plain 0 would be cast while the query is planned,
    and until then it prevents parallel plans.
    """
    return sql.SQL("({} OFFSET '0'::bigint) AS r").format(rows)
