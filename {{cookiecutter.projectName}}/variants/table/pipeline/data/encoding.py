"""The encoding of the source table: classes, vocabularies and scales, measured by SQL on its rows."""

import decimal
import hashlib
import json
from typing import NamedTuple

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.data import feedback
from pipeline.data.catalog import Column, Table, read_table
from pipeline.data.expressions import (
    OwnRows,
    column_list,
    comma_separated,
    evaluated_once,
    execute,
    labelled_candidates,
    labelled_rows,
    source_rows,
    split_of_row,
)
from pipeline.data.splits import SPLITS
from pipeline.databases import query
from pipeline.errors import StepError
from pipeline.records import ColumnEncoding, Encoding, NumberEncoding, TextEncoding

MOST_CLASSES = 1000
MOST_TEXTS = 50
# A smaller share of the mean is what rounding leaves of a constant column's deviation.
LEAST_RELATIVE_DEVIATION = 1e-11


class Examined(NamedTuple):
    """The result of a look at all rows: row counts per split and class, encoding and hash, and the rows' SELECT.

    `labelled` is the SELECT of the labelled rows among them, None where there are none.
    """

    table: Table
    classes: list[str]
    counts: dict[str, dict[str, int]]
    encoding: Encoding
    data_hash: str
    rows: sql.Composable
    labelled: sql.Composable | None = None

    @property
    def width(self) -> int:
        """The number of values in an encoded row."""
        return sum(len(column["vocabulary"]) if column["kind"] == "text" else 1 for column in self.encoding["columns"])

    def row_counts(self) -> dict[str, int]:
        """Return the row counts per split."""
        return {split: sum(labels.values()) for split, labels in self.counts.items()}


class Scale(NamedTuple):
    """Mean and deviation of a column's training rows, None where no value is known, and whether any row has NULL."""

    mean: float | None
    deviation: float | None
    nulls: bool


def examine(connection: Connection, with_labelled: bool) -> Examined:
    """Measure all rows of the table, and the labelled rows where there are any (`with_labelled`). Raises StepError."""
    table = read_table(connection)
    _require_key(connection, table)
    classes = _classes(connection, table)
    vocabularies = [
        _vocabulary(connection, table, number) if column.kind == "text" else None
        for number, column in enumerate(table.columns)
    ]
    rows: sql.Composable = source_rows(table)
    labelled: sql.Composable | None = None
    if with_labelled:
        own = _own_rows(connection, table)
        labelled = labelled_candidates(table, classes, own)
        rows = sql.SQL("{} UNION ALL {}").format(rows, labelled_rows(table, classes, own))
    _measure(connection, table, rows)
    counts, rows_hash = _counts(connection)
    _require_all_classes(table, classes, counts)
    columns = [
        _column_encoding(column, scale, vocabulary)
        for column, scale, vocabulary in zip(table.columns, _scales(connection, table), vocabularies)
    ]
    query(connection, "DROP TABLE measured")
    encoding = Encoding(label=table.source.label, key=list(table.key), columns=columns)
    data_hash = _data_hash(table, vocabularies, classes, counts, rows_hash)
    examined = Examined(table, classes, counts, encoding, data_hash, rows, labelled)
    if not examined.width:
        raise StepError(f"{table.where}: no column to predict from has a value in the training rows")
    return examined


def _own_rows(connection: Connection, table: Table) -> OwnRows:
    """Return the limits that the table's own rows set for labelled rows: how many, and between which numbers."""
    numbers = [number for number, column in enumerate(table.columns) if column.kind == "number"]
    extremes = [
        sql.SQL("min({column}), max({column})").format(column=sql.Identifier(f"c{number}")) for number in numbers
    ]
    statement = sql.SQL("SELECT {values} FROM {rows} GROUP BY 1").format(
        values=comma_separated([sql.SQL("{}, count(*)").format(split_of_row()), *extremes]),
        rows=evaluated_once(source_rows(table)),
    )
    counts, ranges = dict.fromkeys(SPLITS, 0), {}
    for split, count, *values in execute(connection, statement):
        counts[split] = count
        if split == "train":
            ranges = dict(zip(numbers, zip(values[::2], values[1::2])))
    return OwnRows(feedback.limits_by_split(counts), ranges)


