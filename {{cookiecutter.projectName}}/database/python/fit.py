"""The transition function of `fit`, `evaluate` and `predict_block`: trains on a block, scores it or predicts it.

It never queries the database (no plpy): on Greenplum it runs on every segment, which refuses queries.
"""

import hashlib
import json
import os
import struct
import sys
from typing import TYPE_CHECKING

from database.python.allowed import refuse_foreign_objects
from database.python.limits import refuse_large_model, refuse_wrong_numbers
from database.python.loss import loss_function
from database.python.parts import load_parts, load_random_states, part_values, starting_values
from database.python.signals import with_signals_blocked
from database.python.state import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypedDict

    import numpy as np
    import numpy.typing as npt

    from database.python.loss import Loss
    from database.python.parts import Parts

    class Settings(Loss):
        """The content of `config`, JSON; architecture and optimizer are as Keras serializes them."""

        architecture: dict[str, Any]
        optimizer: dict[str, Any]
        # Of one row, without the row count.
        shape: list[int]
        dtype: str
        classes: int
        batch_size: int
        seed: int
        epoch: int
        # 0: as many as TensorFlow likes.
        threads: int

    class Compiled(Parts):
        """A model, built and compiled."""

        model: Any
        # (rows, labels) -> loss sum, correct answers, all parts as one float32 array.
        fit: Callable[..., Any]
        # (rows, labels) -> loss sum, confusion matrix.
        evaluate: Callable[..., Any]
        # (rows) -> probabilities (rows, classes), float32.
        predict: Callable[..., Any]
        # Names the state whose parts the model has now; None during a block.
        token: bytes | None

    class Session(TypedDict, total=False):
        """What lasts for a session of the database: PL/Python's GD, which survives a rollback."""

        threads: int
        models: dict[str, Compiled]
        # The configuration of the last call, and what belongs to it.
        config: str
        settings: Settings
        entry: Compiled


def transition(
    state: bytes,
    features: "bytes | None",
    labels: "bytes | None",
    row_count: "int | None",
    weights: "bytes | None",
    config: str,
    session: "Session",
) -> bytes:
    """Train on a block of rows, score it or predict it, and return the new state. All numbers are little-endian.

    state      before the first row the task (INITCOND): fit, evaluate or predict; then HEADER and a body: of fit the
               weights and optimizer slots, float32; of evaluate the confusion matrix, int64 (classes, classes); of
               predict the probabilities of all rows so far, float32 (rows, classes)
    features   row_count rows of the shape and dtype in config, raw bytes
    labels     row_count int32, from 0
    weights    before the first row: empty (as initialised from the seed), or weights, or weights and optimizer
               slots, float32; a weight that is NaN is initialised from the seed
    config     JSON: see Settings

    Raises ValueError when an argument does not fit the model, and when the loss is no longer finite.
    """
    settings, entry = cached_model(config, session)
    x, y = block_arrays(settings, features, labels, row_count)
    task, token, rows, loss_sum, correct, body = unpacked(state)
    is_live = token is not None and token == entry["token"]
    # Cleared until the block is done: a cancelled block must not be taken for a finished one.
    entry["token"] = None
    if not is_live:
        load_model(settings, entry, task, weights or b"", body)
    if task == b"fit":
        block_loss, block_correct, new_body = fitted(settings, entry, x, y, rows)
        correct += block_correct
    elif task == b"evaluate":
        block_loss, correct, new_body = evaluated(entry, x, y, body)
    else:
        block_loss, new_body = 0.0, predicted(entry, x, body)
    entry["token"] = token if is_live else os.urandom(16)
    header = struct.pack(HEADER, task, entry["token"], rows + len(y), loss_sum + block_loss, correct)
    return b"".join((header, new_body.data.cast("B")))


def load_model(
    settings: "Settings", entry: "Compiled", task: bytes, weights: "bytes | memoryview", body: "memoryview | None"
) -> None:
    """Assign weights, optimizer slots and random states: those of `fit` so far, or at its start, or to be scored."""
    if task != b"fit":
        values = part_values(entry, weights)
    elif body is None:
        values = starting_values(entry, weights)
    else:
        values = part_values(entry, body)
    load_parts(entry, values)
    load_random_states(settings["seed"], settings["epoch"], entry)


def unpacked(state: bytes) -> "tuple[bytes, bytes | None, int, float, int, memoryview | None]":
    """Return task, token, rows, loss sum, correct answers and body; token and body are None before the first row."""
    if state in (b"fit", b"evaluate", b"predict"):
        return bytes(state), None, 0, 0.0, 0, None
    task, token, rows, loss_sum, correct = struct.unpack_from(HEADER, state)
    return task.rstrip(b"\0"), token, rows, loss_sum, correct, memoryview(state)[struct.calcsize(HEADER) :]


