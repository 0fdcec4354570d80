"""Calibration of a model's probabilities, and its most confident errors."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from pipeline.predictions import PredictedBlock

BINS = 10
MOST_ERRORS = 20


class ConfidentError(NamedTuple):
    """A row whose most probable class is not its label: block, index in the block (from 0), and class numbers."""

    probability: float
    batch_id: int
    row_index: int
    label: int
    predicted: int


class Calibration(NamedTuple):
    """Calibration per bin of the highest probability, and up to MOST_ERRORS errors by descending probability.

    Bin i holds the rows whose highest probability is above i / BINS and at most (i + 1) / BINS: their number, mean
    probability and accuracy. The means of a bin without rows are 0.
    """

    row_counts: list[int]
    probabilities: list[float]
    accuracies: list[float]
    errors: list[ConfidentError]

    @property
    def expected_calibration_error(self) -> float:
        """Return the expected calibration error: |mean probability - accuracy| per bin, weighted by its rows.

        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equation 3.
        """
        distances = np.abs(np.subtract(self.probabilities, self.accuracies))
        return float(np.average(distances, weights=self.row_counts))


def calibration(blocks: Iterable[PredictedBlock]) -> Calibration:
    """Return the calibration of predicted blocks; one block at a time is in memory."""
    row_counts, probabilities, correct_counts = np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS)
    errors: list[ConfidentError] = []
    for block in blocks:
        predicted, highest = block.probabilities.argmax(axis=1), block.probabilities.max(axis=1).astype("f8")
        is_correct = predicted == block.labels
        bins = np.clip(np.ceil(highest * BINS).astype(int) - 1, 0, BINS - 1)
        row_counts += np.bincount(bins, minlength=BINS)
        probabilities += np.bincount(bins, highest, BINS)
        correct_counts += np.bincount(bins, is_correct, BINS)
        block_errors = (
            ConfidentError(float(highest[row]), block.batch_id, int(row), int(block.labels[row]), int(predicted[row]))
            for row in np.flatnonzero(~is_correct)
        )
        errors = heapq.nlargest(MOST_ERRORS, [*errors, *block_errors])
    counts = np.maximum(row_counts, 1)
    return Calibration(
        row_counts.tolist(), (probabilities / counts).tolist(), (correct_counts / counts).tolist(), errors
    )
