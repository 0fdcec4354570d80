"""A trained model as ONNX, checked against Keras before anything else sees it."""

import pathlib
import tempfile
import warnings
from typing import Any

import numpy as np

from pipeline.errors import StepError
from pipeline.user_code import load_keras

TOLERANCE = 1e-4


def keras_model(architecture: str, weights: bytes) -> Any:
    """Build the Keras model from its JSON (safe mode) and its weights (float32 bytes, in Keras's order)."""
    model = load_keras().models.model_from_json(architecture)
    values, start = np.frombuffer(weights, "<f4"), 0
    arrays = []
    for weight in model.weights:
        size = int(np.prod(weight.shape))
        arrays.append(values[start : start + size].reshape(weight.shape))
        start += size
    model.set_weights(arrays)
    return model


def export(model: Any, dtype: str, rows: np.ndarray) -> bytes:
    """Return the model as ONNX with one input `images` of `dtype`, after comparing both on `rows`.

    Raises StepError when a probability differs by more than 1e-4.
    """
    keras = load_keras()
    signature = [keras.InputSpec(shape=model.input_shape, dtype=dtype, name="images")]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, about numpy
            model.export(path, format="onnx", input_signature=signature, verbose=False)
        onnx = path.read_bytes()
    difference = float(np.abs(_onnx_answers(onnx, rows) - model(rows, training=False).numpy()).max())
    if not difference <= TOLERANCE:
        raise StepError(
            f"the ONNX model differs from Keras by {difference:.2g} on {len(rows)} rows; allowed is {TOLERANCE:g}"
        )
    return onnx


def _onnx_answers(onnx: bytes, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    opened = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return opened.run(None, {"images": rows})[0]
