"""The page's sign-in: by API key, at an OpenID Connect provider, or none.

The state of the visit holds the hash of the key, which is looked up at each run: a withdrawn key ends the visit.
"""

# Streamlit is missing in the environment of the type checker.
# mypy: allow-untyped-decorators

import time

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import api_keys
from app.api_keys import ApiKeys
from app.page_protection import VISITS
from app.request_limits import Rate
from app.settings import Settings, settings
from app.subjects import ANONYMOUS, NotAuthenticated, Subject
from app.tokens import subject_of
from app.ui_state import STATE, plain, sentence

# Afterwards the provider is asked again whether the visitor may still sign in.
SECONDS_SIGNED_IN = 12 * 3600


def visitor(chosen: Settings) -> Subject | None:
    """Return the visitor; without one, draw the sign-in and return None. Raises SettingsError.

    Only a visitor may upload.
    """
    subject = _visitor(chosen)
    context = get_script_run_ctx()
    if context and subject:
        VISITS.add(context.session_id)
    elif context:
        VISITS.remove(context.session_id)
    return subject


def _visitor(chosen: Settings) -> Subject | None:
    if chosen.authentication == "none":
        return ANONYMOUS
    return _by_key() if chosen.authentication == "api-key" else _by_provider(chosen)


def has_ended(chosen: Settings) -> bool:
    """Return whether the key that the visitor signed in with has been withdrawn."""
    return chosen.authentication == "api-key" and _holder_of_key() is None


@st.cache_resource(show_spinner=False)
def keys() -> ApiKeys:
    """Return the keys, which all visits share. Raises SettingsError."""
    return ApiKeys(settings().keys_folder())


@st.cache_resource(show_spinner=False)
def rate() -> Rate:
    """Return the counter of requests, which all visits share."""
    return Rate(settings().requests_per_minute if settings().authentication != "none" else 0)


def _by_key() -> Subject | None:
    if subject := _holder_of_key():
        st.button("Sign out", on_click=_sign_out)
        return subject
    _sign_out()
    # The form empties the field, so that the state never keeps the key.
    with st.form("sign in", clear_on_submit=True):
        key = st.text_input("API key", type="password", autocomplete="off").strip()
        if not st.form_submit_button("Sign in"):
            return None
    st.session_state.key_digest = api_keys.digest(key)
    if _holder_of_key():
        st.rerun()
    st.error("The key is not valid.")
    return None


def _holder_of_key() -> Subject | None:
    """Return the subject of the visit's key, None if there is no valid one."""
    try:
        subject: Subject = keys().subject_of(st.session_state.get("key_digest", ""))
    except NotAuthenticated:
        return None
    return subject


def _by_provider(chosen: Settings) -> Subject | None:
    claims = st.user.to_dict()
    issued = claims.get("iat")
    is_fresh = isinstance(issued, int | float) and time.time() - issued < SECONDS_SIGNED_IN
    if not claims.get("is_logged_in") or not is_fresh or chosen.oidc is None:
        st.button("Sign in", on_click=st.login)
        return None
    st.button("Sign out", on_click=st.logout)
    try:
        return subject_of(claims, chosen.oidc.roles_claim)
    except NotAuthenticated as error:
        st.error(plain(sentence(error)))
        return None


def _sign_out() -> None:
    """Forget the visitor and everything that was shown."""
    for name in ("key_digest", *STATE):
        st.session_state.pop(name, None)
