"""A training run: what decides its result, and what the training database keeps of it."""

import contextlib
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg2
import tenacity

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
from pipeline.run_identity import git_commit
from pipeline.settings import require_seed, settings
from pipeline.tracking import answering, load_mlflow
from pipeline.training_db import Blocks, StoredArchitecture, TrainingData
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

    @property
    def blocks(self) -> Blocks:
        """The blocks of the training split that it is trained on: all, or those of a learning curve's share."""
        below = self.parameters.get("batch_id_below")
        return Blocks() if below is None else Blocks("batch_id < %s", (below,))

    def config(self, epoch: int, threads: int) -> str:
        """Return the `config` argument of `fit` and `evaluate` in an epoch."""
        return training_db.model_config(
            self.architecture.json, self.data.shape, self.architecture.classes, self.data.dtype, self.parameters,
            self.optimizer, epoch, threads,
        )  # fmt: skip


def check(parameters: dict[str, Any]) -> None:
    """Raise StepError with the first hyper-parameter that is outside what is allowed."""
    for name in ("epochs", "batch_size", "patience"):
        if parameters[name] < 1:
            raise StepError(f"{name} is {parameters[name]}; allowed is 1 or more")
    if not 0 < parameters["learning_rate"] < float("inf"):
        raise StepError(f"learning_rate is {parameters['learning_rate']}; allowed is any number above 0")
    require_seed(parameters["seed"])


def choose(parameters: dict[str, Any]) -> Training:
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
    return Training(data, architecture, build_optimizer(parameters["learning_rate"]), parameters)


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
        epoch_rows = training_db.epoch_rows(connection, training.run_hash)
        return epoch_rows, None if status == "finished" else mlflow_run


def select(connection: Any, training: Training) -> None:
    """Make a run the candidate, which evaluate_model and promote_model take; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.training_run SET selected_at = clock_timestamp() WHERE run_hash = %s",
        (training.run_hash,),
    )


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