def _data_hash(
    table: Table,
    vocabularies: list[list[str] | None],
    classes: list[str],
    counts: dict[str, dict[str, int]],
    rows_hash: str,
) -> str:
    # The form is part of the hash: a data set that was packed before keeps its name.
    texts = [{} if vocabulary is None else {"vocabulary": vocabulary} for vocabulary in vocabularies]
    content = json.dumps([table.source.label, table.columns, texts, classes, counts, rows_hash], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _require_key(connection: Connection, table: Table) -> None:
    """Raise StepError when the columns that project.yaml calls the key do not identify a row."""
    if table.key_is_unique or not table.key:
        return
    nulls = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier("s", name)) for name in table.key)
    option = f"project.yaml: source.key is {', '.join(table.key)}"
    count = execute(connection, sql.SQL("SELECT count(*) FROM {} AS s WHERE {}").format(table.name, nulls))[0][0]
    if count:
        raise StepError(f"{option}; {count:,} rows of {table.where} have no value there, so it names no row")
    repeated = sql.SQL("SELECT 1 FROM {} AS s GROUP BY {} HAVING count(*) > 1 LIMIT 1").format(
        table.name, column_list("s", table.key)
    )
    if execute(connection, repeated):
        raise StepError(f"{option}; several rows of {table.where} have the same value there, so it names no row")


def _classes(connection: Connection, table: Table) -> list[str]:
    """Return the labels in their order. Raises StepError when a model cannot be trained on them."""
    label = sql.Identifier(table.source.label)
    where = f"{table.where}: the label {table.source.label}"
    distinct = sql.SQL("SELECT DISTINCT {}::text FROM {} LIMIT {}").format(
        label, table.name, sql.Literal(MOST_CLASSES + 2)
    )
    texts = {text for (text,) in execute(connection, distinct)}
    if not texts:
        raise StepError(f"{table.where} is empty; there must be rows of every class to train on")
    labels = {text for text in texts if text is not None}
    if len(labels) > MOST_CLASSES:
        raise StepError(
            f"{where} has more than {MOST_CLASSES:,} different values; it must name at most so many classes"
        )
    if None in texts:
        nulls = sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(table.name, label)
        count = execute(connection, nulls)[0][0]
        raise StepError(f"{where} is NULL in {count:,} rows; every row must have one: train on a view without them")
    if "NaN" in labels:
        raise StepError(f"{where} is NaN in some rows; every row must have a class: train on a view without them")
    if len(labels) < 2:
        raise StepError(f"{where} is {labels.pop()} in every row; there must be two classes at least")
    return sorted(labels, key=decimal.Decimal) if table.label_is_number else sorted(labels)


def _require_all_classes(table: Table, classes: list[str], counts: dict[str, dict[str, int]]) -> None:
    """Raise StepError when a class has no row in some split."""
    for name in classes:
        missing = [split for split in SPLITS if not counts[split].get(name)]
        if missing:
            rows = sum(split_counts.get(name, 0) for split_counts in counts.values())
            raise StepError(
                f"{table.where}: of the {rows:,} rows of class {name} none is in the {missing[0]} split; every class "
                "needs rows in each split: give more rows of it, or leave it out by a view"
            )


def _vocabulary(connection: Connection, table: Table, number: int) -> list[str]:
    """Return the different texts of a column in the table's training rows, sorted. Raises StepError."""
    statement = sql.SQL(
        "SELECT DISTINCT {name} FROM {rows} WHERE {split} = 'train' AND {name} IS NOT NULL LIMIT {limit}"
    ).format(
        name=sql.Identifier(f"c{number}"),
        rows=evaluated_once(source_rows(table)),
        split=split_of_row(),
        limit=sql.Literal(MOST_TEXTS + 1),
    )
    texts = [text for (text,) in execute(connection, statement)]
    if len(texts) > MOST_TEXTS:
        raise StepError(
            f"{table.where}: the column {table.columns[number].name} has more than {MOST_TEXTS} different texts; leave "
            "it out of source.features in project.yaml, or group its values in a view"
        )
    return sorted(texts)


def _measure(connection: Connection, table: Table, rows: sql.Composable) -> None:
    """Read every row once and fill the temporary table `measured`, with one row per split and class.

    Labelled rows are apart. It has the row count, a hash of the rows that does not depend on their order, and mean,
    variance and count per column. Raises StepError.
    """
    names = [sql.Identifier(f"c{number}") for number in range(len(table.columns))]
    is_text = [column.kind == "text" for column in table.columns]

    def per_column(of_number: str, of_text: str) -> sql.Composed:
        return comma_separated(
            [sql.SQL(of_text if text else of_number).format(name) for name, text in zip(names, is_text)]
        )

    numbers = [name for name, text in zip(names, is_text) if not text]
    texts = [sql.Identifier("label"), *(name for name, text in zip(names, is_text) if text)]
    statement = sql.SQL(
        "CREATE TEMP TABLE measured ON COMMIT DROP AS SELECT {split} AS split, label, is_labelled, "
        "count(*) AS row_count, "
        'sum(hash_array_extended(ARRAY[{numbers}]::float8[], hashtextextended(ROW({texts})::text COLLATE "C", hash))) '
        "AS hashed, "
        "ARRAY[{means}]::float8[] AS means, ARRAY[{variances}]::float8[] AS variances, "
        "ARRAY[{known}]::bigint[] AS known FROM {rows} GROUP BY 1, 2, 3"
    ).format(
        split=split_of_row(),
        numbers=comma_separated(numbers),
        texts=comma_separated(texts),
        means=per_column("avg({})", "NULL"),
        variances=per_column("var_pop({})", "NULL"),
        known=per_column("count({})", "count({})"),
        rows=evaluated_once(rows),
    )
    try:
        execute(connection, statement)
    except psycopg2.errors.NumericValueOutOfRange as error:
        raise StepError(f"{table.where}: a column holds numbers too large to take a mean of") from error


