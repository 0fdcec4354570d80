"""Where the rows come from: a table of the training database. They are examined and packed there, by SQL.

What comes to this client are counts, means, and few values: those that name classes and vocabularies, and the tenths
of each column.
"""

import decimal
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg2
import psycopg2.extras
from psycopg2 import sql

from pipeline import training_db
from pipeline.data import source_labels, splits
from pipeline.data.splits import HOLDOUT_SHARE, SPLITS, VALIDATION_SHARE, Described, Packed, Unseen
from pipeline.databases import binding, insert, query, session
from pipeline.errors import StepError
from pipeline.settings import Source, settings
from pipeline.training_db import AS_STORED, Examples, Features, FinishedRun, TrainingData

KINDS = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double precision"), "number"),
    "boolean": "boolean",
    **dict.fromkeys(("text", "character varying", "character"), "text"),
}
MOST_CLASSES = 1000
MOST_TEXTS = 50
CHECKED_ROWS = 100
# So many rows are enough to know the tenths of a column: a share is off by less than 0.01.
ROWS_FOR_TENTHS = 10_000
# A row's place in the order of the seed: so many values of a hash, which a float8 holds exactly.
PLACES = 2**52


class Column(NamedTuple):
    """A column to predict from: its type as PostgreSQL writes it, and number, boolean or text."""

    name: str
    type: str
    kind: str


class Table(NamedTuple):
    """The source table as the catalog knows it; `key` is empty where all features together name a row."""

    source: Source
    columns: list[Column]
    label_type: str
    key: tuple[str, ...]
    key_is_unique: bool

    @property
    def where(self) -> str:
        """The table as a person names it."""
        return f"{self.source.schema}.{self.source.table}"

    @property
    def name(self) -> sql.Identifier:
        """The table in a statement."""
        return sql.Identifier(self.source.schema, self.source.table)


class Examined(NamedTuple):
    """What the table's rows say: rows a split and class, the encoding, a hash; and the SELECT that gives them."""

    table: Table
    classes: list[str]
    counts: dict[str, dict[str, int]]
    encoding: dict[str, Any]
    data_hash: str
    rows: sql.Composable

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(len(column.get("vocabulary", "1")) for column in self.encoding["columns"])

    def split_rows(self) -> dict[str, int]:
        """Return the rows a split."""
        return {split: sum(self.counts[split].values()) for split in SPLITS}


def describe() -> Described:
    """Examine the table as the deploying role: shape of a row, classes. Raises StepError."""
    connection = session("training-deployer")
    with connection:
        _read_at_one_moment(connection)
        examined = _examine(connection, labelled=False)
    return Described((examined.width,), examined.classes)


def grant(connection: Any, group: str) -> None:
    """Let the trainers read the table."""
    with connection:
        table = find(connection)
        names = {
            "schema": sql.Identifier(table.source.schema), "table": table.name, "group": sql.Identifier(group),
            "database": sql.Identifier(connection.info.dbname),
        }  # fmt: skip
        # What is measured is kept in a table of the session.
        _ask(connection, sql.SQL("GRANT TEMPORARY ON DATABASE {database} TO {group}").format(**names))
        _ask(connection, sql.SQL("GRANT USAGE ON SCHEMA {schema} TO {group}").format(**names))
        _ask(connection, sql.SQL("GRANT SELECT ON {table} TO {group}").format(**names))


def pack(connection: Any, seed: int, rows_per_block: int) -> Packed:
    """Put the table's rows, with those that collect_labels brought, into dataset_batch, or find that they are there;
    the caller commits. Raises StepError."""
    _read_at_one_moment(connection)
    labelled = query(connection, "SELECT EXISTS (SELECT 1 FROM {schema}.labelled_row)")[0][0]
    examined = _examine(connection, labelled)
    name = hashlib.sha256(f"{examined.data_hash} {seed} {rows_per_block}".encode()).hexdigest()
    new = not training_db.select_data(connection, name)
    if new:
        _insert_blocks(connection, examined, name, seed, rows_per_block)
        statistics = training_statistics(connection, examined)
        described = {"dataset": name, "data_hash": examined.data_hash, "seed": seed, "rows_per_block": rows_per_block}
        _insert_description(connection, examined, described, statistics)
    kept, used = _labelled(connection, examined) if labelled else (0, 0)
    return Packed(examined.data_hash, examined.split_rows(), used, kept - used, new)