def fitted(
    settings: "Settings", entry: "Compiled", x: "npt.NDArray[Any]", y: "npt.NDArray[np.int32]", rows: int
) -> "tuple[float, int, npt.NDArray[Any]]":
    """Train on a block in random order and return its loss sum, correct answers and all parts as float32.

    `rows` counts the rows of the epoch before the block. Raises ValueError when a number is no longer finite.
    """
    import numpy as np

    order = np.random.default_rng([settings["seed"], settings["epoch"], rows]).permutation(len(y))
    loss, correct, parts = entry["fit"](x[order], y[order])
    values = parts.numpy()
    if not (np.isfinite(float(loss)) and np.isfinite(values).all()):
        raise ValueError(
            f"the loss is no longer a finite number after {rows + len(y)} rows of epoch "
            f"{settings['epoch']}: lower learning_rate"
        )
    return float(loss), int(correct), values


def evaluated(
    entry: "Compiled", x: "npt.NDArray[Any]", y: "npt.NDArray[np.int32]", body: "memoryview | None"
) -> "tuple[float, int, npt.NDArray[Any]]":
    """Score a block; return its loss sum, and correct answers and confusion matrix (int64) with those of `body`."""
    import numpy as np

    loss, block_matrix = entry["evaluate"](x, y)
    matrix = block_matrix.numpy()
    if body is not None:
        matrix = matrix + np.frombuffer(body, "<i8").reshape(matrix.shape)
    return float(loss), int(np.trace(matrix)), matrix.astype("<i8")


def predicted(entry: "Compiled", x: "npt.NDArray[Any]", body: "memoryview | None") -> "npt.NDArray[np.float32]":
    """Return the probabilities in `body`, then those of the block's rows, float32 (rows · classes,)."""
    import numpy as np

    parts = [] if body is None else [np.frombuffer(body, "<f4")]
    # 256 rows at a time: the activations of a whole block of large images need many times its memory.
    parts += [entry["predict"](x[low : low + 256]).numpy().ravel() for low in range(0, len(x), 256)]
    return np.concatenate(parts).astype("<f4", copy=False)


def cached_model(config: str, session: "Session") -> "tuple[Settings, Compiled]":
    """Return the settings and the compiled model of a configuration; a session keeps eight models at most."""
    if session.get("config") == config:
        return session["settings"], session["entry"]
    settings = json.loads(config)
    refuse_wrong_numbers(settings)
    identity = {name: value for name, value in settings.items() if name != "epoch"}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    models = session.setdefault("models", {})
    if key not in models:
        if len(models) >= 8:
            models.clear()
        # TensorFlow's threads must not receive PostgreSQL's signals.
        models[key] = with_signals_blocked(lambda: compile_model(settings, session))
    session["config"], session["settings"], session["entry"] = config, settings, models[key]
    return settings, models[key]


def compile_model(settings: "Settings", session: "Session") -> "Compiled":
    """Build the model and compile the two loops over a block's mini-batches. Raises ValueError."""
    refuse_foreign_objects(settings["architecture"])
    refuse_foreign_objects(settings["optimizer"])
    tf, keras = start_tensorflow(settings["threads"], session)
    # Not before: its threads, too, must start while signals are blocked.
    import numpy as np

    architecture = json.dumps(settings["architecture"])
    refuse_large_model(keras, architecture)
    keras.utils.set_random_seed(settings["seed"])
    model = keras.models.model_from_json(architecture)
    optimizer = keras.optimizers.deserialize(settings["optimizer"])
    optimizer.build(model.trainable_variables)
    shape, classes = tuple(settings["shape"]), settings["classes"]
    if tuple(model.output_shape) != (None, classes):
        raise ValueError(
            f"the model returns {model.output_shape[1:]} values per row; {classes} classes need ({classes},)"
        )
    parts = list(model.weights) + list(optimizer.variables)
    signature = [tf.TensorSpec((None, *shape), settings["dtype"]), tf.TensorSpec((None,), tf.int32)]
    fit = fit_loop(tf, keras, model, optimizer, parts, settings)
    evaluate = evaluate_loop(tf, keras, model, classes)
    entry: Compiled = {
        "model": model,
        "parts": parts,
        "sizes": [int(np.prod(part.shape)) for part in parts],
        "weight_count": sum(int(np.prod(weight.shape)) for weight in model.weights),
        "initial": np.concatenate([np.ravel(part.numpy()).astype("<f4") for part in parts]),
        "random_states": [v for v in model.variables if not any(v is weight for weight in model.weights)],
        # Code that comes as text has no source that AutoGraph could read.
        "fit": tf.function(fit, autograph=False, input_signature=signature),
        "evaluate": tf.function(evaluate, autograph=False, input_signature=signature),
        # Traced at the first call, because most sessions never predict. TensorFlow's threads have started by then.
        "predict": tf.function(
            lambda images: tf.cast(model(images, training=False), tf.float32),
            autograph=False,
            input_signature=signature[:1],
        ),
        "token": None,
    }
    # Threads start at the first computation, which must happen while signals are blocked.
    zeros = tf.zeros((1, *shape), settings["dtype"]), tf.zeros((1,), tf.int32)
    entry["fit"](*zeros)
    entry["evaluate"](*zeros)
    return entry


