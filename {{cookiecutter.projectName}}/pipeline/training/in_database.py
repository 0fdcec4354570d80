"""Training inside the training database, by the aggregates `fit` and `evaluate`."""

from psycopg2.extensions import connection as Connection

from pipeline import training_db
from pipeline.databases import binding
from pipeline.records import Scores
from pipeline.training.run import Training
from pipeline.training_db import Fitted


class InDatabase:
    """A Learner that runs the aggregates of the training database: no row leaves it."""

    def __init__(self, connection: Connection, training: Training) -> None:
        self.connection = connection
        self.training = training
        self.threads = training_db.threads_for(binding("trainer").is_greenplum)

    def fit(self, state: bytes, config: str) -> Fitted | None:
        """Train one epoch; `state` is weights and optimizer slots (float32), empty before the first epoch."""
        data, weight_count = self.training.data, self.training.architecture.weight_count
        return training_db.fit(self.connection, data.dataset, state, config, weight_count, self.training.blocks)

    def evaluate(self, weights: bytes, config: str) -> Scores:
        """Return the scores of the validation split; `weights` is float32 bytes."""
        return training_db.evaluate(self.connection, self.training.data.dataset, "validation", weights, config)
