"""Interleaved rounds, medians of them, and the figures that come out."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping

# Two medians that differ by less than this share are a tie: what repeated runs differ by anyway.
TIE = 0.03
# The middle half of the rounds may differ by this share before a verdict is refused.
UNSETTLED = 0.10


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the results: what was measured against which peer, and whether the goal was reached."""

    name: str
    value: str
    peer: str = ""
    goal: str = ""
    reached: str = ""
    rounds: int = 1
    detail: str = ""


def say(line: str) -> None:
    """Print a line of progress to standard error: standard output is for the figures."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def seconds(work: Callable[[], object]) -> float:
    """Return how long the work takes, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(rounds: int, variants: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run every variant once a round (A, B, A, B, …); return each one's answers, a number a round."""
    answers: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            answers[name].append(measure())
    return answers


def timed(rounds: int, variants: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Interleave the variants and return the seconds of every round."""
    return interleave(rounds, {name: lambda work=work: seconds(work) for name, work in variants.items()})


def speed(name: str, ours: list[float], peer: list[float], against: str, goal: float | None, rows: int) -> Figure:
    """Return how fast we are in parts of the peer: the ratio of median seconds for `rows` rows."""
    ratio = statistics.median(peer) / statistics.median(ours)
    each = [theirs / own for theirs, own in zip(peer, ours, strict=True)]
    detail = f"{_rate(rows, ours)} against {_rate(rows, peer)} rows/s; single rounds {min(each):.2f} to {max(each):.2f}"
    return Figure(
        name,
        f"{ratio:.2f}×",
        against,
        f"≥ {goal:.2f}×" if goal else "",
        verdict(ratio, goal, each) if goal else "",
        len(ours),
        detail,
    )


def _rate(rows: int, taken: list[float]) -> str:
    return f"{rows / statistics.median(taken):,.0f}"


def verdict(ratio: float, goal: float, each: list[float]) -> str:
    """Say whether a ratio that should be large reaches its goal; less than the tie below it is still a no.

    Nothing is claimed where the rounds (`each`) lie on both sides of the goal and far apart: other programs
    had the machine.
    """
    low, high = quantile(each, 0.25), quantile(each, 0.75)
    if min(each) < goal <= max(each) and high - low > UNSETTLED * ratio:
        return "not settled: the rounds differ too much"
    if ratio >= goal:
        return "yes"
    return "no, but a tie with the goal" if ratio >= goal * (1 - TIE) else "no"


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