def _counts(connection: Connection) -> tuple[dict[str, dict[str, int]], str]:
    """Return the row counts per split and class, and the hash of all rows."""
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    rows_hash = 0
    for split, label, count, part in query(connection, "SELECT split, label, row_count, hashed FROM measured"):
        of_split = counts.setdefault(split, {})
        of_split[label] = of_split.get(label, 0) + count
        rows_hash += int(part)
    return counts, str(rows_hash)


def _scales(connection: Connection, table: Table) -> list[Scale]:
    """Return the scale of each column, by the table's own rows. Raises StepError when any holds NaN or infinity.

    The variance of all training rows is the mean of the groups' variances plus the variance of the groups' means.
    """
    rows = query(
        connection,
        "WITH one AS (SELECT m.split, m.row_count, u.* FROM measured AS m CROSS JOIN LATERAL "
        "unnest(m.means, m.variances, m.known) WITH ORDINALITY AS u (mean, variance, known, place) "
        "WHERE NOT m.is_labelled), "
        "whole AS (SELECT place, sum(known * mean) / nullif(sum(known), 0) AS mean FROM one WHERE split = 'train' "
        "GROUP BY place) "
        "SELECT w.mean, sqrt(sum(o.known * (o.variance + (o.mean - w.mean) ^ 2)) FILTER (WHERE o.split = 'train') "
        "/ nullif(sum(o.known) FILTER (WHERE o.split = 'train'), 0)), sum(o.known) < sum(o.row_count), "
        "coalesce(bool_and(o.mean NOT IN ('NaN', 'Infinity', '-Infinity')), true) "
        "FROM one AS o INNER JOIN whole AS w ON o.place = w.place GROUP BY o.place, w.mean ORDER BY o.place",
    )
    for column, (_, _, _, is_finite) in zip(table.columns, rows):
        if not is_finite:
            raise StepError(
                f"{table.where}: the column {column.name} holds NaN or infinity; NULL says that a value is not known: "
                "correct it, or train on a view"
            )
    return [Scale(mean, deviation, nulls) for mean, deviation, nulls, _ in rows]


def _column_encoding(column: Column, scale: Scale, vocabulary: list[str] | None) -> ColumnEncoding:
    if column.kind == "text":
        return TextEncoding(
            name=column.name, type=column.type, kind=column.kind, nulls=scale.nulls, vocabulary=vocabulary or []
        )
    return NumberEncoding(
        name=column.name,
        type=column.type,
        kind=column.kind,
        mean=scale.mean or 0.0,
        deviation=_divisor(scale),
        nulls=scale.nulls,
    )


def _divisor(scale: Scale) -> float:
    """Return the number that a column is divided by: its deviation, or 1 where the column is constant."""
    if scale.mean is None or not scale.deviation:
        return 1.0
    return scale.deviation if scale.deviation > LEAST_RELATIVE_DEVIATION * abs(scale.mean) else 1.0


def encoded_numbers(examined: Examined) -> list[sql.Composable]:
    """Return the features as expressions of type float8, NaN for NULL; a text is its position in the vocabulary."""
    numbers: list[sql.Composable] = []
    for number, column in enumerate(examined.encoding["columns"]):
        name = sql.Identifier(f"c{number}")
        if column["kind"] == "text":
            numbers.append(_text_position(name, column["vocabulary"]))
        else:
            numbers.append(sql.SQL("coalesce({}, 'NaN')").format(name))
    return numbers


def _text_position(name: sql.Identifier, vocabulary: list[str]) -> sql.Composed:
    """Return the position from 0 in the vocabulary, one after the last for an unknown text, NaN for NULL."""
    return sql.SQL(
        "CASE WHEN {name} IS NULL THEN 'NaN'::float8 "
        "ELSE coalesce(array_position({vocabulary}::text[], {name}) - 1, {unknown}) END"
    ).format(name=name, vocabulary=sql.Literal(vocabulary), unknown=sql.Literal(len(vocabulary)))
