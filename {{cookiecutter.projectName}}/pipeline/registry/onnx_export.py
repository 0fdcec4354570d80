"""Export of a trained model as ONNX, with a check against Keras."""

import pathlib
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import StepError
from pipeline.user_code import load_keras

if TYPE_CHECKING:
    import keras

# The largest difference of a probability between Keras and ONNX Runtime.
TOLERANCE = 1e-4


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


def export(model: "keras.Model", dtype: str, rows: npt.NDArray[Any]) -> bytes:
    """Return the model as ONNX with one input `images` of `dtype`, after a comparison of both on `rows`.

    `rows` is (n, *shape) of `dtype`. Raises StepError when a probability differs by more than TOLERANCE.
    """
    keras = load_keras()
    signature = [keras.InputSpec(shape=model.input_shape, dtype=dtype, name="images")]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own use of numpy
            model.export(path, format="onnx", input_signature=signature, verbose=False)
        onnx = path.read_bytes()
    difference = float(np.abs(_probabilities(onnx, rows) - model(rows, training=False).numpy()).max())
    if not difference <= TOLERANCE:
        raise StepError(
            f"the ONNX model differs from Keras by {difference:.2g} on {len(rows)} rows; allowed is {TOLERANCE:g}"
        )
    return onnx


def _probabilities(onnx: bytes, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the probabilities (n, classes) that ONNX Runtime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    probabilities: npt.NDArray[np.float32] = session.run(None, {"images": rows})[0]
    return probabilities
