"""Step upload_dataset: splits, orders and packs the data set in the training database."""

from pipeline import doctor
from pipeline.data import source
from pipeline.data.splits import PackResult
from pipeline.databases import session
from pipeline.errors import StepError
from pipeline.settings import require_seed
from pipeline.tracking import dataset_input, load_mlflow, step_run


def run(seed: int, rows_per_block: int) -> str:
    """Pack the data set, with the rows that collect_labels brought, in one transaction, or find that it is there
    already. Raises StepError."""
    require_seed(seed)
    if rows_per_block < 1:
        raise StepError(f"rows_per_block is {rows_per_block}; allowed is 1 or more")
    doctor.require(doctor.trainer, doctor.mlflow_server)
    connection = session("trainer")
    with connection:
        packed = source.pack(connection, seed, rows_per_block)
    _log(packed, seed, rows_per_block)
    told = ", ".join(f"{count:,} {split}" for split, count in packed.row_counts.items())
    if packed.labelled or packed.unused:
        told += f" (labelled in the app: {packed.labelled:,} of them; {packed.unused:,} not used)"
    return f"{told} rows; data {packed.data_hash[:12]} {'uploaded' if packed.is_new else 'was there already'}"


def _log(packed: PackResult, seed: int, rows_per_block: int) -> None:
    mlflow = load_mlflow()
    with step_run("upload_dataset", data_hash=packed.data_hash):
        mlflow.log_input(dataset_input(packed.data_hash), context="training")
        mlflow.log_params({"seed": seed, "rows_per_block": rows_per_block})
        counts = {**packed.row_counts, "labelled": packed.labelled}
        mlflow.log_metrics({f"rows_{split}": count for split, count in counts.items()})
