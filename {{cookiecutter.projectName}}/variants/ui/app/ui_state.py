"""The page's state of a visit, in st.session_state, and the format of its messages.

Streamlit runs the page again at every interaction, and every prediction is logged. A prediction is therefore made once,
in the callback of the element that a visitor used. Between runs the state holds:

* `prediction`, and `classes`, because another version may be served meanwhile,
* `recorded`: the message about the prediction's label,
* `refused`: the reason why there is no prediction,
* `unlike`: phrases about the values of the input that are unlike all training rows,
* the state of ui_input.py.
"""

import re
from typing import NamedTuple

import streamlit as st

from app.predictions import Input, PredictionError, Predictions
from app.request_limits import Rate
from app.subjects import Subject


class Visit(NamedTuple):
    """The visitor, the counter of the visitor's requests, and the source of predictions."""

    predictions: Predictions
    subject: Subject
    rate: Rate

    def refusal(self) -> str:
        """Count a request; return the sentence that refuses it, an empty text if it is allowed."""
        seconds = self.rate.seconds_to_wait(self.subject.name)
        return f"Too many requests: try again in {seconds} s." if seconds else ""


STATE = ("pictures", "unlike", "prediction", "classes", "recorded", "refused")


def forget() -> None:
    """Delete the state of the last prediction."""
    for name in STATE:
        st.session_state.pop(name, None)


def predict(visit: Visit, row: Input) -> None:
    """Predict, and store the prediction or the reason why there is none."""
    if refusal := visit.refusal():
        st.session_state.refused = refusal
        return
    try:
        prediction = visit.predictions.predict(row, visit.subject.name)
        # Another version than the page shows may have answered.
        st.session_state.classes = visit.predictions.classes(prediction.version)
        st.session_state.prediction = prediction
    except PredictionError as error:
        refuse(error)


def refuse(error: Exception) -> None:
    """Store the reason why there is no prediction."""
    st.session_state.refused = sentence(error)


def sentence(error: Exception) -> str:
    """Return an error's text as a sentence."""
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def plain(text: str) -> str:
    """Return text with Markdown's special characters escaped, except an underscore within a word."""
    return re.sub(r"([\\`*{}\[\]()<>#+~|$:!^-]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)
