"""Step train_model: epochs of `fit` in the training database, one transaction each, resumed where they stopped."""

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg2
import tenacity
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import doctor, training_runs
from pipeline.databases import (
    binding,
    connect,
    first_line,
    forget_session,
    insert,
    interruptible,
    lost_connection,
    query,
    session,
)
from pipeline.errors import StepError, TemporaryError
from pipeline.settings import git_commit, require_seed, settings
from pipeline.tracking import answering, dataset_input, load_mlflow, step_run
from pipeline.training_runs import StoredArchitecture, TrainingData
from pipeline.user_code import build_optimizer

HEARTBEAT_SECONDS = 10
# How long a server may take to come back, and how often it may go away within one epoch.
RECONNECT_SECONDS = 120
MOST_LOSSES = 3


class Training(NamedTuple):
    """All that decides a run's result; `run_hash` names it."""

    data: TrainingData
    architecture: StoredArchitecture
    optimizer: dict[str, Any]
    parameters: dict[str, Any]

    @property
    def run_hash(self) -> str:
        """SHA-256 over data, architecture, optimizer and parameters, hexadecimal."""
        told = [self.data.dataset, self.architecture.hash, self.optimizer, self.parameters]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def run(epochs: int, batch_size: int, learning_rate: float, seed: int, patience: int, run: int) -> str:
    """Train until `epochs`, or until the validation loss has not fallen for `patience` epochs.

    The same data, architecture and parameters are trained once: a run that was stopped goes on after its last
    committed epoch, a finished one is only chosen again; another `run` number starts afresh.
    Raises StepError.
    """
    for name, value, least in (
        ("epochs", epochs, 1),
        ("batch_size", batch_size, 1),
        ("patience", patience, 1),
    ):
        if value < least:
            raise StepError(f"{name} is {value}; allowed is {least} or more")
    if not 0 < learning_rate < float("inf"):
        raise StepError(f"learning_rate is {learning_rate}; allowed is any number above 0")
    require_seed(seed)
    doctor.require(doctor.trainer, doctor.mlflow_server)
    parameters = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "patience": patience,
        "run": run,
    }
    return _reconnecting(_choose(parameters))


def _choose(parameters: dict[str, Any]) -> Training:
    connection = session("trainer")
    with connection:
        data = training_runs.current_data(connection)
        architecture = training_runs.current_architecture(connection)
    if data.shape != architecture.shape or len(data.classes) != architecture.classes:
        raise StepError(
            f"the data set has rows of {data.shape} and {len(data.classes)} classes, the deployed architecture takes "
            f"{architecture.shape} and {architecture.classes}: run deploy_training_db again"
        )
    return Training(data, architecture, build_optimizer(parameters["learning_rate"]), parameters)


def _reconnecting(training: Training) -> str:
    """Train; begin again after the last committed epoch when the server went away.

    A killed backend restarts all of PostgreSQL, which is no reason to stop; a database that dies again and again
    in the same epoch is. Raises StepError, TemporaryError when it is given up.
    """
    losses, reached = 0, -1
    while True:
        try:
            return _train(training)
        except psycopg2.Error as error:
            if not lost_connection(error):
                raise StepError(f"the training database refused: {first_line(error)}") from error
            reason = first_line(error)
        print(f"train_model: the training database went away ({reason}); connecting again", file=sys.stderr)
        forget_session("trainer")
        epochs = _committed_epochs(training)
        losses, reached = (losses + 1 if epochs == reached else 1), epochs
        if losses == MOST_LOSSES:
            raise TemporaryError(
                f"the training database went away {losses} times in epoch {epochs + 1}; its log says why "
                "(a model that needs more memory than the server has is one reason)"
            )


@tenacity.retry(
    retry=tenacity.retry_if_exception(lost_connection),
    wait=tenacity.wait_exponential(multiplier=0.5, max=5),
    stop=tenacity.stop_after_delay(RECONNECT_SECONDS),
    reraise=True,
)
def _committed_epochs(training: Training) -> int:
    """Wait until the server answers again and return how many epochs of the run it holds. Raises StepError."""
    try:
        connection = session("trainer")
        with connection:
            return query(
                connection, "SELECT count(*) FROM {schema}.training_epoch WHERE run_hash = %s", (training.run_hash,)
            )[0][0]
    except psycopg2.Error:
        forget_session("trainer")
        raise