def keep_evaluated(connection: Any, trained: FinishedRun, config: str) -> None:
    """Let predict_row in the training database answer with this model."""
    query(connection, "LOCK TABLE {schema}.evaluated_model IN SHARE ROW EXCLUSIVE MODE")
    query(connection, "DELETE FROM {schema}.evaluated_model")
    insert(
        connection,
        "evaluated_model",
        {
            "run_hash": trained.run_hash,
            "config": config,
            "weights": trained.weights,
            "encoding": json.dumps(trained.data.encoding),
        },
    )


def features_for(kept: dict[str, Any], data: TrainingData) -> Features | None:
    """Return what the model described by `kept` is given of this data set: rows scaled as its own training rows were.

    None when it answers another question: other classes, or a column that this data set has not.
    """
    encoding = kept["encoding"]
    if encoding == data.encoding and kept["classes"] == data.classes:
        return AS_STORED
    if encoding is None or data.encoding is None or kept["classes"] != data.classes:
        return None
    ours, theirs = ({(c["name"], c["kind"]) for c in found["columns"]} for found in (data.encoding, encoding))
    if encoding["label"] != data.encoding["label"] or not theirs <= ours:
        return None
    expression = "{schema}.reencode_block(features, row_count, %s, %s)"
    return Features(expression, (json.dumps(data.encoding), json.dumps(encoding)))


def examples(connection: Any, data: TrainingData) -> Examples:
    """Return rows to check a model with, the row of means first: made up, for no row of the table leaves it."""
    rows = np.random.default_rng(1).standard_normal((CHECKED_ROWS, *data.shape)).astype("<f4")
    rows[0] = 0
    return Examples(rows, {})


def unseen_row() -> Unseen:
    """Return a row of the holdout, which `make demo` asks for: the row's own hash says that it was not trained on."""
    connection = session("trainer")
    with connection:
        _read_at_one_moment(connection)
        table = find(connection)
        value, label = _ask(
            connection,
            sql.SQL(
                "SELECT to_jsonb(s), s.{label}::text FROM {table} AS s WHERE {split} = 'holdout' "
                "ORDER BY {hash} LIMIT 1"
            ).format(
                label=sql.Identifier(table.source.label), table=table.name,
                split=_split(_hash(table, "s")), hash=_hash(table, "s"),
            ),
        )[0]  # fmt: skip
    return Unseen(psycopg2.extras.Json(value), "jsonb", label, "a row")


def find(connection: Any) -> Table:
    """Look the table of project.yaml up in the catalog. Raises StepError: one sentence on the first thing wrong."""
    source = settings().source
    if source is None:
        raise StepError("project.yaml: source is missing; it names the table to train on")
    place = binding("trainer").where
    schemas = query(
        connection,
        "SELECT n.oid, has_schema_privilege(n.oid, 'USAGE') FROM pg_namespace AS n WHERE nspname = %s",
        (source.schema,),
    )
    if not schemas:
        raise StepError(f"project.yaml: source.schema is {source.schema!r}; {place} has no such schema")
    schema, usable = schemas[0]
    tables = query(
        connection,
        "SELECT oid, has_table_privilege(oid, 'SELECT') FROM pg_class "
        "WHERE relnamespace = %s AND relname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f')",
        (schema, source.table),
    )
    if not tables:
        raise StepError(
            f"project.yaml: source.table is {source.table!r}; the schema {source.schema} of {place} has no such table "
            "or view"
        )
    oid, readable = tables[0]
    if not (usable and readable):
        user = connection.info.user
        raise StepError(
            f"{user} may not read {source.schema}.{source.table}: deploy_training_db grants it, or an administrator "
            f"by GRANT USAGE ON SCHEMA and GRANT SELECT ON the table to {user}"
        )
    types = dict(
        query(
            connection,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (oid,),
        )
    )
    primary_key = tuple(
        name
        for (name,) in query(
            connection,
            "SELECT attname FROM pg_index AS i "
            "CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, place) "
            "INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number "
            "WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place",
            (oid,),
        )
    )
    return _checked(source, types, primary_key)


