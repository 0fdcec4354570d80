"""Export of a model as ONNX, with a check against Keras."""

import contextlib
import logging
import pathlib
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from database.python.onnx_operators import OWN_SETS
from pipeline.errors import StepError
from pipeline.user_code import load_keras

if TYPE_CHECKING:
    import keras

# The largest difference of a probability between Keras and ONNX Runtime.
TOLERANCE = 1e-4
# A protobuf message must be smaller.
MOST_BYTES = 2**31
CHECKED_ROWS = 8
# Seconds after which ONNX Runtime is stopped; some hundred rows take less.
MOST_SECONDS = 60


class NotExportable(StepError):
    """ONNX cannot hold a model, or computes another answer."""


def keras_model(architecture: str, weights: bytes) -> "keras.Model":
    """Build the Keras model from its JSON (safe mode) and its weights (float32 bytes in Keras's order)."""
    model: keras.Model = load_keras().models.model_from_json(architecture)
    values, start = np.frombuffer(weights, "<f4"), 0
    arrays = []
    for weight in model.weights:
        size = int(np.prod(weight.shape))
        arrays.append(values[start : start + size].reshape(weight.shape))
        start += size
    model.set_weights(arrays)
    return model


def check(architecture: str, dtype: str, value_range: tuple[float, float]) -> None:
    """Export a model with fresh weights, and compare it with Keras on random rows of a range of values.

    Raises StepError, which names the layer, when the model cannot be served.
    """
    model: keras.Model = load_keras().models.model_from_json(architecture)
    rows = _random_rows(model.input_shape[1:], dtype, value_range)
    try:
        export(model, dtype, rows)
    except NotExportable as error:
        culprit = _culprit(model, rows)
        place = f"the layer {culprit.name} ({type(culprit).__name__}) cannot be served: " if culprit else ""
        raise StepError(
            f"model.py: build_model(): {place}{error}; use another layer, or one that works in training only"
        ) from error


def export(model: "keras.Model", dtype: str, rows: npt.NDArray[Any]) -> bytes:
    """Return the model in inference mode as ONNX with one input `images` of `dtype`, after a comparison on `rows`.

    `rows` is (n, *shape) of `dtype`. Raises NotExportable when ONNX cannot hold the model, or when a probability
    differs by more than TOLERANCE.
    """
    keras = load_keras()
    # A clone of some random layers would otherwise be traced as in training, with the statistics of each batch.
    inputs = keras.Input(batch_shape=model.input_shape)
    serving = keras.Model(inputs, inference_model(model)(inputs, training=False))
    signature = [keras.InputSpec(shape=serving.input_shape, dtype=dtype, name="images")]
    with tempfile.TemporaryDirectory() as folder, _silent_exporter():
        path = pathlib.Path(folder) / "model.onnx"
        try:
            serving.export(path, format="onnx", input_signature=signature, verbose=False)
        except Exception as error:
            # The exporter raises any kind of exception.
            raise NotExportable(f"ONNX cannot express it ({type_and_first_line(error)})") from error
        onnx = path.read_bytes()
    _require_own_operators(onnx)
    try:
        answers = probabilities(onnx, rows)
    except Exception as error:
        # ONNX Runtime raises any kind of exception, too.
        raise NotExportable(f"ONNX Runtime cannot compute it ({type_and_first_line(error)})") from error
    difference = largest_difference(answers, _keras_answers(model, rows))
    if not difference <= TOLERANCE:
        raise NotExportable(
            f"the ONNX model differs from Keras by {difference:.2g} on {len(rows)} rows; allowed is {TOLERANCE:g}"
        )
    return onnx


