"""What an epoch leaves behind: its checkpoint in the training database, and its metrics there and in MLflow."""

from typing import Any

from pipeline.databases import insert, query
from pipeline.tracking import answering, load_mlflow
from pipeline.training.run import Training
from pipeline.training_db import Fitted


def last_state(connection: Any, training: Training, epoch: int) -> bytes:
    """Return weights and optimizer slots of the last committed epoch; empty before the first."""
    if not epoch:
        return b""
    with connection:
        weights, slots = query(
            connection,
            "SELECT weights, optimizer_slots FROM {schema}.training_epoch WHERE run_hash = %s AND epoch = %s",
            (training.run_hash, epoch),
        )[0]
    return bytes(weights) + bytes(slots)


def epoch_row(epoch: int, fitted: Fitted, scores: dict[str, Any]) -> dict[str, Any]:
    """Return an epoch's metrics, as training_epoch and MLflow keep them."""
    return {
        "epoch": epoch,
        "train_loss": fitted.loss,
        "train_accuracy": fitted.accuracy,
        "val_loss": scores["loss"],
        "val_accuracy": scores["accuracy"],
    }


def write_checkpoint(
    connection: Any, training: Training, row: dict[str, Any], fitted: Fitted, seconds: float,
    earlier: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Write an epoch, and drop the weights and slots that no longer count; the caller commits."""
    insert(
        connection,
        "training_epoch",
        {
            "run_hash": training.run_hash,
            **row,
            "seconds": seconds,
            "weights": fitted.weights,
            "optimizer_slots": fitted.optimizer_slots,
        },
    )
    query(
        connection,
        "UPDATE {schema}.training_epoch SET optimizer_slots = NULL, "
        "weights = CASE WHEN epoch = %(best)s THEN weights END "
        "WHERE run_hash = %(run)s AND epoch < %(epoch)s AND (optimizer_slots IS NOT NULL OR weights IS NOT NULL)",
        {"best": best_epoch([*earlier, row]), "run": training.run_hash, "epoch": row["epoch"]},
    )


def best_epoch(epoch_rows: list[dict[str, Any]]) -> int:
    """Return the epoch with the lowest validation loss; the earlier of two equal ones."""
    return min(epoch_rows, key=lambda row: (row["val_loss"], row["epoch"]))["epoch"]


def is_patience_over(epoch_rows: list[dict[str, Any]], patience: int) -> bool:
    """Whether the validation loss has not fallen for `patience` epochs."""
    return bool(epoch_rows) and len(epoch_rows) - best_epoch(epoch_rows) >= patience


def log_missing_epochs(run_id: str, epoch_rows: list[dict[str, Any]]) -> None:
    """Log the epochs that MLflow's run does not have yet: a killed client may have committed without logging."""
    with answering():
        known = {metric.step for metric in load_mlflow().MlflowClient().get_metric_history(run_id, "val_loss")}
    for row in epoch_rows:
        if row["epoch"] not in known:
            log_epoch(run_id, row)


def log_epoch(run_id: str, row: dict[str, Any]) -> None:
    """Log an epoch's metrics with a run of MLflow."""
    metrics = {name: value for name, value in row.items() if name != "epoch"}
    with answering():
        load_mlflow().log_metrics(metrics, step=row["epoch"], run_id=run_id)


def epoch_line(row: dict[str, Any], epochs: int) -> str:
    """Return an epoch's metrics as a line."""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
    )