def _checked(source: Source, types: dict[str, str], primary_key: tuple[str, ...]) -> Table:
    """Compare project.yaml with the columns that there are. Raises StepError."""
    where = f"{source.schema}.{source.table}"
    named = [("label", (source.label,)), ("features", source.features or ()), ("key", source.key)]
    for part, names in named:
        for name in names:
            if name not in types:
                raise StepError(
                    f"project.yaml: source.{part} names {name!r}; {where} has the columns {', '.join(types)}"
                )
    if source.label in (source.features or ()):
        raise StepError(f"project.yaml: source.features names {source.label}, which is the label: leave it out")
    key = source.key or primary_key
    if source.label in key:
        raise StepError(
            f"project.yaml: the key of {where} is {', '.join(key)}, among it the label: a corrected label would move "
            "its row to another split; name other columns in source.key"
        )
    chosen = source.features or [name for name in types if name != source.label and name not in key]
    if not chosen:
        raise StepError(f"{where} has no column but the label and the key: there is nothing to predict from")
    columns = [Column(name, types[name], KINDS.get(types[name].split("(")[0], "")) for name in chosen]
    for column in columns:
        if not column.kind:
            raise StepError(
                f"{where}: the column {column.name} is of type {column.type}, which has no encoding (allowed are "
                f"{', '.join(KINDS)}); leave it out of source.features in project.yaml"
            )
    return Table(source, columns, types[source.label], key, not source.key)


def _examine(connection: Any, labelled: bool) -> Examined:
    """Look at every row, with `labelled` at those that people labelled too. Raises StepError."""
    table = find(connection)
    _require_key(connection, table)
    classes = _classes(connection, table)
    vocabularies = [
        _vocabulary(connection, table, number) if column.kind == "text" else {}
        for number, column in enumerate(table.columns)
    ]
    rows: sql.Composable = _rows(table)
    if labelled:
        rows = sql.SQL("{} UNION ALL {}").format(rows, _labelled_rows(table, classes))
    _measure(connection, table, rows)
    counts, hashed = _counts(connection)
    _require_all_classes(table, classes, counts)
    columns = [
        {**column._asdict(), **scale, **vocabulary}
        for column, scale, vocabulary in zip(table.columns, _scales(connection, table), vocabularies)
    ]
    query(connection, "DROP TABLE measured")
    encoding = {"label": table.source.label, "key": list(table.key), "columns": columns}
    told = json.dumps([table.source.label, table.columns, vocabularies, classes, counts, hashed], sort_keys=True)
    examined = Examined(table, classes, counts, encoding, hashlib.sha256(told.encode()).hexdigest(), rows)
    if not examined.width:
        raise StepError(f"{table.where}: no column to predict from has a value in the training rows")
    return examined


