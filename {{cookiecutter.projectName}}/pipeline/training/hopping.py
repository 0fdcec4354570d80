"""Schedule of model hopping over the sessions of the training database.

A training that sees all rows at once stays in one session. A training that hops visits the sessions in turn: each
session holds one part of the rows, and the training carries its weights and optimizer slots with it.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple


class Visit(NamedTuple):
    """One task of a training, `fit` or `evaluate`, on the rows of one session."""

    task: Literal["fit", "evaluate"]
    session: int


def epoch_visits(first: int, sessions: int) -> list[Visit]:
    """Return the visits of one epoch: fit in each session, in a circle from the first, then evaluate likewise.

    Every epoch has the same order, so a training's result does not depend on other trainings. All trainings visit the
    sessions in the same direction, so as many trainings as sessions keep every session busy.
    """
    order = [(first + number) % sessions for number in range(sessions)]
    return [*(Visit("fit", session) for session in order), *(Visit("evaluate", session) for session in order)]


def next_visits(waiting: Sequence[tuple[int, int]], free: Collection[int]) -> list[tuple[int, int]]:
    """Return the visits that can start now, as (training, session): per free session the first training in line.

    `waiting` has the trainings that visit no session now, each with the session of its next visit, in order of
    arrival.
    """
    chosen: dict[int, int] = {}
    for training, session in waiting:
        if session in free:
            chosen.setdefault(session, training)
    return [(training, session) for session, training in chosen.items()]


def first_session(run_hash: str, sessions: int) -> int:
    """Return the session where a training starts each epoch; it depends on the run's hash alone."""
    return int(run_hash[:8], 16) % sessions
