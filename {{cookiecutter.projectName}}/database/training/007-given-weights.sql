--liquibase formatted sql

--changeset project:model_architecture_starting_weights
-- Weights that model.py set, float32 in Keras's order, NaN where a run's seed decides; NULL when it decides for all.
ALTER TABLE "${schema}".model_architecture ADD COLUMN starting_weights bytea;
ALTER TABLE "${schema}".model_architecture ALTER COLUMN starting_weights SET STORAGE EXTERNAL;
--rollback ALTER TABLE "${schema}".model_architecture DROP COLUMN starting_weights;

--changeset project:model_transition_with_given_weights splitStatements:false stripComments:false
-- Weights that model.py sets, class weights and label smoothing; once per second, a notice with the rows so far.
-- The cost lets Greenplum plan one partial aggregate per segment; it also needs the
-- statistics of 010-statistics.sql.
CREATE OR REPLACE FUNCTION "${schema}".model_transition(
    state bytea, features bytea, labels bytea, row_count int, weights bytea, config text
) RETURNS bytea LANGUAGE plpython3u COST 1000000 AS $python$
# begin database/python/signals.py (make sql writes this; edit that file)
import signal


def with_signals_blocked(action: "Callable[[], Result]") -> "Result":
    """Return the result of `action`, which may start threads: they inherit the mask and receive no signal.

    Only signals that report a fault of the thread itself stay open, and those that cannot be blocked.
    """
    blocked = set(signal.Signals) - {
        signal.SIGSEGV,
        signal.SIGFPE,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGKILL,
        signal.SIGSTOP,
    }
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        return action()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
# end database/python/signals.py
# begin database/python/state.py (make sql writes this; edit that file)
# Task char(8), token char(16), rows int64, sum of losses float64, correct answers int64.
HEADER = "<8s16sqdq"
# end database/python/state.py
# begin database/python/loss.py (make sql writes this; edit that file)
def loss_function(tf: "Any", keras: "Any", classes: int, settings: "Loss") -> "Callable[..., Any]":
    """Return a function (labels, probabilities) -> loss per row.

    It is the cross-entropy with smoothed targets, (1 - s) · one-hot + s / classes, times the weight of a row's class.
    """
    smoothing, weights = settings.get("label_smoothing", 0.0), settings.get("class_weights")

    def losses(y: "Any", probabilities: "Any") -> "Any":
        if smoothing:
            targets = tf.one_hot(y, classes)
            result = keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=smoothing)
        else:
            result = keras.losses.sparse_categorical_crossentropy(y, probabilities)
        return result if weights is None else result * tf.gather(tf.constant(weights, result.dtype), y)

    return losses
# end database/python/loss.py
# begin database/python/parts.py (make sql writes this; edit that file)
def starting_values(entry: "Parts", weights: "bytes | memoryview") -> "npt.NDArray[np.float32]":
    """Return the values of all parts before the first row; NaN stands for a value as initialised. Raises ValueError."""
    import numpy as np

    values = part_values(entry, weights)
    return np.where(np.isnan(values), entry["initial"], values)


def part_values(entry: "Parts", data: "bytes | memoryview") -> "npt.NDArray[np.float32]":
    """Return the values of all parts from weights, with optimizer slots if `data` has them. Raises ValueError.

    Without them the slots start afresh; without any number, so do the weights.
    """
    import numpy as np

    initial, weight_count = entry["initial"], entry["weight_count"]
    if len(data) % 4:
        raise ValueError(f"weights has {len(data)} bytes; it must be float32 numbers of 4 bytes")
    values = np.frombuffer(data, "<f4")
    if len(values) == 0:
        return initial
    if len(values) == weight_count:
        return np.concatenate([values, initial[weight_count:]])
    if len(values) != len(initial):
        raise ValueError(
            f"weights has {len(values)} numbers; the model has {weight_count}, with optimizer slots {len(initial)}"
        )
    return values


def load_parts(entry: "Parts", values: "npt.NDArray[np.float32]") -> None:
    """Assign the values to weights and optimizer slots."""
    start = 0
    for part, size in zip(entry["parts"], entry["sizes"]):
        part.assign(values[start : start + size].reshape(part.shape).astype(part.dtype))
        start += size


def load_random_states(seed: int, epoch: int, entry: "Parts") -> None:
    """Seed the model's random layers, such as dropout, for the epoch."""
    import numpy as np

    for random_state in entry["random_states"]:
        random_state.assign(np.array([seed, epoch], random_state.dtype))
# end database/python/parts.py
# begin database/python/limits.py (make sql writes this; edit that file)
import math


