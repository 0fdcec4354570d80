"""The content of the training database: data sets, architectures, training runs and their checkpoints."""

import contextlib
import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from database.python.state import HEADER
from pipeline.databases import Connection, query
from pipeline.errors import StepError
from pipeline.records import Encoding, EpochRow, Scores, TrainingStatistics
from pipeline.settings import settings

STATE_HEADER = struct.Struct(HEADER)


class TrainingData(NamedTuple):
    """A data set; the current one was uploaded or selected last.

    `shape` is that of one row, `dtype` numpy's name for its values, `split_rows` the row counts per split, `encoding`
    how a row of the source table becomes numbers (None for dataset.py).
    """

    dataset: str
    data_hash: str
    shape: tuple[int, ...]
    dtype: str
    classes: list[str]
    split_rows: dict[str, int]
    statistics: TrainingStatistics
    encoding: Encoding | None = None


class StoredArchitecture(NamedTuple):
    """A deployed architecture: its SHA-256, Keras JSON, one row's shape, numbers of classes and of weights."""

    hash: str
    json: str
    shape: tuple[int, ...]
    classes: int
    weight_count: int


class FinishedRun(NamedTuple):
    """A finished training run with the weights of its best epoch (float32 bytes)."""

    run_hash: str
    data: TrainingData
    architecture: StoredArchitecture
    parameters: dict[str, Any]
    best_epoch: int
    weights: bytes
    git_commit: str
    mlflow_run: str


class Examples(NamedTuple):
    """Rows (n, *shape) to check a model with, and samples for the page: base64 of one row by class name."""

    rows: npt.NDArray[Any]
    samples: dict[str, str]


class ServedRows(NamedTuple):
    """Rows (n, *shape) as the app decodes them, and the probabilities (n, classes) that the training database gives."""

    rows: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float32]


class Features(NamedTuple):
    """The features of dataset_batch that a model gets: an SQL expression and its parameters."""

    expression: str
    parameters: tuple[str, ...] = ()


AS_STORED = Features("features")


class Fitted(NamedTuple):
    """The result of `fit`: means of loss and accuracy while training, weights and slots (float32), and its rows."""

    loss: float
    accuracy: float
    weights: bytes
    optimizer_slots: bytes
    rows: int


class Blocks(NamedTuple):
    """Some blocks of a split: a condition in SQL, with the values of its placeholders."""

    condition: str = "TRUE"
    values: tuple[object, ...] = ()


ALL_BLOCKS = Blocks()


def fitted(state: bytes, weight_count: int) -> Fitted | None:
    """Unpack the last state of `fit`; None when there was no row to train on."""
    if len(state) < STATE_HEADER.size:
        return None
    _, _, rows, loss_sum, correct = STATE_HEADER.unpack_from(state)
    body = bytes(state[STATE_HEADER.size :])
    return Fitted(loss_sum / rows, correct / rows, body[: 4 * weight_count], body[4 * weight_count :], rows)


def current_data(connection: Connection, dataset: str | None = None) -> TrainingData:
    """Return the current data set, or the named one. Raises StepError when there is none."""
    columns = "dataset, data_hash, shape, dtype, classes, split_rows, training_statistics"
    columns += ", encoding" if settings().source else ", NULL"
    rows = query(
        connection,
        f"SELECT {columns}" + " FROM {schema}.dataset "
        "WHERE dataset = %(name)s OR %(name)s IS NULL ORDER BY selected_at DESC LIMIT 1",
        {"name": dataset},
    )
    if not rows:
        raise StepError("the training database holds no data set: run `./run upload_dataset`")
    name, data_hash, shape, dtype, classes, split_rows, statistics, encoding = rows[0]
    with _readable("dataset"):
        return TrainingData(
            name,
            data_hash,
            _shape(shape),
            dtype,
            json.loads(classes),
            json.loads(split_rows),
            json.loads(statistics),
            json.loads(encoding) if encoding else None,
        )


