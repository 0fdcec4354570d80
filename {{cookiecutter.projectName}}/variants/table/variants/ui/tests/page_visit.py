"""A visit of the page's form for a row, over a stand-in for the database. Runs in the page's environment."""

from typing import Any

from streamlit.testing.v1 import AppTest

KINDS = ("text_input", "text_area", "number_input", "selectbox", "checkbox")


def page(argument: dict) -> None:
    """Draw the form; Streamlit runs the source of this function by itself."""
    import datetime

    import streamlit as st

    from app import ui_input
    from app.predictions import Model, Prediction
    from app.request_limits import Rate
    from app.subjects import ANONYMOUS
    from app.ui_state import Visit

    now = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    encoding = {"label": "outcome", "columns": argument["columns"]}
    model = Model("visits", "staging", 3, ("ill", "well"), (1,), "float32", {}, "", "", now, now, {}, encoding)

    class StandIn:
        def predict(self, row: str, subject: str) -> Prediction:
            st.session_state.setdefault("rows", []).append(row)
            return Prediction("id", "ill", (1.0, 0.0), "visits", 3)

        def classes(self, version: int) -> tuple[str, ...]:
            return model.classes

    ui_input.choose(Visit(StandIn(), ANONYMOUS, Rate(0)), model)
    state = st.session_state
    state.seen = {"rows": state.get("rows", []), "refused": state.get("refused")}


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Return kind and first value of each field, then the predicted rows as JSON and the reason of a refusal."""
    test = AppTest.from_function(page, args=(argument,), default_timeout=60).run()
    assert not test.exception, test.exception
    fields = {field.label: field for kind in KINDS for field in getattr(test, kind)}
    drawn = {label: (field.type, field.value) for label, field in fields.items()}
    for label, value in argument["values"].items():
        fields[label].set_value(value)
    test.button[0].click().run()
    assert not test.exception, test.exception
    return {"fields": drawn, **test.session_state["seen"]}
