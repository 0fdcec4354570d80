"""A visit of the page's sign-in, over keys in a folder. Runs in the page's environment."""

from typing import Any

from streamlit.testing.v1 import AppTest

import app.api_keys
from app.api_keys import line


def page(argument: dict) -> None:
    """Draw the sign-in and the label buttons' part; Streamlit runs the source of this function by itself."""
    import dataclasses

    import streamlit as st

    from app import settings, sign_in

    chosen = dataclasses.replace(settings.settings(), authentication="api-key")
    subject = sign_in.visitor(chosen)
    st.session_state.seen = None if subject is None else [subject.name, sorted(subject.roles)]
    st.session_state.ended = sign_in.has_ended(chosen)
    st.session_state.keeps_key = "key of alice" in str(st.session_state.to_dict())


def main(argument: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the page shows at first and after each action: a key that is sent, `withdraw` or `sign out`."""
    import os
    import pathlib

    app.api_keys.SECONDS_BETWEEN_READS = 0
    folder = pathlib.Path(argument["folder"]) / "api-keys"
    folder.mkdir()
    (folder / "type").write_text("api-keys", encoding="utf-8")
    (folder / "alice").write_text(line("key of alice", ("predict",)), encoding="utf-8")
    os.environ["SERVICE_BINDING_ROOT"] = argument["folder"]
    test = AppTest.from_function(page, args=(argument,), default_timeout=60).run()
    shown = [look(test)]
    for action in argument["actions"]:
        if action == "withdraw":
            (folder / "alice").unlink()
            test.run()
        elif action == "sign out":
            test.button[0].click().run()
        else:
            test.text_input[0].set_value(action)
            test.button[0].click().run()
        shown.append(look(test))
    return shown


def look(test: AppTest) -> dict[str, Any]:
    """Return the present content of the page, and whether its state holds the key."""
    assert not test.exception, test.exception
    state = test.session_state
    return {
        "buttons": [button.label for button in test.button],
        "errors": [error.value for error in test.error],
        "fields": [field.label for field in test.text_input],
        "subject": state["seen"],
        "ended": state["ended"],
        "keeps_key": state["keeps_key"],
    }
