"""Which training is where when: many trainings share a few sessions of the database, and none waits without need.

A session is a station. Trainings that see all rows at once stay at one station; those that hop go round the stations,
each of which holds a part of the rows, and carry their weights and optimizer slots with them.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Stop(NamedTuple):
    """What is done where: `fit` or `evaluate`, on the rows of a station."""

    task: str
    station: int


def itinerary(first: int, stations: int) -> list[Stop]:
    """Return the stops of an epoch: fit at each station, once round from the first, and then evaluate once round.

    Every epoch has the same order, so the result of a training does not depend on what else is trained. All trainings
    go round in the same direction: as many of them as stations keep every station busy.
    """
    order = [(first + number) % stations for number in range(stations)]
    return [Stop(task, station) for task in ("fit", "evaluate") for station in order]


def next_visits(waiting: Sequence[tuple[int, int]], free: Collection[int]) -> list[tuple[int, int]]:
    """Return the visits that begin now, (training, station): at each free station the first that waits for it.

    `waiting` are trainings that are nowhere, with the station of their next stop, in the order in which they came.
    """
    chosen: dict[int, int] = {}
    for training, station in waiting:
        if station in free:
            chosen.setdefault(station, training)
    return [(training, station) for station, training in chosen.items()]


def first_station(run_hash: str, stations: int) -> int:
    """Return where a hopping training begins: anywhere, but for a run always at the same station."""
    return int(run_hash[:8], 16) % stations
