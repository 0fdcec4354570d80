"""Step train_model: epochs of `fit` in the training database, one transaction each, resumed where they stopped.

What a training leaves in the database, and how it goes on, is here for the steps that make many, too.
"""

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
from pipeline.training_runs import Blocks, Fitted, StoredArchitecture, TrainingData
from pipeline.user_code import build_optimizer

HEARTBEAT_SECONDS = 10
# How long a server may take to come back, and how often it may go away within one epoch.
RECONNECT_SECONDS = 120
MOST_LOSSES = 3
PLACES = ("database", "memory")


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

    @property
    def blocks(self) -> Blocks:
        """The blocks of the training split that it is trained on: all, or those of a learning curve's share."""
        below = self.parameters.get("batch_id_below")
        return Blocks() if below is None else Blocks("batch_id < %s", (below,))

    def config(self, epoch: int, threads: int) -> str:
        """Return the `config` argument of `fit` and `evaluate` in an epoch."""
        return training_runs.model_config(
            self.architecture.json, self.data.shape, self.architecture.classes, self.data.dtype, self.parameters,
            self.optimizer, epoch, threads,
        )  # fmt: skip


class InDatabase:
    """Trains and evaluates by the aggregates in the training database: no row leaves it."""

    def __init__(self, connection: Any, training: Training) -> None:
        self.connection = connection
        self.training = training
        self.threads = training_runs.threads_for(binding("trainer").is_greenplum)

    def fit(self, state: bytes, config: str) -> Fitted | None:
        """Train one epoch from `state`: weights and optimizer slots, empty before the first."""
        data, weight_count = self.training.data, self.training.architecture.weight_count
        return training_runs.fit(self.connection, data.dataset, state, config, weight_count, self.training.blocks)

    def evaluate(self, weights: bytes, config: str) -> dict[str, Any]:
        """Return {rows, loss, accuracy, …} of the validation split."""
        return training_runs.evaluate(self.connection, self.training.data.dataset, "validation", weights, config)


def check(parameters: dict[str, Any]) -> None:
    """Raise StepError with the first hyper-parameter that is outside what is allowed."""
    for name in ("epochs", "batch_size", "patience"):
        if parameters[name] < 1:
            raise StepError(f"{name} is {parameters[name]}; allowed is 1 or more")
    if not 0 < parameters["learning_rate"] < float("inf"):
        raise StepError(f"learning_rate is {parameters['learning_rate']}; allowed is any number above 0")
    require_seed(parameters["seed"])


def run(
    epochs: int, batch_size: int, learning_rate: float, seed: int, patience: int, run: int, where: str
) -> str:  # fmt: skip
    """Train until `epochs`, or until the validation loss has not fallen for `patience` epochs.

    The same data, architecture and parameters are trained once: a run that was stopped goes on after its last
    committed epoch, a finished one is only chosen again; another `run` number starts afresh. `where` is `database`, or
    `memory`: the same code in this process, on an export of the rows. Raises StepError.
    """
    parameters = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "patience": patience,
        "run": run,
    }
    check(parameters)
    if where not in PLACES:
        raise StepError(f"where is {where!r}; allowed is {' or '.join(PLACES)}")
    if where != "database":
        parameters["where"] = where
    doctor.require(doctor.trainer, doctor.mlflow_server)
    return _reconnecting(choose(parameters))


def choose(parameters: dict[str, Any]) -> Training:
    """Return the training of these parameters on the current data and architecture. Raises StepError."""
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
    return reconnecting("train_model", lambda: _train(training), lambda: _committed_epochs(training))


def reconnecting(step: str, work: Callable[[], str], committed: Callable[[], int]) -> str:
    """Do a work of trainings; begin again after the last committed epochs when the server went away.

    A killed backend restarts all of PostgreSQL, which is no reason to stop; a database that dies again and again
    in the same epoch is. `committed` waits for the server and tells how many epochs it holds.
    Raises StepError, TemporaryError when it is given up.
    """
    losses, reached = 0, -1
    while True:
        try:
            return work()
        except psycopg2.Error as error:
            if not lost_connection(error):
                raise StepError(f"the training database refused: {first_line(error)}") from error
            reason = first_line(error)
        print(f"{step}: the training database went away ({reason}); connecting again", file=sys.stderr)
        forget_session("trainer")
        epochs = committed()
        losses, reached = (losses + 1 if epochs == reached else 1), epochs
        if losses == MOST_LOSSES:
            raise TemporaryError(
                f"the training database went away {losses} times after {epochs} committed epochs; its log says why "
                "(a model that needs more memory than the server has is one reason)"
            )


