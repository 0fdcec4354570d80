"""Comparison of the app's answers with those of the training database, before a promotion."""

import numpy as np

from pipeline.registry.onnx_export import TOLERANCE, probabilities
from pipeline.training_db import ServedRows


def difference(onnx: bytes, served: ServedRows) -> float:
    """Return the largest difference of a probability between the ONNX model and the training database."""
    return float(np.abs(probabilities(onnx, served.rows) - served.probabilities).max())


def refusal(onnx: bytes, served: ServedRows) -> str | None:
    """Return the reason why the model cannot be served, None when both answer alike."""
    largest = difference(onnx, served)
    if largest <= TOLERANCE:
        return None
    return (
        f"the app and the training database would answer {len(served.rows)} validation rows differently: a probability "
        f"differs by {largest:.2g}; allowed is {TOLERANCE:g}"
    )
