"""Where the rows come from: a table of the training database. They are examined and packed there, by SQL.

What comes to this client are counts, means, and the few values that name classes and vocabularies.
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

from pipeline import labelled_table, splits, training_runs
from pipeline.databases import binding, has_relation, insert, query, session
from pipeline.errors import StepError
from pipeline.settings import Source, settings
from pipeline.splits import HOLDOUT_SHARE, SPLITS, VALIDATION_SHARE, Described, Packed, Unseen
from pipeline.training_runs import Examples, FinishedRun, TrainingData

KINDS = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double precision"), "number"),
    "boolean": "boolean",
    **dict.fromkeys(("text", "character varying", "character"), "text"),
}
MOST_CLASSES = 1000
MOST_TEXTS = 50
CHECKED_ROWS = 100
# So many rows are enough to know the tenths of a column: a share is off by less than 0.002.
ROWS_FOR_TENTHS = 50_000
# A row's place in the order of the seed: so many bits of a hash, which a float8 holds exactly.
PLACE_BITS = 52


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
    """All that the table's rows say: rows a split and class, the encoding, and a hash of every row."""

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
        names = {"schema": sql.Identifier(table.source.schema), "table": table.name, "group": sql.Identifier(group)}
        _ask(connection, sql.SQL("GRANT USAGE ON SCHEMA {schema} TO {group}").format(**names))
        _ask(connection, sql.SQL("GRANT SELECT ON {table} TO {group}").format(**names))


def pack(connection: Any, seed: int, rows_per_block: int) -> Packed:
    """Put the table's rows, with those that collect_labels brought, into dataset_batch, or find that they are there;
    the caller commits. Raises StepError."""
    _read_at_one_moment(connection)
    examined = _examine(connection, labelled=has_relation(connection, "labelled_row"))
    name = hashlib.sha256(f"{examined.data_hash} {seed} {rows_per_block}".encode()).hexdigest()
    new = not training_runs.select_data(connection, name)
    if new:
        _insert_blocks(connection, examined, name, seed, rows_per_block)
        _insert_description(connection, examined, name, seed, rows_per_block)
    kept, used = _labelled(connection, examined)
    return Packed(examined.data_hash, examined.split_rows(), used, kept - used, new)


def keep_evaluated(connection: Any, trained: FinishedRun, config: str) -> None:
    """Let predict_row in the training database answer with this model."""
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


def examples(connection: Any, data: TrainingData) -> Examples:
    """Return rows to check a model with, the row of means first: made up, for no row of the table leaves it."""
    rows = np.random.default_rng(1).standard_normal((CHECKED_ROWS, *data.shape)).astype("<f4")
    rows[0] = 0
    return Examples(rows, {})


def unseen_row() -> Unseen:
    """Return a row of the holdout, which `make demo` asks for: the row's own hash says that it was not trained on."""
    connection = session("trainer")
    with connection:
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
            "WHERE i.indrelid = %s AND i.indisprimary ORDER BY k.place",
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
    if source.label in source.key:
        raise StepError(f"project.yaml: source.key names {source.label}, which is the label: leave it out")
    key = source.key or primary_key
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
    rows = _rows(table)
    counts, _ = _count(connection, table, rows)
    classes = _classes(connection, table, counts)
    if labelled:
        rows = sql.SQL("{} UNION ALL {}").format(rows, _labelled_rows(table, classes))
    counts, hashed = _count(connection, table, rows)
    _require_all_classes(table, classes, counts)
    columns = [
        _vocabulary(connection, table, number) if column.kind == "text" else {}
        for number, column in enumerate(table.columns)
    ]
    measured = _measure(connection, table, rows)
    described = [
        {**column._asdict(), **scale, **vocabulary}
        for column, scale, vocabulary in zip(table.columns, measured, columns)
    ]
    encoding = {"label": table.source.label, "key": list(table.key), "columns": described}
    told = json.dumps([table.source.label, table.key, classes, table.columns, columns, counts, hashed], sort_keys=True)
    examined = Examined(table, classes, counts, encoding, hashlib.sha256(told.encode()).hexdigest(), rows)
    if not examined.width:
        raise StepError(f"{table.where}: no column to predict from has a value in the training rows")
    return examined