def _committed_epochs(training: Training) -> int:
    return committed_epochs([training.run_hash])


@tenacity.retry(
    retry=tenacity.retry_if_exception(lost_connection),
    wait=tenacity.wait_exponential(multiplier=0.5, max=5),
    stop=tenacity.stop_after_delay(RECONNECT_SECONDS),
    reraise=True,
)
def committed_epochs(run_hashes: Sequence[str]) -> int:
    """Wait until the server answers again and return how many epochs of the runs it holds. Raises StepError."""
    try:
        connection = session("trainer")
        with connection:
            return query(
                connection,
                "SELECT count(*) FROM {schema}.training_epoch WHERE run_hash = ANY(%s)",
                (list(run_hashes),),
            )[0][0]
    except psycopg2.Error:
        forget_session("trainer")
        raise


def _train(training: Training) -> str:
    connection = session("trainer")
    greenplum = binding("trainer").is_greenplum
    with connection:
        training_runs.prepare_session(connection, greenplum)
    with one_at_a_time("train_model", connection):
        epoch_rows, mlflow_run = open_run(connection, training)
        if mlflow_run is None:
            return (
                f"run {training.run_hash[:12]} was trained before: best epoch {best_epoch(epoch_rows)} is chosen again"
            )
        with step_run("train_model", mlflow_run or None, data_hash=training.data.data_hash) as tracked:
            _describe(connection, training, tracked.info.run_id)
            with heartbeat([training.run_hash]), failures_are_recorded([training.run_hash]):
                epoch_rows = _epochs(connection, training, greenplum, epoch_rows)
                finish(connection, training, best_epoch(epoch_rows))
                load_mlflow().log_metric("best_epoch", best_epoch(epoch_rows))
    best = best_epoch(epoch_rows)
    loss, accuracy = next((row["val_loss"], row["val_accuracy"]) for row in epoch_rows if row["epoch"] == best)
    count = f"{len(epoch_rows)} epoch{'s' if len(epoch_rows) > 1 else ''}"
    return f"{count}; best is {best}: validation loss {loss:.4f}, accuracy {accuracy:.4f}"


@contextlib.contextmanager
def one_at_a_time(step: str, connection: Any) -> Iterator[None]:
    """Hold the project's advisory lock: a second training waits. The lock ends with the session."""
    digest = hashlib.blake2b(f"train {settings().schema}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "big", signed=True)
    with connection:
        free = query(connection, "SELECT pg_try_advisory_lock(%s)", (key,))[0][0]
    if not free:
        print(f"{step}: another training of this project is running; waiting for its end", file=sys.stderr)
        with connection, interruptible():
            query(connection, "SELECT pg_advisory_lock(%s)", (key,))
    try:
        yield
    finally:
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()
            with connection:
                query(connection, "SELECT pg_advisory_unlock(%s)", (key,))


def open_run(connection: Any, training: Training, chosen: bool = True) -> tuple[list[dict[str, Any]], str | None]:
    """Make or find the run's row, and make it the candidate if it is `chosen`. Returns its committed epochs, and the
    MLflow run to go on with: '' for none yet, None when the run has finished."""
    with connection:
        if chosen:
            select(connection, training)
        found = query(
            connection,
            "SELECT status, coalesce(mlflow_run, '') FROM {schema}.training_run WHERE run_hash = %s",
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
                    **({} if chosen else {"selected_at": "-infinity"}),
                },
            )
            return [], ""
        status, mlflow_run = found[0]
        epoch_rows = training_runs.epoch_rows(connection, training.run_hash)
        return epoch_rows, None if status == "finished" else mlflow_run


