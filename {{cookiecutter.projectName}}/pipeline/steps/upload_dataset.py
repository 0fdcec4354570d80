"""Split and pack the data set in the training database.

The rows of collect_labels are added. Nothing changes when the same data set is there already.
"""

from pipeline import doctor, training_db
from pipeline.data import source
from pipeline.data.splits import PackResult
from pipeline.databases import query, session
from pipeline.errors import StepError
from pipeline.parent_runs import log_data
from pipeline.settings import require_seed
from pipeline.tracking import load_mlflow, step_run
from pipeline.training_db import TrainingData


def run(seed: int, rows_per_block: int) -> str:
    """Pack the data set in one transaction, unless the training database holds it already.

    Args:
        seed: order of the training rows; the splits do not depend on it
        rows_per_block: the most rows per block of the table dataset_batch

    Raises:
        StepError: a value, dataset.py or the source table is wrong.
    """
    require_seed(seed)
    if rows_per_block < 1:
        raise StepError(f"rows_per_block is {rows_per_block}; allowed is 1 or more")
    doctor.require(doctor.trainer, doctor.mlflow_server)
    connection = session("trainer")
    with connection:
        packed = source.pack(connection, seed, rows_per_block)
        if packed.is_new:
            query(connection, "SELECT {schema}.analyze_dataset_batch()")
        data = training_db.current_data(connection)
    _log(packed, data, seed, rows_per_block)
    row_counts = ", ".join(f"{count:,} {split}" for split, count in packed.row_counts.items())
    if packed.labelled or packed.unused:
        row_counts += f" (labelled in the app: {packed.labelled:,} of them; {packed.unused:,} not used)"
    return f"{row_counts} rows; data {packed.data_hash[:12]} {'uploaded' if packed.is_new else 'was there already'}"


def _log(packed: PackResult, data: TrainingData, seed: int, rows_per_block: int) -> None:
    mlflow = load_mlflow()
    with step_run("upload_dataset", data_hash=packed.data_hash) as tracked:
        log_data(tracked.info.run_id, data)
        mlflow.log_params({"seed": seed, "rows_per_block": rows_per_block})
        counts = {**packed.row_counts, "labelled": packed.labelled}
        mlflow.log_metrics({f"rows_{split}": count for split, count in counts.items()})
