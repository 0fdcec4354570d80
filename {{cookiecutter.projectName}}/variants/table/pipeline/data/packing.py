"""Packing of the source table: one INSERT encodes the rows and packs them into blocks of dataset_batch."""

import json

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.data import description, splits
from pipeline.data.encoding import Examined, encoded_numbers
from pipeline.data.expressions import comma_separated, evaluated_once, execute, project_name, split_of_row
from pipeline.data.statistics import training_statistics
from pipeline.databases import query

# A row's position in the order of the seed has so many values, which a float8 holds exactly.
POSITIONS = 2**52


def upload(connection: Connection, examined: Examined, dataset: str, seed: int, rows_per_block: int) -> None:
    """Write the blocks and then their description into the training database; the caller commits."""
    _insert_blocks(connection, examined, dataset, seed, rows_per_block)
    description.store(
        connection,
        {
            "dataset": dataset,
            "data_hash": examined.data_hash,
            "seed": seed,
            "rows_per_block": rows_per_block,
            "shape": str(examined.width),
            "dtype": "float32",
            "classes": json.dumps(examined.classes),
            "split_rows": json.dumps(examined.row_counts()),
            "training_statistics": json.dumps(training_statistics(connection, examined)),
            "encoding": json.dumps(examined.encoding),
        },
    )
    if examined.labelled:
        labelled = sql.SQL("SELECT prediction_id FROM ({}) AS l").format(examined.labelled)
        rows = execute(connection, labelled)
        description.store_labelled(connection, dataset, [prediction_id for (prediction_id,) in rows])


# Inside out: a position per row, then the row's block and its bytes, then the blocks, encoded, then labels (4 bytes per
# row) and features apart. Only two columns are sorted: OFFSET keeps the bytes from being made above the sort.
INSERT_BLOCKS = (
    "INSERT INTO {dataset_batch} (dataset, split, batch_id, row_count, features, labels) "
    "SELECT {dataset}, ({splits}::text[])[{split_of_block}], {batch_id}, row_count, "
    "substr(encoded, 4 * row_count + 1), substr(encoded, 1, 4 * row_count) FROM ("
    "SELECT block, count(*)::int AS row_count, "
    "{encode_block}(string_agg(row_bytes, ''::bytea), count(*)::int, {encoding}) AS encoded FROM ("
    "SELECT ({first_blocks}::int[])[split_number] "
    "+ floor(row_position / {positions} * ({block_counts}::int[])[split_number])::int AS block, "
    "{as_bytes}(ARRAY[row_position, {class_number}, {numbers}]::float8[]) AS row_bytes FROM ("
    "SELECT *, array_position({splits}::text[], {split}) AS split_number, "
    "(hashtextextended(hash::text, {seed}) & {last_position})::float8 AS row_position "
    "FROM {rows} OFFSET 0) AS positioned OFFSET 0) AS divided GROUP BY block) AS packed"
)


def _insert_blocks(connection: Connection, examined: Examined, dataset: str, seed: int, rows_per_block: int) -> None:
    """Pack every row: the rows that hash into the same block become one row of dataset_batch.

    A block has at most rows_per_block rows on average: no window sorts the whole table, and each segment packs its own
    part.
    """
    segments = splits.segment_count(connection)
    row_counts = examined.row_counts()
    block_counts = [splits.block_count(rows, rows_per_block, segments) for rows in row_counts.values()]
    first_blocks = [sum(block_counts[:number]) for number in range(len(block_counts))]
    batch_ids = splits.batch_ids(connection, max(block_counts), segments)
    # Sorted, a backend holds one block at a time; hashed, all of them.
    query(connection, "SET LOCAL enable_hashagg = off")
    split_of_block = sql.SQL("width_bucket(block, {}::int[])").format(sql.Literal(first_blocks))
    execute(
        connection,
        sql.SQL(INSERT_BLOCKS).format(
            dataset_batch=project_name("dataset_batch"),
            dataset=sql.Literal(dataset),
            splits=sql.Literal(list(row_counts)),
            split_of_block=split_of_block,
            batch_id=_batch_id(first_blocks, split_of_block, batch_ids),
            encode_block=project_name("encode_block"),
            as_bytes=project_name("as_bytes"),
            class_number=_class_number(examined.classes),
            numbers=comma_separated(encoded_numbers(examined)),
            encoding=sql.Literal(json.dumps(examined.encoding)),
            first_blocks=sql.Literal(first_blocks),
            block_counts=sql.Literal(block_counts),
            positions=sql.Literal(float(POSITIONS)),
            last_position=sql.Literal(POSITIONS - 1),
            split=split_of_row(),
            seed=sql.Literal(seed),
            rows=evaluated_once(examined.rows),
        ),
    )


def _batch_id(first_blocks: list[int], split_of_block: sql.Composed, batch_ids: list[int] | None) -> sql.Composed:
    """Return the expression for a block's batch id: its number in its split, or that place of `batch_ids`."""
    number = sql.SQL("block - ({}::int[])[{}]").format(sql.Literal(first_blocks), split_of_block)
    if batch_ids is None:
        return number
    return sql.SQL("({}::int[])[1 + {}]").format(sql.Literal(batch_ids), number)


def _class_number(classes: list[str]) -> sql.Composed:
    """Return the expression for a label's number, by bisection of the sorted labels: there may be many."""
    ordered = sorted(classes)
    return sql.SQL('({}::int[])[width_bucket(label COLLATE "C", {}::text[])]').format(
        sql.Literal([classes.index(name) for name in ordered]), sql.Literal(ordered)
    )
