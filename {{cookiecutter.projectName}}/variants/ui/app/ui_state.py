"""What the page remembers of a visit, in st.session_state, and how it speaks.

Every prediction is logged, so each is made once, in the callback of the element that was used: Streamlit runs the page
again at every interaction. What has to outlive a run: prediction, classes (the model may be replaced meanwhile),
recorded (what was said of it), refused (why there is no answer), and what ui_input.py shows beside it.
"""

import re

import streamlit as st

from app.predictions import Input, PredictionError, Predictions

REMEMBERED = ("picture", "source", "prediction", "classes", "recorded", "refused")


def forget() -> None:
    """Forget the last answer."""
    for name in REMEMBERED:
        st.session_state.pop(name, None)


def predict(predictions: Predictions, given: Input) -> None:
    """Predict and remember the answer, or why there is none."""
    try:
        prediction = predictions.predict(given)
        # Another version than the one shown may have answered.
        st.session_state.classes = predictions.classes(prediction.version)
        st.session_state.prediction = prediction
    except PredictionError as error:
        refuse(error)


def refuse(error: Exception) -> None:
    """Remember why there is no answer."""
    st.session_state.refused = sentence(error)


def sentence(error: Exception) -> str:
    """Return an error's text as a sentence."""
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def plain(text: str) -> str:
    """Return text that Markdown leaves as it is. A low line inside a word means nothing there."""
    return re.sub(r"([\\`*{}\[\]()<>#+~|$:!^-]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)
