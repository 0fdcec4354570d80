"""The candidates of an experiment, and how the training rows are divided among the sessions."""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.errors import StepError
from pipeline.records import EpochRow, MeanScores, Scores
from pipeline.training import checkpoints
from pipeline.training.hopping import Visit
from pipeline.training.run import Training
from pipeline.training_db import Blocks, Fitted


class Division(NamedTuple):
    """How many sessions train, and which rows each of them sees.

    Without partitions, a training stays in one session and sees all rows. Otherwise session i sees the rows for which
    `expression`, SQL over dataset_batch, equals partitions[i], and the trainings hop from session to session.
    """

    sessions: int
    expression: str = ""
    partitions: tuple[int, ...] = ()

    @classmethod
    def hopping(cls, expression: str, partitions: Sequence[int]) -> "Division":
        """Return a division by an expression, with one session per value."""
        return cls(len(partitions), expression, tuple(partitions))

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters of a training on which the division has an effect."""
        return {"partitions": self.sessions} if self.partitions else {}

    def blocks(self, session: int) -> Blocks:
        """Return the blocks that a session sees."""
        if not self.partitions:
            return Blocks()
        return Blocks(f"({self.expression.replace('%', '%%')}) = %s", (self.partitions[session],))


@dataclasses.dataclass
class Candidate:
    """A training of an experiment, its committed epochs, and the reason if it failed."""

    number: int
    training: Training
    epoch_rows: list[EpochRow] = dataclasses.field(default_factory=list)
    error: str = ""

    @property
    def best(self) -> EpochRow:
        """The epoch with the lowest validation loss."""
        return checkpoints.best_row(self.epoch_rows)

    @property
    def is_complete(self) -> bool:
        """Return whether no epoch is missing."""
        epochs, patience = self.training.parameters["epochs"], self.training.parameters["patience"]
        return len(self.epoch_rows) >= epochs or checkpoints.is_patience_over(self.epoch_rows, patience)


@dataclasses.dataclass
class EpochProgress:
    """A candidate's unfinished epoch: its state (weights and slots), and the results of the visits so far."""

    candidate: Candidate
    mlflow_run: str
    visits: list[Visit]
    state: bytes = b""
    fitted: list[Fitted] = dataclasses.field(default_factory=list)
    scores: list[Scores] = dataclasses.field(default_factory=list)
    visit_number: int = 0
    started: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def visit(self) -> Visit:
        """The visit under way, or the next one."""
        return self.visits[self.visit_number]

    @property
    def is_complete(self) -> bool:
        """Return whether every visit of the epoch is over."""
        return self.visit_number == len(self.visits)

    def start_epoch(self, state: bytes) -> None:
        """Start an epoch with weights and optimizer slots, empty before the first."""
        self.state, self.fitted, self.scores, self.visit_number = state, [], [], 0
        self.started = time.monotonic()

    def finish_visit(self, result: Fitted | Scores | None) -> None:
        """Store the result of a visit, None where the session has no row, and move on to the next visit."""
        if isinstance(result, Fitted):
            self.fitted.append(result)
            self.state = result.weights + result.optimizer_slots
        elif result is not None:
            self.scores.append(result)
        self.visit_number += 1

    def merged_fitted(self, division: Division) -> Fitted:
        """Merge what the visits returned. Raises StepError when they did not see every row."""
        rows, wanted = sum(part.rows for part in self.fitted), self.candidate.training.data.split_rows["train"]
        if division.partitions and rows != wanted:
            raise StepError(
                f"an epoch over {division.sessions} segments saw {rows} of {wanted} training rows, as when the "
                "table dataset_batch is being redistributed: run the step again"
            )
        return merged_fitted(self.fitted)


def merged_fitted(parts: Sequence[Fitted]) -> Fitted:
    """Return the means of loss and accuracy, weighted by rows, with weights and slots of the last part."""
    rows = sum(part.rows for part in parts)
    return parts[-1]._replace(
        loss=sum(part.loss * part.rows for part in parts) / rows,
        accuracy=sum(part.accuracy * part.rows for part in parts) / rows,
        rows=rows,
    )


def merged_scores(parts: Sequence[Scores]) -> MeanScores:
    """Return the means of loss and accuracy, weighted by rows."""
    rows = sum(part["rows"] for part in parts)
    return MeanScores(
        loss=sum(part["loss"] * part["rows"] for part in parts) / rows,
        accuracy=sum(part["accuracy"] * part["rows"] for part in parts) / rows,
    )