@contextlib.contextmanager
def _readable(table: str) -> Iterator[None]:
    """Raise StepError for a row that no step wrote: the trainer's login may change it."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise StepError(
            f"the training database's table {table} has a row that no step wrote ({type(error).__name__}): delete it "
            "with the login of training-deployer, and run `./run all` again"
        ) from error


def select_data(connection: Connection, dataset: str) -> bool:
    """Make a data set the current one; False when the database does not hold it.

    Greenplum cannot plan a volatile function, such as clock_timestamp(), in an UPDATE of a replicated table.
    """
    return bool(
        query(
            connection,
            "UPDATE {schema}.dataset SET selected_at = now() WHERE dataset = %s AND erased_at IS NULL RETURNING 1",
            (dataset,),
        )
    )


def current_architecture(connection: Connection, architecture_hash: str | None = None) -> StoredArchitecture:
    """Return the architecture deployed last, or the named one. Raises StepError when there is none."""
    rows = query(
        connection,
        "SELECT architecture_hash, architecture, shape, classes, weight_count FROM {schema}.model_architecture "
        "WHERE architecture_hash = %(hash)s OR %(hash)s IS NULL ORDER BY deployed_at DESC LIMIT 1",
        {"hash": architecture_hash},
    )
    if not rows:
        raise StepError("the training database holds no architecture: run `./run deploy_training_db`")
    stored_hash, text, shape, classes, weight_count = rows[0]
    return StoredArchitecture(stored_hash, text, _shape(shape), classes, weight_count)


def starting_weights(connection: Connection, architecture: StoredArchitecture) -> bytes:
    """Return the weights that model.py set, float32 bytes with NaN for the others; empty when it set none."""
    with connection:
        stored = query(
            connection,
            "SELECT starting_weights FROM {schema}.model_architecture WHERE architecture_hash = %s",
            (architecture.hash,),
        )[0][0]
    return bytes(stored) if stored else b""


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def finished_run(connection: Connection) -> FinishedRun:
    """Return the finished run that train_model or search selected last. Raises StepError when there is none.

    A run that was never selected, such as another candidate of a search, has selected_at -infinity.
    """
    trained = _finished_run(connection, "selected_at > '-infinity'")
    if trained is None:
        raise StepError("no training run has finished: run `./run train_model`")
    return trained


def finished_run_of(connection: Connection, run_hash: str) -> FinishedRun | None:
    """Return the finished run of this hash, None when there is none."""
    return _finished_run(connection, "run_hash = %s", run_hash)


def _finished_run(connection: Connection, condition: str, *values: str) -> FinishedRun | None:
    """Return the run selected last among the finished runs of a condition in SQL, None when there is none."""
    rows = query(
        connection,
        "SELECT run_hash, dataset, architecture_hash, parameters, best_epoch, weights, git_commit, mlflow_run "
        "FROM {schema}.training_run JOIN {schema}.training_epoch USING (run_hash) "
        "WHERE status = 'finished' AND epoch = best_epoch AND " + condition + " ORDER BY selected_at DESC LIMIT 1",
        values,
    )
    if not rows:
        return None
    run_hash, dataset, architecture, parameters, best_epoch, weights, git_commit, mlflow_run = rows[0]
    with _readable("training_run"):
        return FinishedRun(
            run_hash,
            current_data(connection, dataset),
            current_architecture(connection, architecture),
            json.loads(parameters),
            best_epoch,
            bytes(weights),
            git_commit,
            mlflow_run,
        )


def epoch_rows(connection: Connection, run_hash: str) -> list[EpochRow]:
    """Return a run's committed epochs in order."""
    rows = query(
        connection,
        "SELECT epoch, train_loss, train_accuracy, val_loss, val_accuracy FROM {schema}.training_epoch "
        "WHERE run_hash = %s ORDER BY epoch",
        (run_hash,),
    )
    return [
        EpochRow(
            epoch=epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
        )
        for epoch, train_loss, train_accuracy, val_loss, val_accuracy in rows
    ]


def evaluation_config(architecture: str, data: TrainingData, greenplum: bool) -> str:
    """Return the `config` argument that evaluates a model (Keras JSON) on a data set."""
    return model_config(architecture, data.shape, len(data.classes), data.dtype, threads=threads_for(greenplum))


def model_config(
    architecture: str, shape: tuple[int, ...], classes: int, dtype: str, parameters: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None, epoch: int = 0, threads: int = 0,
) -> str:  # fmt: skip
    """Return the `config` argument of `fit` and `evaluate` (JSON); 0 threads leave the number to TensorFlow."""
    hyper_parameters = parameters or {}
    loss = {name: hyper_parameters[name] for name in LOSS_PARAMETERS if name in hyper_parameters}
    return json.dumps(
        {
            **loss,
            "architecture": json.loads(architecture),
            "optimizer": optimizer or SGD,
            "shape": shape,
            "dtype": dtype,
            "classes": classes,
            "batch_size": hyper_parameters.get("batch_size", 256),
            "seed": hyper_parameters.get("seed", 0),
            "epoch": epoch,
            "threads": threads,
        },
        sort_keys=True,
    )


# Parameters of the loss, which a configuration holds only if project.yaml sets them.
LOSS_PARAMETERS = ("class_weights", "label_smoothing")
# An optimizer without slots, for models that are only evaluated.
SGD = {
    "module": "keras.optimizers",
    "class_name": "SGD",
    "config": {"name": "SGD", "learning_rate": 0.01},
    "registered_name": None,
}