def _read_at_one_moment(connection: Any) -> None:
    """Let all statements of the transaction see the same rows, and write values as text in one way.

    The first statement of a transaction. Keys are hashed as text: settings of a session must not move a row. Functions
    are PostgreSQL's own, whatever others have put into a schema that everybody may write.
    """
    query(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    query(connection, "SET LOCAL search_path = pg_catalog, pg_temp")
    for name, value in (
        # Compiling long lists of columns takes longer than it saves; a sort of blocks is merged once.
        ("jit", "off"), ("work_mem", "16MB"),
        ("extra_float_digits", "1"), ("datestyle", "ISO, MDY"), ("intervalstyle", "postgres"), ("timezone", "UTC"),
        ("bytea_output", "hex"),
    ):  # fmt: skip
        query(connection, f"SET LOCAL {name} = '{value}'")


def _ask(connection: Any, statement: sql.Composable) -> list[tuple[Any, ...]]:
    """Run a composed statement, whose literals stand in it: a column's name may hold what would be a parameter."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _own(name: str) -> sql.Identifier:
    """Return a table or function of the project's schema in a statement."""
    return sql.Identifier(settings().schema, name)


def _fields(table: Table, alias: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)


def _hash(table: Table, alias: str) -> sql.Composed:
    """Return the expression for a row's hash, a bigint: of its key alone, else of its features, for ever the same."""
    fields = _fields(table, alias, table.key) if table.key else _values(table, alias)
    # A key of one column needs no brackets, which take longer than all the rest.
    return _text_hash(sql.SQL("{}::text" if len(table.key) == 1 else "ROW({})::text").format(fields))


def _text_hash(text: sql.Composable) -> sql.Composed:
    """Return the expression for a text's hash, which looks at its bytes alone.

    The function chooses the partition in tables partitioned by hash: no version of the database may change it.
    """
    return sql.SQL('hashtextextended({} COLLATE "C", 0)').format(text)


def _values(table: Table, alias: str) -> sql.Composed:
    """Return the features as they are compared and hashed: numbers as float8, texts as text."""
    casts = {"number": "{}::float8", "boolean": "{}::int::float8", "text": "{}::text"}
    return sql.SQL(", ").join(
        sql.SQL(casts[column.kind]).format(sql.Identifier(alias, column.name)) for column in table.columns
    )


def _split(hashed: sql.Composable) -> sql.Composed:
    """Return the expression for a row's split: it depends on the row's hash alone."""
    limits = [round((share - 0.5) * 2**64) for share in (HOLDOUT_SHARE, HOLDOUT_SHARE + VALIDATION_SHARE)]
    # One look at the hash, which is an expression that would else be computed as often as it stands there.
    return sql.SQL("(ARRAY['holdout', 'validation', 'train'])[1 + width_bucket({}, {}::bigint[])]").format(
        hashed, sql.Literal(limits)
    )


def _fenced(rows: sql.Composable) -> sql.Composed:
    """Return a SELECT as a source whose expressions are computed once a row: OFFSET keeps it from being merged with
    what asks it. (A plain 0 is cast while the query is planned, and until then it speaks against parallel workers.)"""
    return sql.SQL("({} OFFSET '0'::bigint) AS r").format(rows)


def _rows(table: Table) -> sql.Composed:
    """Return the SELECT that gives each row's features c0, c1, …, its label as text and its hash."""
    return sql.SQL("SELECT {features}, s.{label}::text AS label, {hash} AS hash FROM {table} AS s").format(
        features=_features(table, "s"),
        label=sql.Identifier(table.source.label),
        hash=_hash(table, "s"),
        table=table.name,
    )


def _features(table: Table, alias: str) -> sql.Composed:
    values = _values(table, alias).seq[::2]
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(value, sql.Identifier(f"c{number}")) for number, value in enumerate(values)
    )


def _labelled_rows(table: Table, classes: list[str]) -> sql.Composed:
    """Return the SELECT of the rows that people labelled, in the form of _rows, less those that the table has.

    Such a row has no key: its features decide its split.
    """
    columns = [(column.name, column.kind, column.type) for column in table.columns]
    labelled = sql.SQL("({}) AS p").format(source_labels.relation(columns, table.source.label, classes))
    ours, theirs = (sql.SQL("ROW({})::text").format(_values(table, alias)) for alias in ("p", "s"))
    return sql.SQL(
        "SELECT {features}, p.{label} AS label, {hash} AS hash FROM {labelled} WHERE {ours} NOT IN ("
        "SELECT {theirs} FROM {table} AS s WHERE {theirs} IN (SELECT {ours} FROM {labelled}))"
    ).format(
        features=_features(table, "p"), label=sql.Identifier(table.source.label), table=table.name,
        labelled=labelled, ours=ours, theirs=theirs, hash=_text_hash(ours),
    )  # fmt: skip