# A weight with two optimizer slots is 12 bytes, 24 as hexadecimal text; a value of the database holds 1 GB.
MOST_WEIGHTS = 40_000_000
# The confusion matrix (int64, classes²) is one value of the database, too.
MOST_CLASSES = 10_000
# TensorFlow compiles a model in one go, which nothing can cancel.
MOST_LAYERS = 1_000
# Values of a row, and of what a layer returns for a row.
MOST_VALUES = 100_000_000
# Lowest and highest value of each whole number in `config`.
NUMBERS = {
    "batch_size": (1, 2**31 - 1),
    "classes": (1, MOST_CLASSES),
    "seed": (0, 2**32 - 1),
    "epoch": (0, 2**31 - 1),
    "threads": (0, 1024),
}
DTYPES = ("uint8", "float32")


def refuse_wrong_numbers(settings: "Mapping[str, Any]") -> None:
    """Raise ValueError unless the numbers, shape and dtype of `config` are within the limits."""
    for name, (lowest, highest) in NUMBERS.items():
        value = settings.get(name)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(f"config: {name} is {value!r}; allowed is a whole number from {lowest} to {highest}")
    shape = settings.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"config: shape is {shape!r}; allowed is a list of whole numbers above 0")
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(
            f"config: a row of shape {shape} has {math.prod(shape):,} values; at most {MOST_VALUES:,} are allowed"
        )
    if settings.get("dtype") not in DTYPES:
        raise ValueError(f"config: dtype is {settings.get('dtype')!r}; allowed is {' or '.join(DTYPES)}")


def refuse_large_model(keras: "Any", description: str) -> None:
    """Raise ValueError when a model (Keras JSON) has too many weights or layers, or a layer returns too many values.

    Within the scope Keras describes the weights without allocating memory for them.
    """
    from keras.src.backend.common import global_state

    with keras.StatelessScope(initialize_variables=False):
        model = keras.models.model_from_json(description)
    # Keras would keep them for a later initialization.
    global_state.set_global_attribute("uninitialized_variables", [])
    layers = list(model._flatten_layers(include_self=False))
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"the model has {len(layers):,} layers; at most {MOST_LAYERS:,} are allowed")
    weights = sum(math.prod(weight.shape) for weight in model.weights)
    if weights > MOST_WEIGHTS:
        raise ValueError(f"the model has {weights:,} weights; at most {MOST_WEIGHTS:,} are allowed")
    for layer in layers:
        for shape in output_shapes(layer):
            if row_values(shape) > MOST_VALUES:
                raise ValueError(
                    f"the layer {layer.name} returns {row_values(shape):,} values per row; "
                    f"at most {MOST_VALUES:,} are allowed"
                )


def output_shapes(layer: "Any") -> "Iterator[tuple[int | None, ...]]":
    """Yield the shape of each tensor that a layer returns.

    Nothing for a layer that only another layer calls, such as the one inside Bidirectional.
    """
    for node in layer._inbound_nodes:
        for tensor in node.output_tensors:
            yield tuple(tensor.shape)


def row_values(shape: "tuple[int | None, ...]") -> int:
    """Return the number of values per row of a tensor (rows, …); a size that is not known counts as 1."""
    return math.prod(size for size in shape[1:] if size is not None)