def _train(training: Training) -> str:
    connection = session("trainer")
    greenplum = binding("trainer").is_greenplum
    with connection:
        training_runs.prepare_session(connection, greenplum)
    with _one_at_a_time(connection):
        epoch_rows, mlflow_run = _open_run(connection, training)
        if mlflow_run is None:
            return f"run {training.run_hash[:12]} was trained before: best epoch {_best(epoch_rows)} is chosen again"
        with step_run("train_model", mlflow_run or None, data_hash=training.data.data_hash) as tracked:
            _describe(connection, training, tracked.info.run_id)
            with _heartbeat(training.run_hash), _failure_is_recorded(training.run_hash):
                epoch_rows = _epochs(connection, training, greenplum, epoch_rows)
                _finish(connection, training, _best(epoch_rows))
    best = _best(epoch_rows)
    loss, accuracy = next((row["val_loss"], row["val_accuracy"]) for row in epoch_rows if row["epoch"] == best)
    count = f"{len(epoch_rows)} epoch{'s' if len(epoch_rows) > 1 else ''}"
    return f"{count}; best is {best}: validation loss {loss:.4f}, accuracy {accuracy:.4f}"


@contextlib.contextmanager
def _one_at_a_time(connection: Any) -> Iterator[None]:
    """Hold the project's advisory lock: a second training waits. The lock ends with the session."""
    digest = hashlib.blake2b(f"train {settings().schema}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "big", signed=True)
    with connection:
        free = query(connection, "SELECT pg_try_advisory_lock(%s)", (key,))[0][0]
    if not free:
        print("train_model: another training of this project is running; waiting for its end", file=sys.stderr)
        with connection, interruptible():
            query(connection, "SELECT pg_advisory_lock(%s)", (key,))
    try:
        yield
    finally:
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()
            with connection:
                query(connection, "SELECT pg_advisory_unlock(%s)", (key,))


def _open_run(connection: Any, training: Training) -> tuple[list[dict[str, Any]], str | None]:
    """Make or find the run's row and choose it. Returns its committed epochs, and the MLflow run to go on
    with: '' for none yet, None when the run has finished."""
    with connection:
        found = query(
            connection,
            "UPDATE {schema}.training_run SET selected_at = clock_timestamp() WHERE run_hash = %s "
            "RETURNING status, coalesce(mlflow_run, '')",
            (training.run_hash,),
        )
        if not found:
            insert(
                connection,
                "training_run",
                {
                    "run_hash": training.run_hash,
                    "dataset": training.data.dataset,
                    "data_hash": training.data.data_hash,
                    "architecture_hash": training.architecture.hash,
                    "parameters": json.dumps(training.parameters),
                    "optimizer": json.dumps(training.optimizer),
                    "status": "running",
                    "git_commit": git_commit(),
                },
            )
            return [], ""
        status, mlflow_run = found[0]
        epoch_rows = training_runs.epoch_rows(connection, training.run_hash)
        return epoch_rows, None if status == "finished" else mlflow_run


def _describe(connection: Any, training: Training, mlflow_run: str) -> None:
    mlflow = load_mlflow()
    mlflow.log_params({**training.parameters, "architecture_hash": training.architecture.hash})
    mlflow.log_input(dataset_input(training.data.data_hash), context="training")
    with connection:
        query(
            connection,
            "UPDATE {schema}.training_run SET status = 'running', error = NULL, mlflow_run = %s, "
            "heartbeat_at = clock_timestamp() WHERE run_hash = %s",
            (mlflow_run, training.run_hash),
        )


@contextlib.contextmanager
def _heartbeat(run_hash: str) -> Iterator[None]:
    """Keep training_run.heartbeat_at young while an epoch takes its time: by a session of its own."""
    done = threading.Event()

    def beat() -> None:
        with contextlib.suppress(psycopg2.Error, StepError):
            connection = connect("trainer")
            connection.autocommit = True
            while not done.wait(HEARTBEAT_SECONDS):
                query(
                    connection,
                    "UPDATE {schema}.training_run SET heartbeat_at = clock_timestamp() WHERE run_hash = %s",
                    (run_hash,),
                )
            connection.close()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _failure_is_recorded(run_hash: str) -> Iterator[None]:
    """Write why a run ended into training_run; a lost session records nothing, it is tried again."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if lost_connection(error):
            raise
        reason = "stopped by a person" if isinstance(error, KeyboardInterrupt) else first_line(error)
        connection = session("trainer")
        connection.rollback()
        with connection:
            query(
                connection,
                "UPDATE {schema}.training_run SET status = 'failed', error = %s WHERE run_hash = %s",
                (reason, run_hash),
            )
        raise


def _epochs(
    connection: Any, training: Training, greenplum: bool, epoch_rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run the epochs that are missing and return all of them."""
    state = _last_state(connection, training, len(epoch_rows))
    _log_missing_epochs(epoch_rows)
    wanted, patience = training.parameters["epochs"], training.parameters["patience"]
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
        task = bar.add_task("epochs", total=wanted, completed=len(epoch_rows))
        while len(epoch_rows) < wanted and not _is_patience_over(epoch_rows, patience):
            state, row = _one_epoch(connection, training, greenplum, len(epoch_rows) + 1, state, epoch_rows)
            epoch_rows = [*epoch_rows, row]
            _log_epoch(row)
            bar.advance(task)
            bar.console.print(_told(row, wanted), highlight=False)
    return epoch_rows


def _last_state(connection: Any, training: Training, epoch: int) -> bytes:
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


def _one_epoch(
    connection: Any,
    training: Training,
    greenplum: bool,
    epoch: int,
    state: bytes,
    earlier: list[dict[str, Any]],
) -> tuple[bytes, dict[str, Any]]:
    """Fit, evaluate on the validation split and write the checkpoint: one transaction."""
    data, architecture = training.data, training.architecture
    config = training_runs.model_config(
        architecture.json, data.shape, architecture.classes, data.dtype, training.parameters, training.optimizer,
        epoch, training_runs.threads_for(greenplum),
    )  # fmt: skip
    started = time.monotonic()
    with connection, interruptible():
        if greenplum and epoch == 1:
            training_runs.require_partial_aggregate(connection, data.dataset, config)
        fitted = training_runs.fit(connection, data.dataset, state, config, architecture.weight_count)
        scores = training_runs.evaluate(connection, data.dataset, "validation", fitted.weights, config)
        row = {
            "epoch": epoch,
            "train_loss": fitted.loss,
            "train_accuracy": fitted.accuracy,
            "val_loss": scores["loss"],
            "val_accuracy": scores["accuracy"],
        }
        insert(
            connection,
            "training_epoch",
            {
                "run_hash": training.run_hash,
                **row,
                "seconds": time.monotonic() - started,
                "weights": fitted.weights,
                "optimizer_slots": fitted.optimizer_slots,
            },
        )
        query(
            connection,
            "UPDATE {schema}.training_epoch SET optimizer_slots = NULL, "
            "weights = CASE WHEN epoch = %(best)s THEN weights END "
            "WHERE run_hash = %(run)s AND epoch < %(epoch)s AND (optimizer_slots IS NOT NULL OR weights IS NOT NULL)",
            {"best": _best([*earlier, row]), "run": training.run_hash, "epoch": epoch},
        )
    return fitted.weights + fitted.optimizer_slots, row


def _best(epoch_rows: list[dict[str, Any]]) -> int:
    """Return the epoch with the lowest validation loss; the earlier of two equal ones."""
    return min(epoch_rows, key=lambda row: (row["val_loss"], row["epoch"]))["epoch"]


def _is_patience_over(epoch_rows: list[dict[str, Any]], patience: int) -> bool:
    return bool(epoch_rows) and len(epoch_rows) - _best(epoch_rows) >= patience


def _log_missing_epochs(epoch_rows: list[dict[str, Any]]) -> None:
    """Log the epochs that MLflow does not have yet: a killed client may have committed without logging."""
    mlflow = load_mlflow()
    with answering():
        run_id = mlflow.active_run().info.run_id
        known = {metric.step for metric in mlflow.MlflowClient().get_metric_history(run_id, "val_loss")}
    for row in epoch_rows:
        if row["epoch"] not in known:
            _log_epoch(row)


def _log_epoch(row: dict[str, Any]) -> None:
    metrics = {name: value for name, value in row.items() if name != "epoch"}
    with answering():
        load_mlflow().log_metrics(metrics, step=row["epoch"])


def _told(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
    )


def _finish(connection: Any, training: Training, best_epoch: int) -> None:
    with connection:
        query(
            connection,
            "UPDATE {schema}.training_run SET status = 'finished', best_epoch = %s, finished_at = clock_timestamp(), "
            "heartbeat_at = clock_timestamp() WHERE run_hash = %s",
            (best_epoch, training.run_hash),
        )
        query(
            connection,
            "UPDATE {schema}.training_epoch SET optimizer_slots = NULL, "
            "weights = CASE WHEN epoch = %s THEN weights END WHERE run_hash = %s",
            (best_epoch, training.run_hash),
        )
    load_mlflow().log_metric("best_epoch", best_epoch)
