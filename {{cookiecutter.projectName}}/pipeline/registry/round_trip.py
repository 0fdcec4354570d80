"""Comparison of the app's answers with those of the training database, before a promotion."""

from pipeline.registry.onnx_export import TOLERANCE, largest_difference, probabilities, type_and_first_line
from pipeline.training_db import ServedRows


def refusal(onnx: bytes, served: ServedRows) -> str | None:
    """Return the reason why the model cannot be served, None when both answer alike."""
    expected = served.probabilities
    try:
        answers = probabilities(onnx, served.rows)
        largest = largest_difference(answers, expected)
    except Exception as error:
        # ONNX Runtime raises any kind of exception, and its answer may be no array of numbers.
        return f"ONNX Runtime cannot compute it ({type_and_first_line(error)})"
    if answers.shape != expected.shape:
        return f"it returns an array of shape {answers.shape}; the training database returns {expected.shape}"
    if largest <= TOLERANCE:
        return None
    return (
        f"the app and the training database would answer {len(served.rows)} validation rows differently: a probability "
        f"differs by {largest:.2g}; allowed is {TOLERANCE:g}"
    )