def _read_at_one_moment(connection: Any) -> None:
    """Let all statements of the transaction see the same rows, and write values as text in one way.

    The first statement of a transaction. Keys are hashed as text: settings of a session must not move a row.
    """
    query(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    for name, value in (
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
    """Return the expression for a row's hash, hexadecimal text: of its key alone, else of its features, for ever the
    same."""
    fields = _fields(table, alias, table.key) if table.key else _values(table, alias)
    return sql.SQL("md5('split ' || ROW({})::text)").format(fields)


def _values(table: Table, alias: str) -> sql.Composed:
    """Return the features as they are compared and hashed: numbers as float8, texts as text."""
    casts = {"number": "{}::float8", "boolean": "{}::int::float8", "text": "{}::text"}
    return sql.SQL(", ").join(
        sql.SQL(casts[column.kind]).format(sql.Identifier(alias, column.name)) for column in table.columns
    )


def _split(hashed: sql.Composable) -> sql.Composed:
    """Return the expression for a row's split: it depends on the row's hash alone."""
    limits = [f"{round(share * 2**32):08x}" for share in (HOLDOUT_SHARE, HOLDOUT_SHARE + VALIDATION_SHARE)]
    return sql.SQL(
        'CASE WHEN {hash} COLLATE "C" < {holdout} THEN \'holdout\' WHEN {hash} COLLATE "C" < {validation} '
        "THEN 'validation' ELSE 'train' END"
    ).format(hash=hashed, holdout=sql.Literal(limits[0]), validation=sql.Literal(limits[1]))


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
    labelled = sql.SQL("({}) AS p").format(labelled_table.relation(columns, table.source.label, classes))
    ours, theirs = (sql.SQL("ROW({})::text").format(_values(table, alias)) for alias in ("p", "s"))
    return sql.SQL(
        "SELECT {features}, p.{label} AS label, md5('split ' || {ours}) AS hash FROM {labelled} WHERE {ours} NOT IN ("
        "SELECT {theirs} FROM {table} AS s WHERE {theirs} IN (SELECT {ours} FROM {labelled}))"
    ).format(
        features=_features(table, "p"), label=sql.Identifier(table.source.label), table=table.name,
        labelled=labelled, ours=ours, theirs=theirs,
    )  # fmt: skip


def _labelled(connection: Any, examined: Examined) -> tuple[int, int]:
    """Return how many labelled rows there are, and how many of them are used."""
    if not has_relation(connection, "labelled_row"):
        return 0, 0
    kept = query(connection, "SELECT count(*) FROM {schema}.labelled_row")[0][0]
    if not kept:
        return 0, 0
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


def _count(connection: Any, table: Table, rows: sql.Composable) -> tuple[dict[str, dict[str, int]], str]:
    """Return the rows a split and class, and a hash of all rows that does not depend on their order."""
    fields = sql.SQL(", ").join(sql.Identifier(f"c{number}") for number in range(len(table.columns)))
    found = _ask(
        connection,
        sql.SQL(
            "SELECT {split}, label, count(*), "
            "sum(('x' || substr(md5(ROW(hash, label, {fields})::text), 1, 15))::bit(60)::bigint)::text "
            "FROM ({rows}) AS r GROUP BY 1, 2 LIMIT {limit}"
        ).format(split=_split(sql.Identifier("hash")), fields=fields, rows=rows, limit=sql.Literal(6 * MOST_CLASSES)),
    )
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for split, label, count, _ in found:
        counts[split][label] = count
    return counts, str(sum(int(hashed) for *_, hashed in found))


def _classes(connection: Any, table: Table, counts: dict[str, dict[str, int]]) -> list[str]:
    """Return the labels in their order. Raises StepError when a model cannot be trained on them."""
    labels = {label for found in counts.values() for label in found}
    told = f"{table.where}: the label {table.source.label}"
    if not labels:
        raise StepError(f"{table.where} is empty; there must be rows of every class to train on")
    if None in labels:
        count = sum(found.get(None, 0) for found in counts.values())
        raise StepError(f"{told} is NULL in {count:,} rows; every row must have one: train on a view without them")
    if len(labels) < 2:
        raise StepError(f"{told} is {labels.pop()} in every row; there must be two classes at least")
    if len(labels) > MOST_CLASSES:
        raise StepError(f"{told} has more than {MOST_CLASSES:,} different values; it must name at most so many classes")
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
            "SELECT DISTINCT {name} FROM ({rows}) AS r WHERE {split} = 'train' AND {name} IS NOT NULL LIMIT {limit}"
        ).format(name=name, rows=_rows(table), split=_split(sql.Identifier("hash")), limit=sql.Literal(MOST_TEXTS + 1)),
    )
    if len(found) > MOST_TEXTS:
        raise StepError(
            f"{table.where}: the column {table.columns[number].name} has more than {MOST_TEXTS} different texts; leave "
            "it out of source.features in project.yaml, or group its values in a view"
        )
    return {"vocabulary": sorted(text for (text,) in found)}


