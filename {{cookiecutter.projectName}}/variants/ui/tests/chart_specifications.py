"""Specifications of the page's charts. Runs in the page's environment."""

from typing import Any

from app import charts


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Return both charts of each list of names, and whether the second one needs the page's whole width."""
    result = {}
    for name, (classes, values, matrix) in argument.items():
        bars, cells = charts.probabilities(classes, values, classes[-1]), charts.confusion(classes, matrix)
        result[name] = bars.to_dict(), cells.to_dict(), charts.needs_whole_width(classes)
    return result
