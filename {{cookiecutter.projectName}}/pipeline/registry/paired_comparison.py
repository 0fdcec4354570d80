"""Comparison of two models' answers to the same rows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.special

# A candidate is worse where chance alone would explain as many lost rows with a smaller probability.
SIGNIFICANT = 0.05
# A larger loss of accuracy counts on few rows, too, where nothing new was learned on purpose.
TOLERATED_LOSS = 0.01


class Comparison(NamedTuple):
    """The accuracies of candidate and served model on the same rows.

    `p_value` is that of the exact one-sided McNemar test: the probability that the candidate loses at least as many
    rows to the served model if both are equally good.
    """

    rows: int
    candidate: float
    served: float
    p_value: float

    @property
    def is_significantly_worse(self) -> bool:
        """Whether the candidate's losses are more than chance explains."""
        return self.candidate < self.served and self.p_value < SIGNIFICANT

    @property
    def loses_too_much(self) -> bool:
        """Whether the candidate loses more than TOLERATED_LOSS, significantly or not."""
        return self.served - self.candidate > TOLERATED_LOSS


def compare(candidate: npt.NDArray[np.bool_], served: npt.NDArray[np.bool_]) -> Comparison:
    """Return the comparison of two models, given as (n,) booleans, n > 0: whether each row is answered correctly.

    The exact McNemar test: of the rows that only one model answers correctly, half are expected for each (Q. McNemar,
    Psychometrika 12, 1947).
    """
    lost, won = int((served & ~candidate).sum()), int((candidate & ~served).sum())
    p_value = float(scipy.special.bdtrc(lost - 1, lost + won, 0.5)) if lost else 1.0
    return Comparison(len(candidate), float(candidate.mean()), float(served.mean()), p_value)