def _measure(connection: Any, table: Table, rows: sql.Composable) -> list[dict[str, Any]]:
    """Return {mean, deviation, nulls} a column ({nulls} of a text), by SQL aggregates over the training rows.

    Raises StepError when a number of any split is none (NaN, infinity).
    """
    split = _split(sql.Identifier("hash"))
    aggregates = []
    for number, column in enumerate(table.columns):
        name = sql.Identifier(f"c{number}")
        if column.kind == "text":
            aggregates.append(sql.SQL("NULL, NULL, count({})").format(name))
        else:
            aggregates.append(sql.SQL("avg({0}), stddev_pop({0}), count({0})").format(name))
    statement = sql.SQL("SELECT {split}, count(*), {aggregates} FROM ({rows}) AS r GROUP BY 1").format(
        split=split, aggregates=sql.SQL(", ").join(aggregates), rows=rows
    )
    try:
        found = {row[0]: row[1:] for row in _ask(connection, statement)}
    except psycopg2.errors.NumericValueOutOfRange as error:
        raise StepError(f"{table.where}: a column holds numbers too large to take a mean of") from error
    measured = []
    for number, column in enumerate(table.columns):
        parts = [(row[0], *row[1 + 3 * number : 4 + 3 * number]) for row in found.values()]
        for _, mean, _, _ in parts:
            if mean is not None and not math.isfinite(mean):
                raise StepError(
                    f"{table.where}: the column {column.name} holds NaN or infinity; NULL says that a value is not "
                    "known: correct it, or train on a view"
                )
        nulls = any(count < rows for rows, _, _, count in parts)
        _, mean, deviation, _ = (found["train"][0], *found["train"][1 + 3 * number : 4 + 3 * number])
        scale = {"mean": mean or 0.0, "deviation": deviation or 1.0}
        measured.append({**({} if column.kind == "text" else scale), "nulls": nulls})
    return measured


def _numbers(examined: Examined) -> sql.Composed:
    """Return the features as expressions of type float8, NaN for NULL; a text is its place in the vocabulary."""
    numbers = []
    for number, column in enumerate(examined.encoding["columns"]):
        name = sql.Identifier(f"c{number}")
        if column["kind"] == "text":
            words = sql.Literal(column["vocabulary"])
            place = "coalesce(array_position({words}::text[], {name}) - 1, {unknown})"
            text = sql.SQL("CASE WHEN {name} IS NULL THEN 'NaN' ELSE " + place + " END").format(
                name=name, words=words, unknown=sql.Literal(len(column["vocabulary"]))
            )
            numbers.append(text)
        else:
            numbers.append(sql.SQL("coalesce({}, 'NaN')").format(name) if column["nulls"] else name)
    return sql.SQL(", ").join(numbers)


