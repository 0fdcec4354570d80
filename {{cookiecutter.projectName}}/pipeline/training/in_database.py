"""Training inside the training database, by the aggregates `fit` and `evaluate`."""

from typing import Any

from pipeline import training_db
from pipeline.databases import binding
from pipeline.training.run import Training
from pipeline.training_db import Fitted


class InDatabase:
    """Trains and evaluates by the aggregates in the training database: no row leaves it."""

    def __init__(self, connection: Any, training: Training) -> None:
        self.connection = connection
        self.training = training
        self.threads = training_db.threads_for(binding("trainer").is_greenplum)

    def fit(self, state: bytes, config: str) -> Fitted | None:
        """Train one epoch from `state`: weights and optimizer slots, empty before the first."""
        data, weight_count = self.training.data, self.training.architecture.weight_count
        return training_db.fit(self.connection, data.dataset, state, config, weight_count, self.training.blocks)

    def evaluate(self, weights: bytes, config: str) -> dict[str, Any]:
        """Return {rows, loss, accuracy, …} of the validation split."""
        return training_db.evaluate(self.connection, self.training.data.dataset, "validation", weights, config)