def _labelled(connection: Any, examined: Examined) -> tuple[int, int]:
    """Return how many labelled rows there are, and how many of them are used."""
    kept = query(connection, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    rows = _labelled_rows(examined.table, examined.classes)
    return kept, _ask(connection, sql.SQL("SELECT count(*) FROM ({}) AS r").format(rows))[0][0]


def _require_key(connection: Any, table: Table) -> None:
    """Raise StepError when the columns that project.yaml calls the key do not name a row."""
    if table.key_is_unique or not table.key:
        return
    fields = _fields(table, "s", table.key)
    nulls = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier("s", name)) for name in table.key)
    told = f"project.yaml: source.key is {', '.join(table.key)}"
    count = _ask(connection, sql.SQL("SELECT count(*) FROM {} AS s WHERE {}").format(table.name, nulls))[0][0]
    if count:
        raise StepError(f"{told}; {count:,} rows of {table.where} have no value there, so it names no row")
    twice = sql.SQL("SELECT 1 FROM {} AS s GROUP BY {} HAVING count(*) > 1 LIMIT 1").format(table.name, fields)
    if _ask(connection, twice):
        raise StepError(f"{told}; several rows of {table.where} have the same value there, so it names no row")


def _classes(connection: Any, table: Table) -> list[str]:
    """Return the labels in their order. Raises StepError when a model cannot be trained on them."""
    label = sql.Identifier(table.source.label)
    told = f"{table.where}: the label {table.source.label}"
    found = _ask(
        connection,
        sql.SQL("SELECT DISTINCT {}::text FROM {} LIMIT {}").format(label, table.name, sql.Literal(MOST_CLASSES + 2)),
    )
    labels = {text for (text,) in found}
    if not labels:
        raise StepError(f"{table.where} is empty; there must be rows of every class to train on")
    if len(labels - {None}) > MOST_CLASSES:
        raise StepError(f"{told} has more than {MOST_CLASSES:,} different values; it must name at most so many classes")
    if None in labels:
        missing = sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(table.name, label)
        count = _ask(connection, missing)[0][0]
        raise StepError(f"{told} is NULL in {count:,} rows; every row must have one: train on a view without them")
    if "NaN" in labels:
        raise StepError(f"{told} is NaN in some rows; every row must have a class: train on a view without them")
    if len(labels) < 2:
        raise StepError(f"{told} is {labels.pop()} in every row; there must be two classes at least")
    numbers = KINDS.get(table.label_type.split("(")[0]) == "number"
    return sorted(labels, key=decimal.Decimal if numbers else None)


def _require_all_classes(table: Table, classes: list[str], counts: dict[str, dict[str, int]]) -> None:
    for name in classes:
        missing = [split for split in SPLITS if not counts[split].get(name)]
        if missing:
            rows = sum(found.get(name, 0) for found in counts.values())
            raise StepError(
                f"{table.where}: of the {rows:,} rows of class {name} none is in the {missing[0]} split; every class "
                "needs rows in each split: give more rows of it, or leave it out by a view"
            )


def _vocabulary(connection: Any, table: Table, number: int) -> dict[str, list[str]]:
    """Return the different texts of a column in the table's training rows, sorted. Raises StepError."""
    name = sql.Identifier(f"c{number}")
    found = _ask(
        connection,
        sql.SQL(
            "SELECT DISTINCT {name} FROM {rows} WHERE {split} = 'train' AND {name} IS NOT NULL LIMIT {limit}"
        ).format(
            name=name,
            rows=_fenced(_rows(table)),
            split=_split(sql.Identifier("hash")),
            limit=sql.Literal(MOST_TEXTS + 1),
        ),
    )
    if len(found) > MOST_TEXTS:
        raise StepError(
            f"{table.where}: the column {table.columns[number].name} has more than {MOST_TEXTS} different texts; leave "
            "it out of source.features in project.yaml, or group its values in a view"
        )
    return {"vocabulary": sorted(text for (text,) in found)}