def fit_loop(
    tf: "Any", keras: "Any", model: "Any", optimizer: "Any", parts: "list[Any]", settings: "Settings"
) -> "Callable[..., Any]":
    """Return a function (rows, labels) that trains on a block, one mini-batch after the other: see Compiled."""
    batch_size, losses = settings["batch_size"], loss_function(tf, keras, settings["classes"], settings)

    def fit_block(images: "Any", y: "Any") -> "Any":
        rows = tf.shape(images)[0]

        def fit_batch(low: "Any", loss_sum: "Any", correct: "Any") -> "Any":
            high = tf.minimum(low + batch_size, rows)
            batch_images, batch_y = images[low:high], y[low:high]
            with tf.GradientTape() as tape:
                probabilities = model(batch_images, training=True)
                row_losses = losses(batch_y, probabilities)
                # A regularizer's loss has the type of its layer, which may be float16.
                terms = [tf.reduce_mean(row_losses), *model.losses]
                total = tf.add_n([tf.cast(term, tf.float32) for term in terms])
            gradients = tape.gradient(total, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            answers = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            loss_sum += tf.cast(tf.reduce_sum(row_losses), tf.float64)
            return high, loss_sum, correct + tf.reduce_sum(tf.cast(answers == batch_y, tf.int64))

        _, loss_sum, correct = tf.while_loop(
            lambda low, *_: low < rows,
            fit_batch,
            [tf.constant(0), tf.constant(0.0, tf.float64), tf.constant(0, tf.int64)],
            parallel_iterations=1,
        )
        flat = [tf.reshape(tf.cast(part.value, tf.float32), [-1]) for part in parts]
        return loss_sum, correct, tf.concat(flat, axis=0)

    return fit_block


def evaluate_loop(tf: "Any", keras: "Any", model: "Any", classes: int) -> "Callable[..., Any]":
    """Return a function (rows, labels) that scores a block, 256 rows at a time: see Compiled."""

    def evaluate_block(images: "Any", y: "Any") -> "Any":
        rows = tf.shape(images)[0]

        def evaluate_batch(low: "Any", loss_sum: "Any", matrix: "Any") -> "Any":
            high = tf.minimum(low + 256, rows)
            probabilities = model(images[low:high], training=False)
            row_losses = keras.losses.sparse_categorical_crossentropy(y[low:high], probabilities)
            answers = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            matrix += tf.math.confusion_matrix(y[low:high], answers, classes, dtype=tf.int64)
            loss_sum += tf.cast(tf.reduce_sum(row_losses), tf.float64)
            return high, loss_sum, matrix

        _, loss_sum, matrix = tf.while_loop(
            lambda low, *_: low < rows,
            evaluate_batch,
            [tf.constant(0), tf.constant(0.0, tf.float64), tf.zeros((classes, classes), tf.int64)],
            parallel_iterations=1,
        )
        return loss_sum, matrix

    return evaluate_block


def start_tensorflow(threads: int, session: "Session") -> "tuple[Any, Any]":
    """Import TensorFlow and Keras, and return both. `threads`: see Settings; the first call of a session decides.

    Raises ValueError when this session has loaded PostgreSQL's query compiler. It and TensorFlow contain different
    releases of LLVM, so the server's process would crash.
    """
    if "tensorflow" not in sys.modules and compiler_is_loaded():
        raise ValueError(
            "this session has loaded PostgreSQL's query compiler, which crashes beside TensorFlow: "
            "SET jit = off in a new session"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    if threads and "threads" not in session:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        session["threads"] = threads
    import keras

    return tf, keras


def compiler_is_loaded() -> bool:
    """Return whether this process has loaded PostgreSQL's compiler, llvmjit.so; false where /proc is missing."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return any("llvmjit.so" in line for line in maps)
    except OSError:
        return False


def block_arrays(
    settings: "Settings", features: "bytes | None", labels: "bytes | None", row_count: "int | None"
) -> "tuple[npt.NDArray[Any], npt.NDArray[np.int32]]":
    """Return a block's rows (row_count, *shape) and labels (row_count,). Raises ValueError."""
    import numpy as np

    if features is None or labels is None or not row_count or row_count < 0:
        raise ValueError("features, labels and row_count must not be NULL, and row_count must be above 0")
    shape, dtype = tuple(settings["shape"]), np.dtype(settings["dtype"]).newbyteorder("<")
    expected = row_count * int(np.prod(shape)) * dtype.itemsize
    if len(features) != expected:
        raise ValueError(
            f"features has {len(features)} bytes; {row_count} rows of {'×'.join(map(str, shape))} "
            f"{settings['dtype']} are {expected}"
        )
    if len(labels) != 4 * row_count:
        raise ValueError(f"labels has {len(labels)} bytes; {row_count} int32 are {4 * row_count}")
    y = np.frombuffer(labels, "<i4")
    if y.min() < 0 or y.max() >= settings["classes"]:
        raise ValueError(f"a label is {y.min() if y.min() < 0 else y.max()}; allowed is 0 to {settings['classes'] - 1}")
    return np.frombuffer(features, dtype).reshape((row_count, *shape)), y
