"""A visit of the page's input for pictures, over a stand-in for the database. Runs in the page's environment."""

import base64
from typing import Any

from streamlit.testing.v1 import AppTest


def page(argument: dict) -> None:
    """Draw the input; Streamlit runs the source of this function by itself."""
    import base64
    import datetime

    import streamlit as st

    from app import ui_input
    from app.predictions import Model, Prediction
    from app.request_limits import Rate
    from app.subjects import ANONYMOUS
    from app.ui_state import Visit

    now = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    shape, classes = tuple(argument["shape"]), tuple(argument["classes"])
    model = Model("pictures", "staging", 3, classes, shape, "uint8", {}, "", "", now, now, argument["samples"])

    class StandIn:
        def predict(self, row: bytes, subject: str) -> Prediction:
            st.session_state.setdefault("rows", []).append(base64.b64encode(row).decode())
            return Prediction("id", classes[0], (1.0,) * len(classes), "pictures", 3)

        def classes(self, version: int) -> tuple[str, ...]:
            return classes

    ui_input.choose(Visit(StandIn(), ANONYMOUS, Rate(0)), model)
    state = st.session_state
    pictures = [(picture.image.size, picture.caption, picture.alt) for picture in state.get("pictures", ())]
    state.seen = {"shown": pictures, "rows": state.get("rows", []), "refused": state.get("refused")}


def main(argument: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of the page at first and after each of the visitor's actions."""
    test = AppTest.from_function(page, args=(argument,), default_timeout=60).run()
    seen = [look(test)]
    for action, value in argument["actions"]:
        if action == "press":
            next(button for button in test.button if button.label == value).click().run()
        elif action == "pick":
            test.selectbox[0].set_value(value).run()
        else:
            test.file_uploader[0].upload("a_*name*.png", base64.b64decode(value), "image/png").run()
        seen.append(look(test))
    return seen


def look(test: AppTest) -> dict[str, Any]:
    """Return the present content of the page."""
    assert not test.exception, test.exception
    return {
        "texts": [element.value for element in test.markdown],
        "buttons": [button.label for button in test.button],
        "options": [box.options for box in test.selectbox],
        "chosen": [box.value for box in test.selectbox],
        "alts": [image.alt for element in test.get("image") for image in element.proto.imgs],
        **test.session_state["seen"],
    }
