--liquibase formatted sql

--changeset project:model_transition splitStatements:false stripComments:false
-- Transition function of the aggregates `fit` and `evaluate`: one block of rows, trained or scored.
--
-- state     the aggregate's name before the first row (INITCOND), then a header and a body:
--           header  task char(8), token char(16), rows int64, sum of losses float64, correct int64
--           body    fit: all weights and optimizer slots, float32; evaluate: confusion matrix, int64
-- features  row_count rows of the shape and dtype in config, raw bytes
-- labels    row_count int32
-- weights   '' = as initialised from the seed; else weights, or weights and optimizer slots, float32
-- config    JSON: architecture, optimizer, shape, dtype, classes, batch_size, seed, epoch, threads
--
-- All numbers are little-endian. It asks the database nothing (no plpy): on Greenplum it runs on every
-- segment, where a query would be refused or worse.
CREATE FUNCTION "${schema}".model_transition(
    state bytea, features bytea, labels bytea, row_count int, weights bytea, config text
) RETURNS bytea LANGUAGE plpython3u AS $python$
import hashlib
import json
import os
import signal
import struct

HEADER = "<8s16sqdq"
KERAS_MODULES = {
    "keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.optimizers", "keras.optimizers.schedules", "keras.dtype_policies",
    "keras.src.models.functional", "keras.src.ops.numpy",
}
# These run code of their own or read files of the server.
REFUSED_CLASSES = {
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer",
    "StringLookup", "IntegerLookup", "TextVectorization",
}


def refuse_foreign_objects(node):
    """Only classes that Keras itself provides may be built: nothing is imported by a caller's name."""
    if isinstance(node, dict):
        name = node.get("class_name")
        if name is not None and name != "__keras_tensor__":
            if (
                node.get("module") not in KERAS_MODULES
                or name in REFUSED_CLASSES
                or node.get("registered_name") not in (None, name)
            ):
                raise ValueError(
                    f"the architecture names {node.get('module')}.{name}; "
                    "only layers, initializers and optimizers of Keras itself can be trained in the database"
                )
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            refuse_foreign_objects(child)


