"""A training run: the inputs that decide its result, and its row in the training database."""

import contextlib
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg2
import tenacity
from psycopg2.extensions import connection as Connection

from pipeline import training_db
from pipeline.databases import (
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
from pipeline.parent_runs import logged_parameters
from pipeline.records import EpochRow
from pipeline.run_identity import git_commit
from pipeline.settings import require_seed, settings
from pipeline.tracking import answering, load_mlflow
from pipeline.training.loss import loss_parameters
from pipeline.training_db import Blocks, StoredArchitecture, TrainingData
from pipeline.user_code import build_optimizer

HEARTBEAT_SECONDS = 10
# Seconds for a server to come back, and how often it may go away within one epoch.
RECONNECT_SECONDS = 120
MOST_LOSSES = 3


class Training(NamedTuple):
    """Everything that decides a run's result; `run_hash` identifies it."""

    data: TrainingData
    architecture: StoredArchitecture
    optimizer: dict[str, Any]
    parameters: dict[str, Any]

    @property
    def run_hash(self) -> str:
        """SHA-256 over data, architecture, optimizer and parameters, hexadecimal."""
        content = [self.data.dataset, self.architecture.hash, self.optimizer, self.parameters]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def blocks(self) -> Blocks:
        """The blocks of the training split to train on: all, or those of a learning curve's share."""
        below = self.parameters.get("batch_id_below")
        return Blocks() if below is None else Blocks("batch_id < %s", (below,))

    def config(self, epoch: int, threads: int) -> str:
        """Return the `config` argument of `fit` and `evaluate` for an epoch."""
        return training_db.model_config(
            self.architecture.json, self.data.shape, self.architecture.classes, self.data.dtype, self.parameters,
            self.optimizer, epoch, threads,
        )  # fmt: skip


def check_parameters(parameters: dict[str, Any]) -> None:
    """Check the hyper-parameters. Raises StepError with the first that is not allowed."""
    for name in ("epochs", "batch_size", "patience"):
        if parameters[name] < 1:
            raise StepError(f"{name} is {parameters[name]}; allowed is 1 or more")
    if not 0 < parameters["learning_rate"] < float("inf"):
        raise StepError(f"learning_rate is {parameters['learning_rate']}; allowed is any number above 0")
    require_seed(parameters["seed"])


def current_training(parameters: dict[str, Any]) -> Training:
    """Return the training of these parameters on the current data and architecture. Raises StepError."""
    connection = session("trainer")
    with connection:
        data = training_db.current_data(connection)
        architecture = training_db.current_architecture(connection)
    if data.shape != architecture.shape or len(data.classes) != architecture.classes:
        raise StepError(
            f"the data set has rows of {data.shape} and {len(data.classes)} classes, the deployed architecture takes "
            f"{architecture.shape} and {architecture.classes}: run deploy_training_db again"
        )
    return Training(
        data, architecture, build_optimizer(parameters["learning_rate"]), {**parameters, **loss_parameters(data)}
    )


def reconnecting(step: str, work: Callable[[], str], committed: Callable[[], int]) -> str:
    """Run `work`, and run it again whenever the server went away; it resumes after the last committed epochs.

    A killed backend restarts all of PostgreSQL, which is no reason to stop; a database that dies again and again in the
    same epoch is. `committed` waits for the server and returns how many epochs it holds.
    Raises StepError, or TemporaryError after MOST_LOSSES losses in the same epoch.
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


@tenacity.retry(
    retry=tenacity.retry_if_exception(lost_connection),
    wait=tenacity.wait_exponential(multiplier=0.5, max=5),
    stop=tenacity.stop_after_delay(RECONNECT_SECONDS),
    reraise=True,
)
def committed_epochs(run_hashes: Sequence[str]) -> int:
    """Wait until the server answers again, and return how many epochs of the runs it holds. Raises StepError."""
    try:
        connection = session("trainer")
        with connection:
            count: int = query(
                connection,
                "SELECT count(*) FROM {schema}.training_epoch WHERE run_hash = ANY(%s)",
                (list(run_hashes),),
            )[0][0]
            return count
    except psycopg2.Error:
        forget_session("trainer")
        raise


@contextlib.contextmanager
def training_lock(step: str, connection: Connection) -> Iterator[None]:
    """Hold the project's advisory lock: a second training waits. The lock ends with the session."""
    digest = hashlib.blake2b(f"train {settings().schema}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "big", signed=True)
    with connection:
        is_free = query(connection, "SELECT pg_try_advisory_lock(%s)", (key,))[0][0]
    if not is_free:
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


def open_run(connection: Connection, training: Training) -> tuple[list[EpochRow], str | None]:
    """Insert the run's row unless it exists, and return its committed epochs and its MLflow run.

    The MLflow run is '' before there is one, and None when the training has finished. A new run is no candidate until
    `select` makes it one.
    """
    with connection:
        rows = query(
            connection,
            "SELECT status, coalesce(mlflow_run, '') FROM {schema}.training_run WHERE run_hash = %s",
            (training.run_hash,),
        )
        if not rows:
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
                    "selected_at": "-infinity",
                },
            )
            return [], ""
        status, mlflow_run = rows[0]
        epoch_rows = training_db.epoch_rows(connection, training.run_hash)
        return epoch_rows, None if status == "finished" else mlflow_run


def select(connection: Connection, training: Training) -> None:
    """Make a run the candidate that evaluate_model and promote_model use; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.training_run SET selected_at = clock_timestamp() WHERE run_hash = %s",
        (training.run_hash,),
    )


def log_parameters(training: Training, mlflow_run: str) -> None:
    """Log the parameters of a training with a run of MLflow."""
    with answering():
        load_mlflow().log_params(logged_parameters(training), run_id=mlflow_run)


def mark_running(connection: Connection, training: Training, mlflow_run: str) -> None:
    """Mark a run as running, with its run of MLflow."""
    with connection:
        query(
            connection,
            "UPDATE {schema}.training_run SET status = 'running', error = NULL, mlflow_run = %s, "
            "heartbeat_at = clock_timestamp() WHERE run_hash = %s",
            (mlflow_run, training.run_hash),
        )


@contextlib.contextmanager
def heartbeat(run_hashes: Sequence[str]) -> Iterator[None]:
    """Update heartbeat_at of the running trainings every few seconds, in a session of its own."""
    stopped = threading.Event()

    def beat() -> None:
        with contextlib.suppress(psycopg2.Error, StepError):
            connection = connect("trainer")
            connection.autocommit = True
            while not stopped.wait(HEARTBEAT_SECONDS):
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
        stopped.set()
        thread.join()


@contextlib.contextmanager
def recording_failures(run_hashes: Sequence[str]) -> Iterator[None]:
    """Write an error to training_run as the reason why the running trainings failed.

    A lost session records nothing, because the training is resumed.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if lost_connection(error):
            raise
        reason = "stopped by a person" if isinstance(error, KeyboardInterrupt) else first_line(error)
        connection = session("trainer")
        connection.rollback()
        with connection:
            mark_failed(connection, run_hashes, reason)
        raise


def mark_failed(connection: Connection, run_hashes: Sequence[str], reason: str) -> None:
    """Mark the running trainings among these runs as failed; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.training_run SET status = 'failed', error = %s "
        "WHERE run_hash = ANY(%s) AND status = 'running'",
        (reason, list(run_hashes)),
    )


def mark_finished(connection: Connection, training: Training, best: int) -> None:
    """Mark a run as finished; only the weights of its best epoch stay stored."""
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
