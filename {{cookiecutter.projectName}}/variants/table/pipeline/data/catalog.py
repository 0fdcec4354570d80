"""The source table in the database's catalog, and the checks of project.yaml against it."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.databases import binding, query
from pipeline.errors import StepError
from pipeline.settings import Source, settings

Kind = Literal["number", "boolean", "text"]
KINDS: dict[str, Kind] = {
    "smallint": "number",
    "integer": "number",
    "bigint": "number",
    "numeric": "number",
    "real": "number",
    "double precision": "number",
    "boolean": "boolean",
    "text": "text",
    "character varying": "text",
    "character": "text",
}


class Column(NamedTuple):
    """A column to predict from: `type` is PostgreSQL's name of its type."""

    name: str
    type: str
    kind: Kind


class Table(NamedTuple):
    """The source table in the catalog; `key` is empty where all features together identify a row."""

    source: Source
    columns: list[Column]
    label_type: str
    key: tuple[str, ...]
    key_is_unique: bool

    @property
    def where(self) -> str:
        """The table's name in messages."""
        return f"{self.source.schema}.{self.source.table}"

    @property
    def name(self) -> sql.Identifier:
        """The table's name in a statement."""
        return sql.Identifier(self.source.schema, self.source.table)

    @property
    def label_is_number(self) -> bool:
        """Return whether the labels are numbers."""
        return kind_of(self.label_type) == "number"


def kind_of(type_name: str) -> Kind | None:
    """Return the kind of a type as PostgreSQL writes it, None for a type without encoding."""
    return KINDS.get(type_name.split("(")[0])


def read_table(connection: Connection) -> Table:
    """Look up the table of project.yaml in the catalog. Raises StepError: one sentence on the first error."""
    source = settings().source
    if source is None:
        raise StepError("project.yaml: source is missing; it names the table to train on")
    oid = _readable_table(connection, source)
    types = dict(
        query(
            connection,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (oid,),
        )
    )
    key_rows = query(
        connection,
        "SELECT attname FROM pg_index AS i "
        "CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, place) "
        "INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number "
        "WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place",
        (oid,),
    )
    return _checked(source, types, tuple(name for (name,) in key_rows))


def _readable_table(connection: Connection, source: Source) -> int:
    """Return the table's oid. Raises StepError when it does not exist or this session may not read it."""
    database = binding("trainer").where
    schemas = query(
        connection,
        "SELECT n.oid, has_schema_privilege(n.oid, 'USAGE') FROM pg_namespace AS n WHERE nspname = %s",
        (source.schema,),
    )
    if not schemas:
        raise StepError(f"project.yaml: source.schema is {source.schema!r}; {database} has no such schema")
    schema, is_usable = schemas[0]
    tables = query(
        connection,
        "SELECT oid, has_table_privilege(oid, 'SELECT') FROM pg_class "
        "WHERE relnamespace = %s AND relname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f')",
        (schema, source.table),
    )
    if not tables:
        raise StepError(
            f"project.yaml: source.table is {source.table!r}; the schema {source.schema} of {database} has no such "
            "table or view"
        )
    oid: int = tables[0][0]
    is_readable = tables[0][1]
    if not (is_usable and is_readable):
        user = connection.info.user
        raise StepError(
            f"{user} may not read {source.schema}.{source.table}: deploy_training_db grants it, or an administrator "
            f"by GRANT USAGE ON SCHEMA and GRANT SELECT ON the table to {user}"
        )
    return oid


def _checked(source: Source, types: Mapping[str, str], primary_key: tuple[str, ...]) -> Table:
    """Return the table, after a check of project.yaml against its columns. Raises StepError."""
    where = f"{source.schema}.{source.table}"
    _require_columns(source, types, where)
    key = source.key or primary_key
    if source.label in key:
        raise StepError(
            f"project.yaml: the key of {where} is {', '.join(key)}, among it the label: a corrected label would move "
            "its row to another split; name other columns in source.key"
        )
    features = source.features or [name for name in types if name != source.label and name not in key]
    if not features:
        raise StepError(f"{where} has no column but the label and the key: there is nothing to predict from")
    columns = []
    for name in features:
        kind = kind_of(types[name])
        if kind is None:
            raise StepError(
                f"{where}: the column {name} is of type {types[name]}, which has no encoding (allowed are "
                f"{', '.join(KINDS)}); leave it out of source.features in project.yaml"
            )
        columns.append(Column(name, types[name], kind))
    return Table(source, columns, types[source.label], key, not source.key)


def _require_columns(source: Source, types: Mapping[str, str], where: str) -> None:
    """Raise StepError when project.yaml names a column that does not exist, or the label as a feature."""
    options = (("label", (source.label,)), ("features", source.features or ()), ("key", source.key))
    for option, names in options:
        for name in names:
            if name not in types:
                raise StepError(
                    f"project.yaml: source.{option} names {name!r}; {where} has the columns {', '.join(types)}"
                )
    if source.label in (source.features or ()):
        raise StepError(f"project.yaml: source.features names {source.label}, which is the label: leave it out")