def start_tensorflow(threads):
    """Import TensorFlow and Keras; its threads must not receive PostgreSQL's signals."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    if threads and "threads" not in GD:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        GD["threads"] = threads
    import keras

    return tf, keras


def compile_model(settings):
    """Build the model and the two compiled loops over a block's mini-batches."""
    refuse_foreign_objects(settings["architecture"])
    refuse_foreign_objects(settings["optimizer"])
    tf, keras = start_tensorflow(settings["threads"])
    import numpy as np

    keras.utils.set_random_seed(settings["seed"])
    model = keras.models.model_from_json(json.dumps(settings["architecture"]))
    optimizer = keras.optimizers.deserialize(settings["optimizer"])
    optimizer.build(model.trainable_variables)
    shape, classes, batch = tuple(settings["shape"]), settings["classes"], settings["batch_size"]
    if tuple(model.output_shape) != (None, classes):
        raise ValueError(f"the model returns {model.output_shape[1:]} values a row; {classes} classes need ({classes},)")
    parts = list(model.weights) + list(optimizer.variables)
    signature = [
        tf.TensorSpec((None, *shape), settings["dtype"]),
        tf.TensorSpec((None,), tf.int32),
    ]

    def losses(y, probabilities):
        return keras.losses.sparse_categorical_crossentropy(y, probabilities)

    def right(y, probabilities):
        best = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        return tf.reduce_sum(tf.cast(best == y, tf.int64))

    def fit_block(images, y):
        rows = tf.shape(images)[0]

        def fit_batch(low, loss_sum, correct):
            high = tf.minimum(low + batch, rows)
            batch_images, batch_y = images[low:high], y[low:high]
            with tf.GradientTape() as tape:
                probabilities = model(batch_images, training=True)
                row_losses = losses(batch_y, probabilities)
                total = tf.add_n([tf.reduce_mean(row_losses), *model.losses])
            gradients = tape.gradient(total, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            loss_sum += tf.cast(tf.reduce_sum(row_losses), tf.float64)
            return high, loss_sum, correct + right(batch_y, probabilities)

        _, loss_sum, correct = tf.while_loop(
            lambda low, *_: low < rows, fit_batch,
            [tf.constant(0), tf.constant(0.0, tf.float64), tf.constant(0, tf.int64)],
            parallel_iterations=1,
        )
        flat = [tf.reshape(tf.cast(part.value, tf.float32), [-1]) for part in parts]
        return loss_sum, correct, tf.concat(flat, axis=0)

    def evaluate_block(images, y):
        rows = tf.shape(images)[0]

        def evaluate_batch(low, loss_sum, matrix):
            high = tf.minimum(low + 256, rows)
            probabilities = model(images[low:high], training=False)
            best = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            matrix += tf.math.confusion_matrix(y[low:high], best, classes, dtype=tf.int64)
            loss_sum += tf.cast(tf.reduce_sum(losses(y[low:high], probabilities)), tf.float64)
            return high, loss_sum, matrix

        _, loss_sum, matrix = tf.while_loop(
            lambda low, *_: low < rows, evaluate_batch,
            [tf.constant(0), tf.constant(0.0, tf.float64), tf.zeros((classes, classes), tf.int64)],
            parallel_iterations=1,
        )
        return loss_sum, matrix

    entry = {
        "np": np,
        "model": model,
        "parts": parts,
        "sizes": [int(np.prod(part.shape)) for part in parts],
        "weight_count": sum(int(np.prod(weight.shape)) for weight in model.weights),
        "random_states": [v for v in model.variables if not any(v is weight for weight in model.weights)],
        "fit": tf.function(fit_block, autograph=False, input_signature=signature),
        "evaluate": tf.function(evaluate_block, autograph=False, input_signature=signature),
        "token": None,
    }
    entry["initial"] = np.concatenate([np.ravel(part.numpy()).astype("<f4") for part in parts])
    # Threads are made when something is first computed, and that must happen while signals are blocked.
    none = tf.zeros((1, *shape), settings["dtype"]), tf.zeros((1,), tf.int32)
    entry["fit"](*none)
    entry["evaluate"](*none)
    return entry


def cached_model(config):
    """Return the settings and the compiled model of this configuration; GD survives a rollback."""
    if GD.get("config") == config:
        return GD["settings"], GD["entry"]
    settings = json.loads(config)
    identity = {name: value for name, value in settings.items() if name != "epoch"}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    models = GD.setdefault("models", {})
    if key not in models:
        if len(models) >= 8:
            models.clear()
        harmless = set(signal.Signals) - {
            signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT,
            signal.SIGKILL, signal.SIGSTOP,
        }
        before = signal.pthread_sigmask(signal.SIG_BLOCK, harmless)
        try:
            models[key] = compile_model(settings)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    GD["config"], GD["settings"], GD["entry"] = config, settings, models[key]
    return settings, models[key]


def load_parts(entry, data):
    """Assign weights, and optimizer slots where given; without them the slots start afresh."""
    np, initial = entry["np"], entry["initial"]
    if len(data) % 4:
        raise ValueError(f"weights has {len(data)} bytes; it must be float32 numbers of 4 bytes")
    values = np.frombuffer(data, "<f4")
    if len(values) == 0:
        values = initial
    elif len(values) == entry["weight_count"]:
        values = np.concatenate([values, initial[entry["weight_count"]:]])
    elif len(values) != len(initial):
        raise ValueError(
            f"{len(values)} weights were given; the model has {entry['weight_count']}, "
            f"with optimizer slots {len(initial)}"
        )
    start = 0
    for part, size in zip(entry["parts"], entry["sizes"]):
        part.assign(values[start:start + size].reshape(part.shape).astype(part.dtype))
        start += size


def block_arrays(settings, np):
    """Return the block's rows and labels as arrays, or say what is wrong with them."""
    if features is None or labels is None or not row_count or row_count < 0:
        raise ValueError("features, labels and row_count must be given, and row_count be above 0")
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


settings, entry = cached_model(config)
np = entry["np"]
x, y = block_arrays(settings, np)
header = struct.calcsize(HEADER)
if state in (b"fit", b"evaluate"):
    task, token, rows, loss_sum, correct, body = bytes(state), None, 0, 0.0, 0, None
else:
    task, token, rows, loss_sum, correct = struct.unpack_from(HEADER, state)
    task, body = task.rstrip(b"\0"), memoryview(state)[header:]

live = token is not None and token == entry["token"]
# Cleared until the block is done: a cancelled block must not be taken for a finished one.
entry["token"] = None
if not live:
    load_parts(entry, body if task == b"fit" and body is not None else weights or b"")
    for random_state in entry["random_states"]:
        random_state.assign(np.array([settings["seed"], settings["epoch"]], random_state.dtype))

if task == b"fit":
    order = np.random.default_rng([settings["seed"], settings["epoch"], rows]).permutation(row_count)
    block_loss, block_correct, flat = entry["fit"](x[order], y[order])
    body = flat.numpy()
    if not (np.isfinite(float(block_loss)) and np.isfinite(body).all()):
        raise ValueError(
            f"the loss is no longer a finite number after {rows + row_count} rows of epoch "
            f"{settings['epoch']}: lower learning_rate"
        )
    correct += int(block_correct)
else:
    block_loss, block_matrix = entry["evaluate"](x, y)
    matrix = block_matrix.numpy()
    if body is not None:
        matrix = matrix + np.frombuffer(body, "<i8").reshape(matrix.shape)
    correct, body = int(np.trace(matrix)), matrix.astype("<i8")

entry["token"] = os.urandom(16) if not live else token
told = struct.pack(HEADER, task, entry["token"], rows + row_count, loss_sum + float(block_loss), correct)
return b"".join((told, memoryview(body).cast("B")))
$python$;
--rollback DROP FUNCTION "${schema}".model_transition(bytea, bytea, bytea, int, bytea, text);

--changeset project:model_combine splitStatements:false stripComments:false
-- Joins two states of model_transition: counts are added, weights and slots averaged by rows seen.
CREATE FUNCTION "${schema}".model_combine(state bytea, other bytea)
RETURNS bytea LANGUAGE plpython3u AS $python$
import struct

import numpy as np

HEADER = "<8s16sqdq"

# A state that is only the aggregate's name has seen no row.
if state is None or len(state) <= 8:
    return other
if other is None or len(other) <= 8:
    return state
header = struct.calcsize(HEADER)
task, _, rows, loss_sum, correct = struct.unpack_from(HEADER, state)
_, _, other_rows, other_loss_sum, other_correct = struct.unpack_from(HEADER, other)
if len(state) != len(other):
    raise ValueError(f"two states of {len(state)} and {len(other)} bytes cannot be of one model")
kind = "<f4" if task.rstrip(b"\0") == b"fit" else "<i8"
body = np.frombuffer(state, kind, offset=header)
other_body = np.frombuffer(other, kind, offset=header)
if kind == "<f4":
    share = rows / (rows + other_rows)
    body = (share * body.astype("f8") + (1 - share) * other_body.astype("f8")).astype("<f4")
else:
    body = body + other_body
return struct.pack(
    HEADER, task, bytes(16), rows + other_rows, loss_sum + other_loss_sum, correct + other_correct
) + body.tobytes()
$python$;
--rollback DROP FUNCTION "${schema}".model_combine(bytea, bytea);

--changeset project:evaluate_final splitStatements:false stripComments:false
-- Turns the last state of `evaluate` into {rows, loss, accuracy, f1, confusion_matrix}; NULL without rows.
-- confusion_matrix[i][j]: rows of class i that were called j. f1: mean over the classes that occur
-- as a label or as an answer, 2·tp / (2·tp + fp + fn).
CREATE FUNCTION "${schema}".evaluate_final(state bytea)
RETURNS jsonb LANGUAGE plpython3u AS $python$
import json
import math
import struct

import numpy as np

HEADER = "<8s16sqdq"

if len(state) <= 8:
    return None
_, _, rows, loss_sum, correct = struct.unpack_from(HEADER, state)
counts = np.frombuffer(state, "<i8", offset=struct.calcsize(HEADER))
matrix = counts.reshape(2 * (math.isqrt(len(counts)),))
seen = matrix.sum(axis=0) + matrix.sum(axis=1)
f1 = 2 * np.diag(matrix)[seen > 0] / seen[seen > 0]
return json.dumps({
    "rows": rows,
    "loss": loss_sum / rows,
    "accuracy": correct / rows,
    "f1": float(f1.mean()),
    "confusion_matrix": matrix.tolist(),
})
$python$;
--rollback DROP FUNCTION "${schema}".evaluate_final(bytea);

--changeset project:fit splitStatements:false
-- SELECT fit(features, labels, row_count, weights, config) FROM dataset_batch WHERE … is one epoch:
-- every Greenplum segment trains on its own rows and the results are averaged. On PostgreSQL it stays in
-- one process (PARALLEL UNSAFE, the default): a parallel worker would import TensorFlow for every query.
CREATE AGGREGATE "${schema}".fit(
    features bytea, labels bytea, row_count int, weights bytea, config text
) (
    SFUNC = "${schema}".model_transition,
    STYPE = bytea,
    COMBINEFUNC = "${schema}".model_combine,
    INITCOND = 'fit'
);
--rollback DROP AGGREGATE "${schema}".fit(bytea, bytea, int, bytea, text);

--changeset project:evaluate splitStatements:false
CREATE AGGREGATE "${schema}".evaluate(
    features bytea, labels bytea, row_count int, weights bytea, config text
) (
    SFUNC = "${schema}".model_transition,
    STYPE = bytea,
    COMBINEFUNC = "${schema}".model_combine,
    FINALFUNC = "${schema}".evaluate_final,
    INITCOND = 'evaluate'
);
--rollback DROP AGGREGATE "${schema}".evaluate(bytea, bytea, int, bytea, text);

--changeset project:fit_and_evaluate_rights
-- PL/Python asks for a superuser to create a function, not to own it.
ALTER FUNCTION "${schema}".model_transition(bytea, bytea, bytea, int, bytea, text) OWNER TO "${schema}_owner";
ALTER FUNCTION "${schema}".model_combine(bytea, bytea) OWNER TO "${schema}_owner";
ALTER FUNCTION "${schema}".evaluate_final(bytea) OWNER TO "${schema}_owner";
ALTER AGGREGATE "${schema}".fit(bytea, bytea, int, bytea, text) OWNER TO "${schema}_owner";
ALTER AGGREGATE "${schema}".evaluate(bytea, bytea, int, bytea, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".model_transition(bytea, bytea, bytea, int, bytea, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION "${schema}".model_combine(bytea, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION "${schema}".evaluate_final(bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION "${schema}".fit(bytea, bytea, int, bytea, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION "${schema}".evaluate(bytea, bytea, int, bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".fit(bytea, bytea, int, bytea, text) TO "${schema}_trainer";
GRANT EXECUTE ON FUNCTION "${schema}".evaluate(bytea, bytea, int, bytea, text) TO "${schema}_trainer";
--rollback empty
