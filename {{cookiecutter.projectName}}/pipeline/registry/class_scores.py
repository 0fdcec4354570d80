"""Precision, recall and F1 per class, from a confusion matrix."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ClassScores(NamedTuple):
    """The scores of one class, or means over classes; `support` is the number of true rows."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def class_scores(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ClassScores]:
    """Return the scores per class; a share without rows is 0, as in scikit-learn with zero_division=0.

    `matrix` is (classes, classes): [i][j] counts the rows of class i that the model takes for class j.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    columns = (_shares(hits, predicted), _shares(hits, true), _shares(2 * hits, true + predicted))
    return [ClassScores(*row) for row in zip(classes, *columns, true.tolist(), strict=True)]


def _shares(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> list[float]:
    shares: list[float] = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0).tolist()
    return shares


def means(matrix: Sequence[Sequence[int]], scores: Sequence[ClassScores]) -> list[ClassScores]:
    """Return the macro mean over the classes that occur as a label or as an answer, and the mean weighted by support.

    The macro F1 is the one of the database function `evaluate`.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    occurs = counts.sum(axis=0) + counts.sum(axis=1) > 0
    values = np.array([[row.precision, row.recall, row.f1] for row in scores])
    support = np.array([row.support for row in scores])
    total = int(support.sum())
    averages = {"macro mean": values[occurs].mean(axis=0), "weighted mean": np.average(values, axis=0, weights=support)}
    return [
        ClassScores(name, float(precision), float(recall), float(f1), total)
        for name, (precision, recall, f1) in averages.items()
    ]
