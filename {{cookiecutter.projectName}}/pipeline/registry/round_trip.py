"""Comparison of the app's answers with those of the training database, before a promotion."""

import numpy as np

from pipeline.registry.onnx_export import TOLERANCE, first_line, probabilities
from pipeline.training_db import ServedRows


def difference(onnx: bytes, served: ServedRows) -> float:
    """Return the largest difference of a probability between the ONNX model and the training database.

    Raises ValueError when the model does not give one probability per class.
    """
    answers = np.asarray(probabilities(onnx, served.rows), "f4")
    if answers.shape != served.probabilities.shape:
        raise ValueError(f"its answers have the shape {answers.shape}, required is {served.probabilities.shape}")
    return float(np.abs(answers - served.probabilities).max())


def refusal(onnx: bytes, served: ServedRows) -> str | None:
    """Return the reason why the model cannot be served, None when both answer alike."""
    try:
        largest = difference(onnx, served)
    except Exception as error:
        # ONNX Runtime raises any kind of exception.
        return f"ONNX Runtime cannot compute it ({first_line(error)})"
    if largest <= TOLERANCE:
        return None
    return (
        f"the app and the training database would answer {len(served.rows)} validation rows differently: a probability "
        f"differs by {largest:.2g}; allowed is {TOLERANCE:g}"
    )
