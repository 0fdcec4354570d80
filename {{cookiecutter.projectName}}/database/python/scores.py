"""The final function of the aggregate `evaluate`."""

import json
import math
import struct

import numpy as np

from database.python.state import HEADER


def scores(state: bytes) -> "str | None":
    """Return the scores in a state as JSON, or None when it has seen no row.

    The object has rows, loss (mean cross-entropy), accuracy, f1 and confusion_matrix, where [i][j] counts the rows of
    class i that the model takes for class j. f1 is the mean of 2·tp / (2·tp + fp + fn) over the classes that occur as
    a label or as an answer.
    """
    if len(state) <= 8:
        return None
    _, _, rows, loss_sum, correct = struct.unpack_from(HEADER, state)
    counts = np.frombuffer(state, "<i8", offset=struct.calcsize(HEADER))
    matrix = counts.reshape(2 * (math.isqrt(len(counts)),))
    occurrences = matrix.sum(axis=0) + matrix.sum(axis=1)
    f1 = 2 * np.diag(matrix)[occurrences > 0] / occurrences[occurrences > 0]
    return json.dumps(
        {
            "rows": rows,
            "loss": loss_sum / rows,
            "accuracy": correct / rows,
            "f1": float(f1.mean()),
            "confusion_matrix": matrix.tolist(),
        }
    )
