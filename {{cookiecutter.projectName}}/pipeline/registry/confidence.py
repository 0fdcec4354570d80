"""How far a model's probabilities can be trusted: calibration, and the mistakes of which it was surest."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from pipeline.training_db import AnsweredBlock

BINS = 10
MISTAKES = 20


class Mistake(NamedTuple):
    """A row whose most probable class is not its label: block, place in the block (from 0), and class numbers."""

    probability: float
    batch_id: int
    number: int
    label: int
    answer: int


class Confidence(NamedTuple):
    """Per bin of the highest probability: rows, mean probability and accuracy; and the surest mistakes, surest first.

    Bin i holds the rows whose highest probability is above i / BINS and at most (i + 1) / BINS. A bin without rows has
    the means 0.
    """

    rows: list[int]
    probabilities: list[float]
    accuracies: list[float]
    mistakes: list[Mistake]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: mean distance of probability and accuracy per bin, weighted by rows.

        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equation 3.
        """
        distances = np.abs(np.subtract(self.probabilities, self.accuracies))
        return float(np.average(distances, weights=self.rows))


def confidence(blocks: Iterable[AnsweredBlock]) -> Confidence:
    """Return what the answers to the rows of some blocks say; the blocks are read one after the other."""
    rows, probabilities, hits = np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS)
    mistakes: list[Mistake] = []
    for block in blocks:
        answers, highest = block.probabilities.argmax(axis=1), block.probabilities.max(axis=1).astype("f8")
        is_hit = answers == block.labels
        bins = np.clip(np.ceil(highest * BINS).astype(int) - 1, 0, BINS - 1)
        rows += np.bincount(bins, minlength=BINS)
        probabilities += np.bincount(bins, highest, BINS)
        hits += np.bincount(bins, is_hit, BINS)
        wrong = (
            Mistake(float(highest[row]), block.batch_id, int(row), int(block.labels[row]), int(answers[row]))
            for row in np.flatnonzero(~is_hit)
        )
        mistakes = heapq.nlargest(MISTAKES, [*mistakes, *wrong])
    counts = np.maximum(rows, 1)
    return Confidence(rows.tolist(), (probabilities / counts).tolist(), (hits / counts).tolist(), mistakes)
