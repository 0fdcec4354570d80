"""Encodes rows of the source table: both databases turn a row into the numbers of the model in this way."""

import json
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypedDict

    import numpy.typing as npt

    class Column(TypedDict, total=False):
        """A column of the encoding, measured on the training rows: see docs/reference/data.md."""

        name: str
        # The database's type, such as real or character(8).
        type: str
        kind: Literal["number", "boolean", "text"]
        # Of numbers and booleans, in the column's own unit.
        mean: float
        deviation: float
        # Of texts.
        vocabulary: list[str]


def row_values(columns: "Sequence[Column]", row: object) -> "npt.NDArray[np.float64]":
    """Return the values of a JSON object as (1, columns) float64: NaN for null, a text's place in the vocabulary.

    Keys that are no column are ignored. Raises ValueError, which names the column.
    """
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object of columns and values")
    missing = [column["name"] for column in columns if column["name"] not in row]
    if missing:
        raise ValueError(f"the row has no column {missing[0]}; give null for an unknown value")
    return np.array([[column_value(column, row[column["name"]]) for column in columns]], "f8")


def column_value(column: "Column", value: object) -> float:
    """Return one value as a number: NaN for null, for a text that is not in the vocabulary the vocabulary's length.

    Raises ValueError when the value is not of the column's kind, or no finite number.
    """
    name, kind = column["name"], column["kind"]
    if value is None:
        return math.nan
    if kind == "text" and isinstance(value, str):
        # The database ignores blanks at the end of a character(n).
        text = value.rstrip(" ") if column["type"].startswith("character(") else value
        vocabulary = column["vocabulary"]
        return vocabulary.index(text) if text in vocabulary else len(vocabulary)
    if kind == "text" or not isinstance(value, (int, float)) or isinstance(value, bool) != (kind == "boolean"):
        expected = {"number": "a number", "boolean": "true or false", "text": "text"}[kind]
        raise ValueError(f"column {name} must be {expected}; {json.dumps(value)[:60]} was given")
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(value)) if column["type"] == "real" else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"column {name} must be a finite number; {json.dumps(value)[:60]} was given")
    return number


def encode_values(columns: "Sequence[Column]", values: "npt.NDArray[np.float64]") -> "npt.NDArray[np.float32]":
    """Return the model's input, (n, width) little-endian float32, of rows as row_values returns them, (n, columns).

    Numbers and booleans are scaled by mean and deviation; NaN becomes 0. A text has one place per word of the
    vocabulary (one-hot); a word that is not in the vocabulary leaves all of them 0.
    """
    widths = [len(column["vocabulary"]) if column["kind"] == "text" else 1 for column in columns]
    starts = np.cumsum([0, *widths])
    encoded = np.zeros((len(values), starts[-1]), "<f4")
    numeric = [number for number, column in enumerate(columns) if column["kind"] != "text"]
    means = np.array([columns[number]["mean"] for number in numeric], "f8")
    deviations = np.array([columns[number]["deviation"] for number in numeric], "f8")
    scaled = (values[:, numeric] - means) / deviations
    encoded[:, starts[numeric]] = np.where(np.isnan(scaled), 0, scaled)
    for number, column in enumerate(columns):
        if column["kind"] == "text":
            places = values[:, number]
            known = np.flatnonzero(places < widths[number])
            encoded[known, starts[number] + places[known].astype("i8")] = 1
    return encoded