def _insert_blocks(connection: Any, examined: Examined, name: str, seed: int, rows_per_block: int) -> None:
    """Pack every row by one statement: each group of rows that hash into the same block becomes one.

    A block's size is rows_per_block on average: no window sorts the whole table, and each segment packs its own part.
    """
    blocks = {split: math.ceil(rows / rows_per_block) for split, rows in examined.split_rows().items()}
    batch_ids = splits.batch_ids(connection, max(blocks.values()))
    number = sql.SQL("floor(place / {} * CASE split {} END)::int").format(
        sql.Literal(2.0**PLACE_BITS),
        sql.SQL(" ").join(sql.SQL("WHEN {} THEN {}").format(*map(sql.Literal, pair)) for pair in blocks.items()),
    )
    batch = number if batch_ids is None else sql.SQL("({}::int[])[1 + {}]").format(sql.Literal(batch_ids), number)
    # Sorted, a backend holds one block at a time; hashed, all of them.
    query(connection, "SET LOCAL enable_hashagg = off")
    _ask(
        connection,
        sql.SQL(
            "INSERT INTO {dataset_batch} (dataset, split, batch_id, row_count, features, labels) "
            "SELECT {name}, split, batch_id, row_count, substr(encoded, 4 * row_count + 1), "
            "substr(encoded, 1, 4 * row_count) FROM ("
            "SELECT split, batch_id, count(*)::int AS row_count, "
            "{encode_block}(string_agg({as_bytes}(ARRAY[place, array_position({classes}::text[], label) - 1, {numbers}]"
            "::float8[]), ''::bytea), count(*)::int, {encoding}) AS encoded FROM ("
            "SELECT *, {batch} AS batch_id FROM ("
            "SELECT *, {split} AS split, "
            "('x' || substr(md5({seed} || hash), 1, {digits}))::bit({bits})::bigint::float8 AS place "
            "FROM ({rows}) AS r) AS placed) AS batched GROUP BY split, batch_id) AS packed"
        ).format(
            dataset_batch=_own("dataset_batch"),
            name=sql.Literal(name),
            encode_block=_own("encode_block"),
            as_bytes=_own("as_bytes"),
            classes=sql.Literal(examined.classes),
            numbers=_numbers(examined),
            encoding=sql.Literal(json.dumps(examined.encoding)),
            batch=batch,
            split=_split(sql.Identifier("hash")),
            seed=sql.Literal(f"{seed} "),
            digits=sql.Literal(PLACE_BITS // 4),
            bits=sql.Literal(PLACE_BITS),
            rows=examined.rows,
        ),
    )


def _insert_description(connection: Any, examined: Examined, name: str, seed: int, rows_per_block: int) -> None:
    rows = examined.split_rows()
    insert(
        connection,
        "dataset",
        {
            "dataset": name,
            "data_hash": examined.data_hash,
            "seed": seed,
            "rows_per_block": rows_per_block,
            "shape": str(examined.width),
            "dtype": "float32",
            "classes": json.dumps(examined.classes),
            "split_rows": json.dumps(rows),
            "training_statistics": json.dumps(training_statistics(connection, examined)),
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
    part = sql.SQL("SELECT {numbers} FROM ({rows}) AS r WHERE {split} = 'train' AND {share}").format(
        numbers=sql.SQL(", ").join(
            sql.SQL("nullif({}, 'NaN')::real AS {}").format(value, sql.Identifier(f"v{number}"))
            for number, value in enumerate(_numbers(examined).seq[::2])
        ),
        rows=examined.rows,
        split=_split(sql.Identifier("hash")),
        # The split reads a hash from its left end, the part from its right one: they do not know of each other.
        share=sql.SQL('right(hash, 8) COLLATE "C" <= {}').format(
            sql.Literal(f"{round(min(1, ROWS_FOR_TENTHS / count) * (2**32 - 1)):08x}")
        ),
    )
    edges = _edges(connection, examined, part)
    counted = _bins(connection, edges, part)
    return {
        "rows": count,
        "class_counts": [examined.counts["train"][name] for name in examined.classes],
        "inputs": [
            {
                "statistic": column["name"],
                "edges": edges[number],
                "counts": [counted.get((number, bin_), 0) for bin_ in range(len(edges[number]) + 1)],
            }
            for number, column in enumerate(examined.encoding["columns"])
        ],
    }


def _edges(connection: Any, examined: Examined, part: sql.Composable) -> list[list[float]]:
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
    found = _ask(connection, sql.SQL("SELECT {} FROM ({}) AS p").format(sql.SQL(", ").join(asked), part))[0]
    return [
        sorted({float(edge) for edge in values or [] if edge is not None})
        if column["kind"] == "number"
        else [0.5 + number for number in range(len(column.get("vocabulary", "1")))]
        for column, values in zip(columns, found)
    ]


def _bins(connection: Any, edges: list[list[float]], part: sql.Composable) -> dict[tuple[int, int], int]:
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
            "count(*) FROM ({}) AS p CROSS JOIN LATERAL (VALUES {}) AS b (number, value, edges) "
            "WHERE b.value IS NOT NULL GROUP BY 1, 2"
        ).format(part, values),
    )
    return {(number, bin_): count for number, bin_, count in rows}
