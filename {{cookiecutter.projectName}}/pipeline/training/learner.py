"""The interface of the classes that train a network, inside the database or in this process."""

from typing import Protocol

from pipeline.records import Scores
from pipeline.training_db import Fitted


class Learner(Protocol):
    """Trains one epoch per call and evaluates on the validation split.

    `threads` is the number of TensorFlow's threads per session; 0 leaves the choice to TensorFlow.
    """

    threads: int

    def fit(self, state: bytes, config: str) -> Fitted | None:
        """Train one epoch; `state` is weights and optimizer slots (float32), empty before the first epoch.

        Returns None when there is no row to train on.
        """
        ...

    def evaluate(self, weights: bytes, config: str) -> Scores:
        """Return the scores of the validation split; `weights` is float32 bytes."""
        ...
