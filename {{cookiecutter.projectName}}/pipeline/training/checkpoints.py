"""Checkpoints of epochs in the training database, and their metrics there and in MLflow."""

from psycopg2.extensions import connection as Connection

from pipeline import training_db
from pipeline.databases import insert, query
from pipeline.records import EpochRow, MeanScores
from pipeline.tracking import answering, load_mlflow
from pipeline.training.run import Training
from pipeline.training_db import Fitted


def last_state(connection: Connection, training: Training, epoch: int) -> bytes:
    """Return weights and optimizer slots (float32) of the last committed epoch.

    Before the first: the starting weights of model.py, NaN where the seed decides; empty when it decides for all.
    """
    if not epoch:
        return training_db.starting_weights(connection, training.architecture)
    with connection:
        weights, slots = query(
            connection,
            "SELECT weights, optimizer_slots FROM {schema}.training_epoch WHERE run_hash = %s AND epoch = %s",
            (training.run_hash, epoch),
        )[0]
    return bytes(weights) + bytes(slots)


def epoch_row(epoch: int, fitted: Fitted, scores: MeanScores) -> EpochRow:
    """Return an epoch's metrics from its training and from its scores on the validation split."""
    return EpochRow(
        epoch=epoch,
        train_loss=fitted.loss,
        train_accuracy=fitted.accuracy,
        val_loss=scores["loss"],
        val_accuracy=scores["accuracy"],
    )


def write_checkpoint(
    connection: Connection, training: Training, row: EpochRow, fitted: Fitted, seconds: float,
    earlier: list[EpochRow],
) -> None:  # fmt: skip
    """Write an epoch, and drop the weights and slots that are no longer needed; the caller commits.

    `seconds` is how long the epoch took, `earlier` are the epochs before it.
    """
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


def best_epoch(epoch_rows: list[EpochRow]) -> int:
    """Return the number of the epoch with the lowest validation loss, the earlier of two equal ones."""
    return min(epoch_rows, key=lambda row: (row["val_loss"], row["epoch"]))["epoch"]


def best_row(epoch_rows: list[EpochRow]) -> EpochRow:
    """Return the metrics of the best epoch."""
    best = best_epoch(epoch_rows)
    return next(row for row in epoch_rows if row["epoch"] == best)


def is_patience_over(epoch_rows: list[EpochRow], patience: int) -> bool:
    """Return whether the validation loss has not fallen for `patience` epochs."""
    return bool(epoch_rows) and len(epoch_rows) - best_epoch(epoch_rows) >= patience


def log_missing_epochs(run_id: str, epoch_rows: list[EpochRow]) -> None:
    """Log the epochs that MLflow's run lacks: a killed client may have committed without logging."""
    with answering():
        logged = {metric.step for metric in load_mlflow().MlflowClient().get_metric_history(run_id, "val_loss")}
    for row in epoch_rows:
        if row["epoch"] not in logged:
            log_epoch(run_id, row)


def log_epoch(run_id: str, row: EpochRow) -> None:
    """Log an epoch's metrics with a run of MLflow."""
    metrics = {name: value for name, value in row.items() if name != "epoch"}
    with answering():
        load_mlflow().log_metrics(metrics, step=row["epoch"], run_id=run_id)


def epoch_line(row: EpochRow, epochs: int) -> str:
    """Return an epoch's metrics as one line."""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
    )