def _measure(connection: Any, table: Table, rows: sql.Composable) -> None:
    """Look at every row once: into the temporary table `measured` go, for each split and class, the number of rows, a
    hash of them that does not depend on their order, and mean, variance and count of every column.

    Raises StepError.
    """
    names = [sql.Identifier(f"c{number}") for number in range(len(table.columns))]
    is_text = [column.kind == "text" for column in table.columns]

    def array(aggregate: str, texts: str) -> sql.Composed:
        parts = [sql.SQL(texts if text else aggregate).format(name) for name, text in zip(names, is_text)]
        return sql.SQL(", ").join(parts)

    numbers = [name for name, text in zip(names, is_text) if not text]
    words = [sql.Identifier("label"), *(name for name, text in zip(names, is_text) if text)]
    statement = sql.SQL(
        "CREATE TEMP TABLE measured ON COMMIT DROP AS SELECT {split} AS split, label, count(*) AS row_count, "
        "sum(hash_array_extended(ARRAY[{numbers}]::float8[], hash_array_extended(ARRAY[{words}]::text[], hash))) "
        "AS hashed, "
        "ARRAY[{means}]::float8[] AS means, ARRAY[{variances}]::float8[] AS variances, "
        "ARRAY[{known}]::bigint[] AS known FROM {rows} GROUP BY 1, 2"
    ).format(
        split=_split(sql.Identifier("hash")),
        numbers=sql.SQL(", ").join(numbers),
        words=sql.SQL(", ").join(words),
        means=array("avg({})", "NULL"),
        variances=array("var_pop({})", "NULL"),
        known=array("count({})", "count({})"),
        rows=_fenced(rows),
    )
    try:
        _ask(connection, statement)
    except psycopg2.errors.NumericValueOutOfRange as error:
        raise StepError(f"{table.where}: a column holds numbers too large to take a mean of") from error


def _counts(connection: Any) -> tuple[dict[str, dict[str, int]], str]:
    """Return the rows a split and class, and the hash of all rows."""
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    hashed = 0
    for split, label, count, part in _ask(connection, sql.SQL("SELECT split, label, row_count, hashed FROM measured")):
        counts[split][label] = count
        hashed += int(part)
    return counts, str(hashed)


def _scales(connection: Any, table: Table) -> list[dict[str, Any]]:
    """Return {mean, deviation, nulls} a column ({nulls} of a text): mean and deviation of the training rows.

    Raises StepError when a number of any row is none (NaN, infinity).
    """
    found = query(
        connection,
        "WITH one AS (SELECT m.split, m.row_count, u.* FROM measured AS m CROSS JOIN LATERAL "
        "unnest(m.means, m.variances, m.known) WITH ORDINALITY AS u (mean, variance, known, place)), "
        "whole AS (SELECT place, sum(known * mean) / nullif(sum(known), 0) AS mean FROM one WHERE split = 'train' "
        "GROUP BY place) "
        "SELECT w.mean, sqrt(sum(o.known * (o.variance + (o.mean - w.mean) ^ 2)) FILTER (WHERE o.split = 'train') "
        "/ nullif(sum(o.known) FILTER (WHERE o.split = 'train'), 0)), sum(o.known) < sum(o.row_count), "
        "coalesce(bool_and(o.mean NOT IN ('NaN', 'Infinity', '-Infinity')), true) "
        "FROM one AS o INNER JOIN whole AS w ON o.place = w.place GROUP BY o.place, w.mean ORDER BY o.place",
    )
    for column, (_, _, _, finite) in zip(table.columns, found):
        if not finite:
            raise StepError(
                f"{table.where}: the column {column.name} holds NaN or infinity; NULL says that a value is not known: "
                "correct it, or train on a view"
            )
    return [
        {"nulls": nulls}
        if column.kind == "text"
        else {"mean": mean or 0.0, "deviation": _deviation(mean, deviation), "nulls": nulls}
        for column, (mean, deviation, nulls, _) in zip(table.columns, found)
    ]


def _deviation(mean: float | None, deviation: float | None) -> float:
    """Return what a column is divided by: 1 where it is constant, for then its deviation is what rounding left."""
    return deviation if mean is not None and deviation and deviation > 1e-11 * abs(mean) else 1.0


def _numbers(examined: Examined) -> sql.Composed:
    """Return the features as expressions of type float8, NaN for NULL; a text is its place in the vocabulary."""
    numbers = []
    for number, column in enumerate(examined.encoding["columns"]):
        name = sql.Identifier(f"c{number}")
        if column["kind"] == "text":
            words = sql.Literal(column["vocabulary"])
            place = "coalesce(array_position({words}::text[], {name}) - 1, {unknown})"
            text = sql.SQL("CASE WHEN {name} IS NULL THEN 'NaN'::float8 ELSE " + place + " END").format(
                name=name, words=words, unknown=sql.Literal(len(column["vocabulary"]))
            )
            numbers.append(text)
        else:
            numbers.append(sql.SQL("coalesce({}, 'NaN')").format(name))
    return sql.SQL(", ").join(numbers)