def _keras_answers(model: "keras.Model", rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the probabilities (n, classes) that Keras computes. Raises NotExportable when it cannot."""
    try:
        return np.asarray(model(rows, training=False))
    except Exception as error:
        raise NotExportable(f"Keras cannot compute it ({type_and_first_line(error)})") from error


def largest_difference(answers: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference of two arrays; infinity when their shapes differ."""
    return float(np.abs(answers - expected).max()) if answers.shape == expected.shape else np.inf


def inference_model(model: "keras.Model") -> "keras.Model":
    """Return the model with its weights and without the layers that work in training only.

    Keras computes their random numbers in inference as well, and ONNX has no operators for them. The exporter takes
    the constants of a Normalization for inputs of the model, so layers of Rescaling compute the same instead.
    """
    layers, clone_model = load_keras().layers, load_keras().models.clone_model
    serving: keras.Model = clone_model(model, clone_function=_serving_layer, call_function=None)
    normalizations = [layer for layer in model._flatten_layers() if isinstance(layer, layers.Normalization)]
    # Their weights, which architectures deployed by 0.1.0 have, are constants of a Rescaling.
    unused = {id(weight) for layer in normalizations for weight in layer.weights}
    serving.set_weights([np.asarray(weight) for weight in model.weights if id(weight) not in unused])
    return serving


def _serving_layer(layer: "keras.Layer") -> "keras.Layer":
    """Return a layer that computes in inference what this one computes, without its weights."""
    keras = load_keras()
    if is_for_training_only(layer):
        return keras.layers.Identity(name=layer.name)
    if isinstance(layer, keras.Model):
        return inference_model(layer)
    if isinstance(layer, keras.layers.Normalization):
        return _rescaling(layer)
    return type(layer).from_config(layer.get_config())


def _rescaling(layer: "keras.layers.Normalization") -> "keras.Layer":
    """Return what computes the same: (x - mean) / deviation, or x · deviation + mean where the layer inverts.

    The mean is subtracted first: x / deviation - mean / deviation loses every digit where the deviation is tiny, as
    that of a pixel which is white in all images.
    """
    keras = load_keras()
    mean = np.asarray(layer.mean)
    deviation = np.maximum(np.sqrt(np.asarray(layer.variance)), keras.backend.epsilon())
    if layer.invert:
        return keras.layers.Rescaling(deviation, mean, name=layer.name)
    return keras.Sequential([keras.layers.Rescaling(1, -mean), keras.layers.Rescaling(1 / deviation)], name=layer.name)


def is_for_training_only(layer: "keras.Layer") -> bool:
    """Return whether a layer of Keras passes its input on unchanged in inference."""
    name = type(layer).__name__
    return name != "RandomCrop" and (
        name.startswith(("Random", "Gaussian", "SpatialDropout", "AlphaDropout"))
        or name in ("Dropout", "ActivityRegularization", "AugMix", "RandAugment")
    )


def probabilities(onnx: bytes, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the probabilities (n, classes) that ONNX Runtime computes.

    A Loop may never end; after MOST_SECONDS ONNX Runtime raises an exception of its own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    run = onnxruntime.RunOptions()
    timer = threading.Timer(MOST_SECONDS, setattr, (run, "terminate", True))
    timer.start()
    try:
        answers: npt.NDArray[np.float32] = session.run(None, {"images": rows}, run)[0]
    finally:
        timer.cancel()
    return answers


def _random_rows(shape: tuple[int, ...], dtype: str, value_range: tuple[float, float]) -> npt.NDArray[Any]:
    """Return CHECKED_ROWS random rows, uniform over the range of values."""
    values = np.random.default_rng(1).uniform(*value_range, (CHECKED_ROWS, *shape))
    return (np.rint(values) if dtype == "uint8" else values).astype(dtype)


def _require_own_operators(onnx: bytes) -> None:
    """Raise NotExportable when the file is too large, or needs an operator that is not ONNX's own."""
    from onnx import load_from_string

    if len(onnx) >= MOST_BYTES:
        raise NotExportable(f"its ONNX file has {len(onnx):,} bytes; allowed are less than {MOST_BYTES:,}")
    graph = load_from_string(onnx).graph
    for node in graph.node:
        if node.domain not in OWN_SETS:
            raise NotExportable(f"it needs the operator {node.domain}.{node.op_type}, which ONNX Runtime lacks")


def _culprit(model: "keras.Model", rows: npt.NDArray[Any]) -> "keras.Layer | None":
    """Return the first layer that alone cannot be exported; None when each can, or when it has several inputs."""
    keras = load_keras()
    for layer in _flat_layers(model):
        spec = layer.input
        if isinstance(layer, keras.layers.InputLayer) or not isinstance(spec, keras.KerasTensor):
            continue
        inputs = keras.Input(shape=spec.shape[1:], dtype=spec.dtype, name="images")
        copy = type(layer).from_config(layer.get_config())
        values = np.random.default_rng(1).uniform(size=(len(rows), *spec.shape[1:])).astype(spec.dtype)
        try:
            export(keras.Model(inputs, copy(inputs)), spec.dtype, values)
        except NotExportable:
            return layer
    return None


def _flat_layers(model: "keras.Model") -> "Iterator[keras.Layer]":
    """Yield the layers of a model and of the models within it, in their order."""
    for layer in model.layers:
        if isinstance(layer, load_keras().Model):
            yield from _flat_layers(layer)
        else:
            yield layer


@contextlib.contextmanager
def _silent_exporter() -> Iterator[None]:
    """Silence the exporter, whose exception repeats its log messages about operators."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        # It warns about its own use of numpy.
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def type_and_first_line(error: Exception) -> str:
    """Return the type and the first line of an exception's message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
