"""The page's input for a model of a table: a form with one field per feature column."""

import math
import re
from collections.abc import Sequence

import streamlit as st

from app import inputs, rows
from app.predictions import Model, RefusedInput
from app.records import EncodedColumn, Encoding
from app.ui_state import Visit, forget, plain, predict, refuse

TITLE = "Row"
NOTHING_YET = "Fill in the row, and press Predict."
FIELDS_PER_LINE = 3
# More lines than this scroll in a box of that height in pixels.
MAX_LINES, BOX_HEIGHT = 6, 500
# Significant digits of a field's number, and most characters of a number that is written as text.
DIGITS, MAX_NUMBER = 6, 310
# A column with a text of more characters gets a field of several lines.
LONG_TEXT = 60
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def choose(visit: Visit, model: Model) -> None:
    """Let the visitor fill in a row, which starts as a typical training row."""
    if model.encoding is None:
        st.error(f"Version {model.version} does not take rows of a table.")
        return
    st.write(f"Features that predict {plain(model.encoding['label'])}:")
    typical = rows.typical(model.encoding)
    with st.form("row", border=False):
        lines = _lines(model.encoding["columns"])
        # A long form scrolls, so that the prediction stays visible beside the button.
        with st.container(height=BOX_HEIGHT if len(lines) > MAX_LINES else "content", border=False):
            # Drawn line by line, so that the Tab key moves through the fields in reading order.
            for line in lines:
                for column, place in zip(line, st.columns(FIELDS_PER_LINE)):
                    with place:
                        _field(column, typical[column["name"]], _key(model, column))
        st.form_submit_button("Predict", type="primary", on_click=_answer, args=(visit, model, model.encoding))


def _lines(columns: Sequence[EncodedColumn]) -> list[Sequence[EncodedColumn]]:
    return [columns[start : start + FIELDS_PER_LINE] for start in range(0, len(columns), FIELDS_PER_LINE)]


def _field(column: EncodedColumn, value: rows.Value, key: str) -> None:
    """Draw the field of a column; a column with NULL in the training rows can be left empty."""
    label = plain(column["name"])
    if rows.is_exact(column):
        _exact_number(column, label, value, key)
    elif column["kind"] == "number":
        _number(column, label, value, key)
    elif column["kind"] == "boolean" and not column["nulls"]:
        st.checkbox(label, value=value, key=key)
    elif _is_long_text(column):
        st.text_area(label, value=value or "", placeholder=_placeholder(column), key=key, height="content")
    else:
        options: list[rows.Value] = [True, False] if column["kind"] == "boolean" else [*column["vocabulary"]]
        index = None if column["nulls"] or value is None else options.index(value)
        st.selectbox(label, options, index=index, format_func=_readable, placeholder="unknown", key=key)


def _exact_number(column: EncodedColumn, label: str, value: rows.Value, key: str) -> None:
    """Draw a field of text: the browser's own numbers are exact only up to 2 to the power of 53."""
    text = str(int(value)) if isinstance(value, int | float) and value == int(value) else str(value)
    st.text_input(label, value=text, max_chars=MAX_NUMBER, placeholder=_placeholder(column), key=key)


def _number(column: EncodedColumn, label: str, value: rows.Value, key: str) -> None:
    # The arrow keys add 1, or about a tenth of the standard deviation.
    step = 1 if rows.is_whole(column) else 10.0 ** math.floor(math.log10(column["deviation"] / 5))
    pattern = "%d" if rows.is_whole(column) else f"%.{DIGITS}g"
    # Only a field without a default value can be emptied.
    if column["nulls"]:
        st.session_state.setdefault(key, value)
        value = None
    st.number_input(label, value=value, placeholder="unknown", key=key, step=step, format=pattern)


def _is_long_text(column: EncodedColumn) -> bool:
    return column["kind"] == "text" and any(len(text) > LONG_TEXT or "\n" in text for text in column["vocabulary"])


def _placeholder(column: EncodedColumn) -> str | None:
    return "unknown" if column["nulls"] else None


def _answer(visit: Visit, model: Model, encoding: Encoding) -> None:
    """Predict the row that the form holds."""
    forget()
    row = {column["name"]: _value(column, st.session_state[_key(model, column)]) for column in encoding["columns"]}
    try:
        text = rows.read(row, encoding)
    except RefusedInput as error:
        refuse(error)
        return
    st.session_state.unlike = inputs.unlike(model, text)
    predict(visit, text)


def _value(column: EncodedColumn, value: rows.Value) -> rows.Value:
    """Return the value of a field: NULL for an empty one if the column has NULLs, and the number that a text holds.

    Text that holds no number is returned as it is; rows.read refuses it.
    """
    if not isinstance(value, str):
        return value
    if column["nulls"] and not value.strip() and "" not in column.get("vocabulary", ()):
        return None
    if not rows.is_exact(column):
        return value
    number = value.strip()
    if WHOLE_NUMBER.fullmatch(number):
        return int(number)
    return float(number) if NUMBER.fullmatch(number) else value


def _key(model: Model, column: EncodedColumn) -> str:
    """Return the name of a field, which is different for each version."""
    return f"column {model.version} {column['name']}"


def _readable(value: bool | str) -> str:
    if isinstance(value, str):
        return value
    return "yes" if value else "no"