def _insert_blocks(connection: Any, examined: Examined, name: str, seed: int, rows_per_block: int) -> None:
    """Pack every row by one statement: the rows that hash into the same block become one.

    A block's size is rows_per_block on average: no window sorts the whole table, and each segment packs its own part.
    """
    blocks = [math.ceil(rows / rows_per_block) for rows in examined.split_rows().values()]
    first = [sum(blocks[:number]) for number in range(len(blocks))]
    batch_ids = splits.batch_ids(connection, max(blocks))
    split_of_block = sql.SQL("width_bucket(block, {}::int[])").format(sql.Literal(first))
    batch_id = sql.SQL("block - ({}::int[])[{}]").format(sql.Literal(first), split_of_block)
    if batch_ids is not None:
        batch_id = sql.SQL("({}::int[])[1 + {}]").format(sql.Literal(batch_ids), batch_id)
    # Sorted, a backend holds one block at a time; hashed, all of them.
    query(connection, "SET LOCAL enable_hashagg = off")
    _ask(
        connection,
        sql.SQL(
            "INSERT INTO {dataset_batch} (dataset, split, batch_id, row_count, features, labels) "
            "SELECT {name}, ({splits}::text[])[{split_of_block}], {batch_id}, row_count, "
            "substr(encoded, 4 * row_count + 1), substr(encoded, 1, 4 * row_count) FROM ("
            "SELECT block, count(*)::int AS row_count, "
            "{encode_block}(string_agg(row_bytes, ''::bytea), count(*)::int, {encoding}) AS encoded FROM ("
            # Two columns are sorted, not all: OFFSET keeps the bytes from being made above the sort.
            "SELECT ({first}::int[])[split_number] + floor(place / {places} * ({blocks}::int[])[split_number])::int "
            "AS block, {as_bytes}(ARRAY[place, {class_number}, {numbers}]::float8[]) AS row_bytes FROM ("
            "SELECT *, array_position({splits}::text[], {split}) AS split_number, "
            "(hashtextextended(hash::text, {seed}) & {last_place})::float8 AS place "
            "FROM {rows} OFFSET 0) AS placed OFFSET 0) AS divided GROUP BY block) AS packed"
        ).format(
            dataset_batch=_own("dataset_batch"),
            name=sql.Literal(name),
            splits=sql.Literal(list(SPLITS)),
            split_of_block=split_of_block,
            batch_id=batch_id,
            encode_block=_own("encode_block"),
            as_bytes=_own("as_bytes"),
            class_number=_class_number(examined.classes),
            numbers=_numbers(examined),
            encoding=sql.Literal(json.dumps(examined.encoding)),
            first=sql.Literal(first),
            blocks=sql.Literal(blocks),
            places=sql.Literal(float(PLACES)),
            last_place=sql.Literal(PLACES - 1),
            split=_split(sql.Identifier("hash")),
            seed=sql.Literal(seed),
            rows=_fenced(examined.rows),
        ),
    )


def _class_number(classes: list[str]) -> sql.Composed:
    """Return the expression for a label's number: found by halving among the sorted labels, for there may be many."""
    ordered = sorted(classes)
    return sql.SQL('({}::int[])[width_bucket(label COLLATE "C", {}::text[])]').format(
        sql.Literal([classes.index(name) for name in ordered]), sql.Literal(ordered)
    )


def _insert_description(
    connection: Any, examined: Examined, described: dict[str, Any], statistics: dict[str, object]
) -> None:
    rows = examined.split_rows()
    insert(
        connection,
        "dataset",
        {
            **described,
            "shape": str(examined.width),
            "dtype": "float32",
            "classes": json.dumps(examined.classes),
            "split_rows": json.dumps(rows),
            "training_statistics": json.dumps(statistics),
            "encoding": json.dumps(examined.encoding),
        },
    )


