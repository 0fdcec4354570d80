"""What the page's visitors give: a row, by a form with a field for each of the model's columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import rows
from app.predictions import Model, Predictions, RefusedInput
from app.ui_state import forget, plain, predict, refuse

TITLE = "Row"
NOTHING_YET = "Fill in the row, and press Predict."
ABREAST = 3
# More lines than this are scrolled in a box.
MOST_LINES, MOST_PIXELS = 6, 500
# A field shows so many digits, and no more count.
DIGITS = 6


def choose(predictions: Predictions, model: Model) -> None:
    """Let the visitor fill in a row; it begins as a typical one of the training rows."""
    if model.encoding is None:
        st.error(f"Version {model.version} does not take rows of a table.")
        return
    st.write(f"{plain(model.encoding['label'])} is predicted from:")
    typical = rows.typical(model.encoding)
    with st.form("row", border=False):
        lines = _lines(model.encoding["columns"])
        # Who presses the button is to see the prediction beside it.
        with st.container(height=MOST_PIXELS if len(lines) > MOST_LINES else "content", border=False):
            # A line at a time, so that the Tab key goes through them as they are read.
            for line in lines:
                for column, place in zip(line, st.columns(ABREAST)):
                    with place:
                        _field(column, typical[column["name"]], _key(model, column))
        st.form_submit_button("Predict", type="primary", on_click=_answer, args=(predictions, model))


def _lines(columns: Sequence[Mapping[str, Any]]) -> list[Sequence[Mapping[str, Any]]]:
    return [columns[low : low + ABREAST] for low in range(0, len(columns), ABREAST)]


def _field(column: Mapping[str, Any], value: Any, key: str) -> None:
    """Draw the field of a column; one that may be unknown can be emptied."""
    label = plain(column["name"])
    if column["kind"] == "number":
        _number(column, label, value, key)
    elif column["kind"] == "boolean" and not column["nulls"]:
        st.checkbox(label, value=value, key=key)
    else:
        options = [True, False] if column["kind"] == "boolean" else column["vocabulary"]
        index = None if column["nulls"] or value is None else options.index(value)
        st.selectbox(label, options, index=index, format_func=_spoken, placeholder="unknown", key=key)


def _number(column: Mapping[str, Any], label: str, value: float, key: str) -> None:
    if rows.is_whole(column):
        options = {"step": 1, "format": "%d"}
    else:
        # What the arrow keys add: about a tenth of what rows differ by.
        options = {"step": 10.0 ** math.floor(math.log10(column["deviation"] / 5)), "format": f"%.{DIGITS}g"}
    # Without a value of its own a field can be emptied.
    if column["nulls"]:
        st.session_state.setdefault(key, value)
        value = None
    st.number_input(label, value=value, placeholder="unknown", key=key, **options)


def _answer(predictions: Predictions, model: Model) -> None:
    """Predict the row that the form holds."""
    forget()
    row = {column["name"]: st.session_state[_key(model, column)] for column in model.encoding["columns"]}
    try:
        given = rows.read(row, model.encoding)
    except RefusedInput as error:
        refuse(error)
        return
    predict(predictions, given)


def _key(model: Model, column: Mapping[str, Any]) -> str:
    """Return the name of a field: another version's has its own."""
    return f"column {model.version} {column['name']}"


def _spoken(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
