"""Step upload_dataset: splits, orders and packs the data set and copies it into the training database."""

import io
import json
from typing import Any

from pipeline import doctor, labelled_rows, mini_batches
from pipeline.databases import binding, in_schema, insert, query, session
from pipeline.mini_batches import PackedDataset
from pipeline.settings import require_seed
from pipeline.tracking import dataset_input, load_mlflow, step_run
from pipeline.user_code import load_dataset


def run(seed: int, rows_per_block: int) -> str:
    """Upload the data set, with the rows that collect_labels brought, in one transaction, or find that it is there
    already. Raises StepError."""
    require_seed(seed)
    doctor.require(doctor.trainer, doctor.mlflow_server)
    connection = session("trainer")
    with connection:
        merged = labelled_rows.merge(connection, load_dataset())
        packed = mini_batches.pack(merged.data, seed, rows_per_block)
        new = not _select(connection, packed)
        if new:
            upload(connection, packed, seed)
    counts = {split: len(rows) for split, rows in packed.rows.items()}
    _log(packed, {**counts, "labelled": merged.added}, seed)
    told = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    if merged.added or merged.unused:
        told += f" (labelled in the app: {merged.added:,} of them; {merged.unused:,} not used)"
    return f"{told} rows; data {packed.data_hash[:12]} {'uploaded' if new else 'was there already'}"


def _select(connection: Any, packed: PackedDataset) -> bool:
    """Make the data set the one that is trained on; False when it is not in the database."""
    return bool(
        query(
            connection,
            "UPDATE {schema}.dataset SET selected_at = clock_timestamp() WHERE dataset = %s RETURNING 1",
            (packed.dataset,),
        )
    )


def upload(connection: Any, packed: PackedDataset, seed: int) -> None:
    """Copy the blocks and then their description; the caller commits."""
    stream = mini_batches.CopyStream(packed.dataset, mini_batches.blocks(packed, batch_ids(connection, packed)))
    with connection.cursor() as cursor:
        cursor.copy_expert(
            in_schema(
                "COPY {schema}.dataset_batch (dataset, split, batch_id, row_count, features, labels) "
                "FROM STDIN (FORMAT binary)"
            ),
            io.BufferedReader(stream, 1 << 20),
            size=1 << 20,
        )
    insert(
        connection,
        "dataset",
        {
            "dataset": packed.dataset,
            "data_hash": packed.data_hash,
            "seed": seed,
            "rows_per_block": packed.rows_per_block,
            "shape": ",".join(map(str, packed.data.shape)),
            "dtype": str(packed.data.features.dtype),
            "classes": json.dumps(packed.data.classes),
            "split_rows": json.dumps({split: len(rows) for split, rows in packed.rows.items()}),
            "training_statistics": json.dumps(mini_batches.training_statistics(packed)),
        },
    )


def batch_ids(connection: Any, packed: PackedDataset) -> list[int] | None:
    """Return batch ids that spread the blocks evenly over Greenplum's segments; None on PostgreSQL."""
    if not binding("trainer").is_greenplum:
        return None
    count = mini_batches.block_count(packed)
    segments = query(connection, "SELECT count(*) FROM gp_segment_configuration WHERE role = 'p' AND content >= 0")[0][
        0
    ]
    candidates = 4 * count + 64 * segments
    query(connection, "CREATE TEMP TABLE placement (batch_id int) ON COMMIT DROP DISTRIBUTED BY (batch_id)")
    query(connection, "INSERT INTO placement SELECT generate_series(0, %s)", (candidates - 1,))
    placed = query(connection, "SELECT gp_segment_id FROM placement ORDER BY batch_id")
    return mini_batches.balanced_batch_ids(count, [segment for (segment,) in placed])


def _log(packed: PackedDataset, counts: dict[str, int], seed: int) -> None:
    mlflow = load_mlflow()
    with step_run("upload_dataset", data_hash=packed.data_hash):
        mlflow.log_input(dataset_input(packed.data_hash), context="training")
        mlflow.log_params({"seed": seed, "rows_per_block": packed.rows_per_block})
        mlflow.log_metrics({f"rows_{split}": count for split, count in counts.items()})