def fit(
    connection: Connection, dataset: str, weights: bytes, config: str, weight_count: int, blocks: Blocks = ALL_BLOCKS
) -> Fitted | None:
    """Train one pass over the training split, or over some blocks of it; None when they hold no row.

    `weights` is float32 bytes: empty, weights, or weights and optimizer slots.
    """
    state = query(
        connection,
        "SELECT {schema}.fit(features, labels, row_count, %s, %s) FROM {schema}.dataset_batch "
        "WHERE dataset = %s AND split = 'train' AND " + blocks.condition,
        (weights, config, dataset, *blocks.values),
    )[0][0]
    return fitted(state, weight_count)


def evaluate(
    connection: Connection, dataset: str, split: str, weights: bytes, config: str, blocks: Blocks = ALL_BLOCKS,
    features: Features = AS_STORED,
) -> Scores:  # fmt: skip
    """Return the scores of a split, computed in the database. Raises StepError when it holds no row."""
    scores = evaluate_blocks(connection, dataset, split, weights, config, blocks, features)
    if scores is None:
        raise StepError(f"the {split} split holds no row: run `./run upload_dataset`")
    return scores


def evaluate_blocks(
    connection: Connection, dataset: str, split: str, weights: bytes, config: str, blocks: Blocks,
    features: Features = AS_STORED,
) -> Scores | None:  # fmt: skip
    """Return the scores of some blocks of a split, computed in the database; None when they hold no row."""
    scores: Scores | None = query(
        connection,
        "SELECT {schema}.evaluate(" + features.expression + ", labels, row_count, %s, %s) FROM {schema}.dataset_batch "
        "WHERE dataset = %s AND split = %s AND " + blocks.condition,
        (*features.parameters, weights, config, dataset, split, *blocks.values),
    )[0][0]
    return scores


def training_blocks(connection: Connection, dataset: str) -> list[tuple[int, int]]:
    """Return the (batch_id, row count) of each block of the training split, in the order of batch_id."""
    rows = query(
        connection,
        "SELECT batch_id, row_count FROM {schema}.dataset_batch WHERE dataset = %s AND split = 'train' "
        "ORDER BY batch_id",
        (dataset,),
    )
    return [(batch_id, row_count) for batch_id, row_count in rows]


def sample_rows(
    connection: Connection, data: TrainingData, split: str, count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """Return up to `count` rows of a split, (n, *shape) of the data set's dtype, and their labels (n,), int32."""
    blocks = query(
        connection,
        "SELECT features, labels FROM (SELECT features, labels, batch_id, "
        "sum(row_count) OVER (ORDER BY batch_id) - row_count AS earlier_rows FROM {schema}.dataset_batch "
        "WHERE dataset = %s AND split = %s) AS b WHERE earlier_rows < %s ORDER BY batch_id",
        (data.dataset, split, count),
    )
    features = np.frombuffer(b"".join(bytes(packed) for packed, _ in blocks), data.dtype)
    labels = np.frombuffer(b"".join(bytes(packed) for _, packed in blocks), "<i4")
    return features.reshape(-1, *data.shape)[:count], labels[:count]


def prepare_session(connection: Connection, greenplum: bool) -> None:
    """Change the settings of a session for training: see docs/explanation/training.md. Raises psycopg2.Error."""
    # Every epoch reads the rows in the same order; PostgreSQL's compiler must not meet TensorFlow.
    settings = {"synchronize_seqscans": "off", "jit": "off"}
    if greenplum:
        settings |= {"gp_eager_two_phase_agg": "on", "gp_vmem_idle_resource_timeout": "0"}
    else:
        # A client that died must not leave its epoch running.
        settings |= {"client_connection_check_interval": "1s", "max_parallel_workers_per_gather": "0"}
    for name, value in settings.items():
        # Not every database of Greenplum's family has every setting.
        query(
            connection,
            "SELECT set_config(%(name)s, %(value)s, false) WHERE current_setting(%(name)s, true) IS NOT NULL",
            {"name": name, "value": value},
        )


def require_partial_aggregate(connection: Connection, dataset: str, config: str, blocks: Blocks = ALL_BLOCKS) -> None:
    """Raise StepError when Greenplum's plan of `fit` would gather all rows on the coordinator."""
    plan = query(
        connection,
        "EXPLAIN SELECT {schema}.fit(features, labels, row_count, ''::bytea, %s) FROM {schema}.dataset_batch "
        "WHERE dataset = %s AND split = 'train' AND " + blocks.condition,
        (config, dataset, *blocks.values),
    )
    if not any("Partial" in line for (line,) in plan):
        raise StepError(
            "Greenplum would gather all rows on the coordinator instead of training on the segments: "
            "run SELECT analyze_dataset_batch() in the project's schema, or set optimizer = on for the trainer"
        )


def threads_for(greenplum: bool) -> int:
    """Return TensorFlow's threads per session: one per segment on Greenplum, elsewhere 0 for its own choice."""
    return 1 if greenplum else 0
