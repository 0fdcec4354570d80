"""Train the model in the training database.

An epoch is one transaction; a stopped run resumes after the last epoch. The same data, architecture and parameters are
trained once: a finished run is only selected again.
"""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import doctor, parent_runs, progress, training_db
from pipeline.databases import Connection, binding, interruptible, session
from pipeline.errors import StepError
from pipeline.records import EpochRow
from pipeline.tracking import answering, load_mlflow, parent_follows, step_run
from pipeline.training.checkpoints import (
    best_epoch,
    best_row,
    epoch_line,
    epoch_row,
    is_patience_over,
    last_state,
    log_epoch,
    log_missing_epochs,
    write_checkpoint,
)
from pipeline.training.in_database import InDatabase
from pipeline.training.in_memory import InMemory
from pipeline.training.learner import Learner
from pipeline.training.row_progress import RowProgress
from pipeline.training.run import (
    Training,
    check_parameters,
    committed_epochs,
    current_training,
    heartbeat,
    log_parameters,
    mark_finished,
    mark_running,
    open_run,
    reconnecting,
    recording_failures,
    select,
    training_lock,
)

PLACES = ("database", "memory")


def run(
    epochs: int, batch_size: int, learning_rate: float, seed: int, patience: int, run: int, where: str
) -> str:  # fmt: skip
    """Train until `epochs`, or until the validation loss has not fallen for `patience` epochs.

    Args:
        epochs: most epochs of the training
        batch_size: rows per step of the optimizer
        learning_rate: learning rate of the optimizer
        seed: seed of starting weights and of everything random in training
        patience: stop after this many epochs without a lower validation loss
        run: another number trains afresh
        where: database, or memory: the same code in this process, on an export of the rows

    Raises:
        StepError: a value is not allowed, or the training failed; TemporaryError when the server went away too often.
    """
    parameters: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "patience": patience,
        "run": run,
    }
    check_parameters(parameters)
    if where not in PLACES:
        raise StepError(f"where is {where!r}; allowed is {' or '.join(PLACES)}")
    if where != "database":
        parameters["where"] = where
    doctor.require(doctor.trainer, doctor.mlflow_server)
    return _reconnecting(current_training(parameters))


def _reconnecting(training: Training) -> str:
    return reconnecting("train_model", lambda: _train(training), lambda: _committed_epochs(training))


def _committed_epochs(training: Training) -> int:
    return committed_epochs([training.run_hash])


def _train(training: Training) -> str:
    connection = session("trainer")
    greenplum = binding("trainer").is_greenplum
    with connection:
        training_db.prepare_session(connection, greenplum)
    with training_lock("train_model", connection):
        epoch_rows, mlflow_run = open_run(connection, training)
        with connection:
            select(connection, training)
        if mlflow_run is None:
            with answering(), parent_follows(training.run_hash):
                parent_runs.describe(training, best_row(epoch_rows))
            return (
                f"run {training.run_hash[:12]} was trained before: best epoch {best_epoch(epoch_rows)} is chosen again"
            )
        tags = {"data_hash": training.data.data_hash, "run_hash": training.run_hash}
        with step_run("train_model", mlflow_run or None, **tags) as tracked:
            _describe(connection, training, tracked.info.run_id)
            with heartbeat([training.run_hash]), recording_failures([training.run_hash]):
                epoch_rows = _run_epochs(connection, training, greenplum, epoch_rows)
                mark_finished(connection, training, best_epoch(epoch_rows))
                load_mlflow().log_metric("best_epoch", best_epoch(epoch_rows))
                parent_runs.describe(training, best_row(epoch_rows))
    best = best_row(epoch_rows)
    count = f"{len(epoch_rows)} epoch{'s' if len(epoch_rows) > 1 else ''}"
    return (
        f"{count}; best is {best['epoch']}: validation loss {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.4f}"
    )


def _describe(connection: Connection, training: Training, mlflow_run: str) -> None:
    log_parameters(training, mlflow_run)
    parent_runs.log_data(mlflow_run, training.data)
    parent_runs.describe(training)
    mark_running(connection, training, mlflow_run)


def _run_epochs(
    connection: Connection, training: Training, greenplum: bool, epoch_rows: list[EpochRow]
) -> list[EpochRow]:
    """Train the missing epochs and return all of them."""
    state = last_state(connection, training, len(epoch_rows))
    log_missing_epochs(load_mlflow().active_run().info.run_id, epoch_rows)
    learner = _learner(connection, training)
    epochs, patience = training.parameters["epochs"], training.parameters["patience"]
    console = Console()
    bar = Progress(
        TextColumn("train_model"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    if epoch_rows:
        console.print(f"resuming after epoch {len(epoch_rows)}", highlight=False)
    with bar:
        task = bar.add_task("epochs", total=epochs, completed=len(epoch_rows))
        while len(epoch_rows) < epochs and not is_patience_over(epoch_rows, patience):
            state, row = _one_epoch(connection, training, learner, greenplum, state, epoch_rows)
            epoch_rows = [*epoch_rows, row]
            log_epoch(load_mlflow().active_run().info.run_id, row)
            bar.advance(task)
            bar.console.print(epoch_line(row, epochs), highlight=False)
    return epoch_rows


def _learner(connection: Connection, training: Training) -> Learner:
    if training.parameters.get("where") != "memory":
        return InDatabase(connection, training)
    return InMemory(connection, training.data, training.architecture.weight_count)


def _one_epoch(
    connection: Connection,
    training: Training,
    learner: Learner,
    greenplum: bool,
    state: bytes,
    earlier: list[EpochRow],
) -> tuple[bytes, EpochRow]:
    """Fit, evaluate on the validation split and write the checkpoint, in one transaction.

    `state` is weights and optimizer slots (float32 bytes), empty before the first epoch; `earlier` are the epochs so
    far. Returns the new state and the epoch's row. Raises StepError when there is no training row.
    """
    epoch = len(earlier) + 1
    config = training.config(epoch, learner.threads)
    started = time.monotonic()
    rows = RowProgress(epoch, training.data.split_rows["train"], progress.show)
    with connection, interruptible(rows.read):
        if greenplum and epoch == 1 and isinstance(learner, InDatabase):
            training_db.require_partial_aggregate(connection, training.data.dataset, config)
        fitted = learner.fit(state, config)
        if fitted is None:
            raise StepError("the train split holds no row: run `./run upload_dataset`")
        scores = learner.evaluate(fitted.weights, config)
        row = epoch_row(epoch, fitted, scores)
        write_checkpoint(connection, training, row, fitted, time.monotonic() - started, earlier)
    progress.show("")
    return fitted.weights + fitted.optimizer_slots, row