# end database/python/limits.py
# begin database/python/allowed.py (make sql writes this; edit that file)
# Class names per module. Left out on purpose: what runs code of its own (Lambda, TFSMLayer, JaxLayer, FlaxLayer,
# TorchModuleWrapper), what reads a vocabulary from a file (StringLookup, IntegerLookup, TextVectorization), and what
# is no part of a model of one input and one output.
ALLOWED = {
    "keras": "DTypePolicy Sequential",
    "keras.src.models.functional": "Functional",
    "keras.layers": """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
        AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
        AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional
        CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose
        Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D
        Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
        GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
        GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing
        Hashing Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D
        MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply Normalization PReLU Permute
        RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
        RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
        RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
        RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing STFTSpectrogram SeparableConv1D
        SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
        SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D
        UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """,
    "keras.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
        RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling Zeros
    """,
    "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
    "keras.constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
    "keras.optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD
        ScheduleFreeAdamW
    """,
    "keras.optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
    """,
    # Operators on tensors, such as x + y, and the functions of keras.ops that compute with numbers alone.
    "keras.src.ops.numpy": """
        Abs Absolute Add Arctan Argmax Argmin Average BroadcastTo Ceil Clip Concatenate Cos Cosh Cumsum Divide Dot
        Einsum Equal Exp ExpandDims Expm1 Flip Floor FloorDivide Greater GreaterEqual Less LessEqual Log Log10 Log1p
        Log2 LogicalAnd LogicalNot LogicalOr Matmul Max Maximum Mean Min Minimum Mod Moveaxis Multiply Negative NotEqual
        OnesLike Pad Power Prod Ravel Reciprocal Repeat Reshape Roll Round Sign Sin Sinh Sqrt Square Squeeze Stack Std
        Subtract Sum Swapaxes Take Tan Tanh Tensordot Tile Transpose TrueDivide Var Where ZerosLike
    """,
}
PAIRS = frozenset((module, name) for module, names in ALLOWED.items() for name in names.split())
TENSOR = "__keras_tensor__"
# A ResNet of 152 layers has 30,000 parts in 11 levels.
MOST_PARTS, MOST_LEVELS = 500_000, 64


def refuse_foreign_objects(description: object) -> None:
    """Raise ValueError unless a description (JSON) names allowed objects only, which get tensors and numbers only."""
    # A list of parts yet to be read: a description may be deeper than Python's stack.
    parts, seen = [(description, 0)], 0
    while parts:
        part, level = parts.pop()
        seen += 1
        if seen > MOST_PARTS or level > MOST_LEVELS:
            raise ValueError(
                f"the description of the model has more than {MOST_PARTS:,} parts or {MOST_LEVELS} levels, which is "
                "more than any known model has"
            )
        if isinstance(part, dict):
            require_known(part)
            require_calls(part.get("inbound_nodes"))
        if isinstance(part, (dict, list)):
            parts += [(child, level + 1) for child in (part.values() if isinstance(part, dict) else part)]


def require_known(part: "dict[str, object]") -> None:
    """Raise ValueError when an object is none of the allowed ones; a part without a class is no object."""
    name = part.get("class_name")
    if part.get("compile_config"):
        raise ValueError("the description of the model has a compile_config; the training compiles it")
    if name is None or name == TENSOR:
        return
    module = part.get("module")
    is_text = isinstance(module, str) and isinstance(name, str)
    if not is_text or (module, name) not in PAIRS or part.get("registered_name") not in (None, name):
        raise ValueError(
            f"{module}.{name} cannot be trained in the database; use layers, initializers and optimizers "
            "that Keras itself provides and that neither run own code nor read files"
        )


def require_calls(calls: object) -> None:
    """Raise ValueError unless the calls of a layer have arguments of tensors, numbers, true, false and null only."""
    parts: list[object] = []
    for call in calls if isinstance(calls, list) else [calls] if calls else []:
        if not isinstance(call, dict) or set(call) != {"args", "kwargs"} or not isinstance(call["kwargs"], dict):
            raise ValueError("a call of a layer must have args and kwargs, as Keras 3 writes them")
        parts += [call["args"], *call["kwargs"].values()]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, str) or (isinstance(part, dict) and part.get("class_name") != TENSOR):
            raise ValueError(
                f"a call of a layer has the argument {str(part)[:60]!r}; only tensors, numbers, true, false and null "
                "are allowed"
            )
# end database/python/allowed.py
# begin database/python/fit.py (make sql writes this; edit that file)
import hashlib
import json
import os
import struct
import sys


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
# end database/python/fit.py
# begin database/python/heartbeat.py (make sql writes this; edit that file)
import os
import struct
import time


# The client looks for messages that start so: pipeline/training/row_progress.py.
HEARTBEAT = "rows seen"
SECONDS_BETWEEN_HEARTBEATS = 1


def is_heartbeat_due(session: "dict[str, Any]") -> bool:
    """Return whether the last message of this session is a second old; the next one then counts as sent."""
    now = time.monotonic()
    if now - session.get("heartbeat_at", 0.0) < SECONDS_BETWEEN_HEARTBEATS:
        return False
    session["heartbeat_at"] = now
    return True


def heartbeat(state: bytes) -> str:
    """Return the message for a state: the aggregate, this process, and the rows it has seen."""
    task, _, rows, _, _ = struct.unpack_from(HEADER, state)
    return f"{HEARTBEAT}: {task.rstrip(bytes(1)).decode()} {os.getpid()} {rows}"
# end database/python/heartbeat.py

new_state = transition(state, features, labels, row_count, weights, config, GD)
if is_heartbeat_due(GD):
    plpy.notice(heartbeat(new_state))
return new_state
$python$;
--rollback changeSetId:model_transition changeSetAuthor:project changeSetPath:004-fit-and-evaluate.sql