def select(connection: Any, training: Training) -> None:
    """Make a run the candidate, which evaluate_model and promote_model take; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.training_run SET selected_at = clock_timestamp() WHERE run_hash = %s",
        (training.run_hash,),
    )


def _describe(connection: Any, training: Training, mlflow_run: str) -> None:
    log_parameters(training, mlflow_run)
    load_mlflow().log_input(dataset_input(training.data.data_hash), context="training")
    begin(connection, training, mlflow_run)


def log_parameters(training: Training, mlflow_run: str) -> None:
    """Log what decides a training with a run of MLflow."""
    parameters = {"where": "database", **training.parameters, "architecture_hash": training.architecture.hash}
    with answering():
        load_mlflow().log_params(parameters, run_id=mlflow_run)


def begin(connection: Any, training: Training, mlflow_run: str) -> None:
    """Tell the database that the training runs, and in which run of MLflow."""
    with connection:
        query(
            connection,
            "UPDATE {schema}.training_run SET status = 'running', error = NULL, mlflow_run = %s, "
            "heartbeat_at = clock_timestamp() WHERE run_hash = %s",
            (mlflow_run, training.run_hash),
        )


@contextlib.contextmanager
def heartbeat(run_hashes: Sequence[str]) -> Iterator[None]:
    """Keep heartbeat_at of the running ones young while an epoch takes its time: by a session of its own."""
    done = threading.Event()

    def beat() -> None:
        with contextlib.suppress(psycopg2.Error, StepError):
            connection = connect("trainer")
            connection.autocommit = True
            while not done.wait(HEARTBEAT_SECONDS):
                query(
                    connection,
                    "UPDATE {schema}.training_run SET heartbeat_at = clock_timestamp() "
                    "WHERE run_hash = ANY(%s) AND status = 'running'",
                    (list(run_hashes),),
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
def failures_are_recorded(run_hashes: Sequence[str]) -> Iterator[None]:
    """Write why running trainings ended into training_run; a lost session records nothing, it is tried again."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if lost_connection(error):
            raise
        reason = "stopped by a person" if isinstance(error, KeyboardInterrupt) else first_line(error)
        connection = session("trainer")
        connection.rollback()
        with connection:
            record_failure(connection, run_hashes, reason)
        raise


def record_failure(connection: Any, run_hashes: Sequence[str], reason: str) -> None:
    """Write why running trainings ended; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.training_run SET status = 'failed', error = %s "
        "WHERE run_hash = ANY(%s) AND status = 'running'",
        (reason, list(run_hashes)),
    )


def _epochs(
    connection: Any, training: Training, greenplum: bool, epoch_rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run the epochs that are missing and return all of them."""
    state = last_state(connection, training, len(epoch_rows))
    log_missing_epochs(load_mlflow().active_run().info.run_id, epoch_rows)
    learner = _learner(connection, training)
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
        while len(epoch_rows) < wanted and not is_patience_over(epoch_rows, patience):
            state, row = _one_epoch(connection, training, learner, greenplum, state, epoch_rows)
            epoch_rows = [*epoch_rows, row]
            log_epoch(load_mlflow().active_run().info.run_id, row)
            bar.advance(task)
            bar.console.print(told(row, wanted), highlight=False)
    return epoch_rows


def _learner(connection: Any, training: Training) -> Any:
    if training.parameters.get("where") != "memory":
        return InDatabase(connection, training)
    from pipeline.memory import InMemory

    return InMemory(connection, training.data, training.architecture.weight_count)


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


def _one_epoch(
    connection: Any,
    training: Training,
    learner: Any,
    greenplum: bool,
    state: bytes,
    earlier: list[dict[str, Any]],
) -> tuple[bytes, dict[str, Any]]:
    """Fit, evaluate on the validation split and write the checkpoint: one transaction."""
    epoch = len(earlier) + 1
    config = training.config(epoch, learner.threads)
    started = time.monotonic()
    with connection, interruptible():
        if greenplum and epoch == 1 and isinstance(learner, InDatabase):
            training_runs.require_partial_aggregate(connection, training.data.dataset, config)
        fitted = learner.fit(state, config)
        scores = learner.evaluate(fitted.weights, config)
        row = epoch_row(epoch, fitted, scores)
        write_checkpoint(connection, training, row, fitted, time.monotonic() - started, earlier)
    return fitted.weights + fitted.optimizer_slots, row


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


def told(row: dict[str, Any], epochs: int) -> str:
    """Return an epoch's metrics as a line."""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
    )


def finish(connection: Any, training: Training, best: int) -> None:
    """Mark a run as finished: the weights of its best epoch stay."""
    with connection:
        query(
            connection,
            "UPDATE {schema}.training_run SET status = 'finished', best_epoch = %s, finished_at = clock_timestamp(), "
            "heartbeat_at = clock_timestamp() WHERE run_hash = %s",
            (best, training.run_hash),
        )
        query(
            connection,
            "UPDATE {schema}.training_epoch SET optimizer_slots = NULL, "
            "weights = CASE WHEN epoch = %s THEN weights END WHERE run_hash = %s",
            (best, training.run_hash),
        )
