"""Interleaved rounds, and figures from their medians."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping

# Two medians that differ by less than this share are a tie: repeated runs differ as much.
TIE = 0.03
# There is no verdict if the middle half of the rounds differs by more than this share.
UNSETTLED = 0.10


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the results: name, value, peer, goal, and whether the goal was reached."""

    name: str
    value: str
    peer: str = ""
    goal: str = ""
    reached: str = ""
    rounds: int = 1
    detail: str = ""


def say(line: str) -> None:
    """Print a line of progress to standard error, because standard output is for the figures."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of the work in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(rounds: int, variants: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run every variant once per round (A, B, A, B, …); return the results per variant, one per round."""
    results: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            results[name].append(measure())
    return results


def timed(rounds: int, variants: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Interleave the variants and return the seconds of every round."""
    return interleave(rounds, {name: lambda work=work: seconds(work) for name, work in variants.items()})


def speed(name: str, ours: list[float], peer: list[float], against: str, goal: float | None, rows: int) -> Figure:
    """Return the speed relative to the peer: the ratio of the median seconds for `rows` rows."""
    ratio = statistics.median(peer) / statistics.median(ours)
    ratios = [theirs / own for theirs, own in zip(peer, ours, strict=True)]
    detail = (
        f"{_rate(rows, ours)} against {_rate(rows, peer)} rows/s; single rounds {min(ratios):.2f} to {max(ratios):.2f}"
    )
    return Figure(
        name,
        f"{ratio:.2f}×",
        against,
        f"≥ {goal:.2f}×" if goal else "",
        verdict(ratio, goal, ratios) if goal else "",
        len(ours),
        detail,
    )


def _rate(rows: int, durations: list[float]) -> str:
    return f"{rows / statistics.median(durations):,.0f}"


def verdict(ratio: float, goal: float, ratios: list[float]) -> str:
    """Return whether the ratio reaches its goal; a tie below the goal is still a no.

    There is no verdict if the ratios of the rounds are on both sides of the goal and far apart, because other
    programs used the machine.
    """
    low, high = quantile(ratios, 0.25), quantile(ratios, 0.75)
    if min(ratios) < goal <= max(ratios) and high - low > UNSETTLED * ratio:
        return "not settled: the rounds differ too much"
    if ratio >= goal:
        return "yes"
    return "no, but a tie with the goal" if ratio >= goal * (1 - TIE) else "no"


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