def training_statistics(connection: Any, examined: Examined) -> dict[str, object]:
    """Return what later rows are compared with, from the training split alone: rows, rows a class, and of each column
    (`inputs`) the edges of its values' tenths with the rows in each bin, as far as its value is known.

    A value belongs to the bin whose number is that of the edges that are not above it, as PostgreSQL's width_bucket
    says; a text is its place in the vocabulary, one behind the last where it is not in it. Of a large table the
    tenths are those of a part that the rows' hashes choose.
    """
    count = examined.split_rows()["train"]
    part = sql.SQL("SELECT {numbers} FROM {rows} WHERE {split} = 'train' AND {share}").format(
        numbers=sql.SQL(", ").join(
            sql.SQL(
                # What real cannot hold is as good as zero, or as its largest.
                "(CASE WHEN {value} = 'NaN' THEN NULL WHEN abs({value}) < 1e-37 THEN 0 "
                "ELSE greatest(least({value}, 3e38), -3e38) END)::real AS {name}"
            ).format(value=value, name=sql.Identifier(f"v{number}"))
            for number, value in enumerate(_numbers(examined).seq[::2])
        ),
        rows=_fenced(examined.rows),
        split=_split(sql.Identifier("hash")),
        # The split reads a hash from its left end, the part from its right one: they do not know of each other.
        share=sql.SQL("hash & {} <= {}").format(
            sql.Literal(2**32 - 1), sql.Literal(round(min(1, ROWS_FOR_TENTHS / count) * (2**32 - 1)))
        ),
    )
    _ask(connection, sql.SQL("CREATE TEMP TABLE part ON COMMIT DROP AS {}").format(part))
    edges = _edges(connection, examined)
    counted = _bins(connection, edges)
    query(connection, "DROP TABLE part")
    return {
        "rows": count,
        "class_counts": [examined.counts["train"][name] for name in examined.classes],
        "inputs": [
            {
                # The classes' own drift has this name.
                "statistic": "column class" if column["name"] == "class" else column["name"],
                "edges": edges[number],
                "counts": [counted.get((number, bin_), 0) for bin_ in range(len(edges[number]) + 1)],
            }
            for number, column in enumerate(examined.encoding["columns"])
        ],
    }


def _edges(connection: Any, examined: Examined) -> list[list[float]]:
    """Return a column's edges: of numbers the tenths without repetitions, of other kinds between the values."""
    columns = examined.encoding["columns"]
    tenths = [number / 10 for number in range(1, 10)]
    asked = [
        sql.SQL("percentile_disc({}::float8[]) WITHIN GROUP (ORDER BY {})").format(
            sql.Literal(tenths), sql.Identifier(f"v{number}")
        )
        if column["kind"] == "number"
        else sql.SQL("NULL")
        for number, column in enumerate(columns)
    ]
    found = _ask(connection, sql.SQL("SELECT {} FROM part").format(sql.SQL(", ").join(asked)))[0]
    return [
        sorted({float(edge) for edge in values or [] if edge is not None})
        if column["kind"] == "number"
        else [0.5 + number for number in range(len(column.get("vocabulary", "1")))]
        for column, values in zip(columns, found)
    ]


def _bins(connection: Any, edges: list[list[float]]) -> dict[tuple[int, int], int]:
    """Return how many rows lie in each bin of each column: {(column, bin): rows}."""
    values = sql.SQL(", ").join(
        sql.SQL("({number}, {value}, {edges}::real[])").format(
            number=sql.Literal(number), value=sql.Identifier("p", f"v{number}"), edges=sql.Literal(found)
        )
        for number, found in enumerate(edges)
    )
    rows = _ask(
        connection,
        sql.SQL(
            "SELECT b.number, CASE WHEN cardinality(b.edges) = 0 THEN 0 ELSE width_bucket(b.value, b.edges) END, "
            "count(*) FROM part AS p CROSS JOIN LATERAL (VALUES {}) AS b (number, value, edges) "
            "WHERE b.value IS NOT NULL GROUP BY 1, 2"
        ).format(values),
    )
    return {(number, bin_): count for number, bin_, count in rows}
