"""Statistics of the training rows of the source table, which later rows are compared with."""

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.data.encoding import Examined, encoded_numbers
from pipeline.data.expressions import comma_separated, evaluated_once, execute, split_of_row
from pipeline.databases import query
from pipeline.records import ColumnEncoding, Extremes, InputStatistics, TrainingStatistics

# Enough rows for the tenths of a column: a share is off by less than 0.01.
ROWS_FOR_TENTHS = 10_000
# The name of the drift of the predicted classes, which a column may have too.
CLASS_STATISTIC = "class"


def training_statistics(connection: Connection, examined: Examined) -> TrainingStatistics:
    """Return the statistics of the training split; `inputs` has one entry per column, of its known values.

    The number of a value's bin is the number of edges that are not above it, as in PostgreSQL's width_bucket. A text
    is its position in the vocabulary, one after the last where the vocabulary lacks it. The tenths of a large table
    are those of a sample that the rows' hashes choose; the extremes are those of all training rows.
    """
    row_count = examined.row_counts()["train"]
    sample = _training_values(examined, _in_sample(row_count))
    execute(connection, sql.SQL("CREATE TEMP TABLE sample ON COMMIT DROP AS {}").format(sample))
    columns = examined.encoding["columns"]
    edges = _edges(connection, columns)
    extremes = _extremes(connection, examined)
    counts = _bin_counts(connection, edges)
    query(connection, "DROP TABLE sample")
    inputs = [
        InputStatistics(
            statistic=f"column {column['name']}" if column["name"] == CLASS_STATISTIC else column["name"],
            edges=edges[number],
            counts=[counts.get((number, bin_number), 0) for bin_number in range(len(edges[number]) + 1)],
            **extremes.get(number, {}),
        )
        for number, column in enumerate(columns)
    ]
    class_counts = [examined.counts["train"][name] for name in examined.classes]
    return TrainingStatistics(rows=row_count, class_counts=class_counts, inputs=inputs)


def _training_values(examined: Examined, condition: sql.Composable) -> sql.Composed:
    """Return the SELECT of the table's training rows for which a condition holds: their features v0, v1, … as real."""
    values = [
        sql.SQL(
            # Values that real cannot hold count as zero, or as its largest number.
            "(CASE WHEN {value} = 'NaN' THEN NULL WHEN abs({value}) < 1e-37 THEN 0 "
            "ELSE greatest(least({value}, 3e38), -3e38) END)::real AS {name}"
        ).format(value=value, name=sql.Identifier(f"v{number}"))
        for number, value in enumerate(encoded_numbers(examined))
    ]
    return sql.SQL("SELECT {values} FROM {rows} WHERE {split} = 'train' AND NOT is_labelled AND {condition}").format(
        values=comma_separated(values),
        rows=evaluated_once(examined.rows),
        split=split_of_row(),
        condition=condition,
    )


def _in_sample(row_count: int) -> sql.Composed:
    """Return the condition that holds for about ROWS_FOR_TENTHS of `row_count` training rows."""
    # The split depends on the high bits of the hash, the sample on the low bits: they are independent.
    return sql.SQL("hash & {} <= {}").format(
        sql.Literal(2**32 - 1), sql.Literal(round(min(1, ROWS_FOR_TENTHS / row_count) * (2**32 - 1)))
    )


def _edges(connection: Connection, columns: list[ColumnEncoding]) -> list[list[float]]:
    """Return the edges per column: tenths without repetitions for numbers, else the midpoints between values."""
    tenths = sql.Literal([number / 10 for number in range(1, 10)])
    expressions = [
        sql.SQL("percentile_disc({}::float8[]) WITHIN GROUP (ORDER BY {})").format(tenths, sql.Identifier(f"v{number}"))
        if column["kind"] == "number"
        else sql.SQL("NULL")
        for number, column in enumerate(columns)
    ]
    measured = execute(connection, sql.SQL("SELECT {} FROM sample").format(comma_separated(expressions)))[0]
    edges: list[list[float]] = []
    for column, values in zip(columns, measured):
        if column["kind"] == "number":
            edges.append(sorted({float(edge) for edge in values or [] if edge is not None}))
        else:
            value_count = len(column["vocabulary"]) if column["kind"] == "text" else 1
            edges.append([0.5 + number for number in range(value_count)])
    return edges


def _extremes(connection: Connection, examined: Examined) -> dict[int, Extremes]:
    """Return the smallest and the largest value per column of numbers; a column without any value has none."""
    numbers = [number for number, column in enumerate(examined.encoding["columns"]) if column["kind"] == "number"]
    expressions = [sql.SQL("min({0}), max({0})").format(sql.Identifier(f"v{number}")) for number in numbers]
    if not expressions:
        return {}
    rows = _training_values(examined, sql.SQL("true"))
    measured = execute(connection, sql.SQL("SELECT {} FROM ({}) AS v").format(comma_separated(expressions), rows))[0]
    return {
        number: Extremes(minimum=low, maximum=high)
        for number, low, high in zip(numbers, measured[::2], measured[1::2])
        if low is not None
    }


def _bin_counts(connection: Connection, edges: list[list[float]]) -> dict[tuple[int, int], int]:
    """Return the row counts per column and bin."""
    values = comma_separated(
        [
            sql.SQL("({number}, {value}, {edges}::real[])").format(
                number=sql.Literal(number),
                value=sql.Identifier("s", f"v{number}"),
                edges=sql.Literal(column_edges),
            )
            for number, column_edges in enumerate(edges)
        ]
    )
    rows = execute(
        connection,
        sql.SQL(
            "SELECT b.number, CASE WHEN cardinality(b.edges) = 0 THEN 0 ELSE width_bucket(b.value, b.edges) END, "
            "count(*) FROM sample AS s CROSS JOIN LATERAL (VALUES {}) AS b (number, value, edges) "
            "WHERE b.value IS NOT NULL GROUP BY 1, 2"
        ).format(values),
    )
    return {(number, bin_number): count for number, bin_number, count in rows}
