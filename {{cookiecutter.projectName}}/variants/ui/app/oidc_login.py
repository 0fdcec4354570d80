"""The page's login at an OpenID Connect provider: the values that Streamlit's login needs."""

import os
import pathlib
import re

from app.settings import Settings, SettingsError
from app.tokens import DISCOVERY

# The service binding with the page's client at the provider.
BINDING, KIND = "oidc-client", "oidc"
KEYS = ("client-id", "client-secret", "cookie-secret")
# Streamlit's own path, to which the provider sends the visitor back.
CALLBACK = "/oauth2callback"
MIN_COOKIE_SECRET = 32
Secrets = dict[str, dict[str, str]]


def secrets(settings: Settings) -> Secrets:
    """Return Streamlit's secrets: those of the login, or none without OpenID Connect. Raises SettingsError."""
    if settings.oidc is None:
        return {}
    address = os.environ.get("PAGE_URL", "").rstrip("/")
    if not re.fullmatch(r"https?://[^\s?#]+", address):
        raise SettingsError(f"PAGE_URL is {address!r}; it must be the page's address, like https://page.example.com")
    client = _client()
    return {
        "auth": {
            "redirect_uri": f"{address}{CALLBACK}",
            "client_id": client["client-id"],
            "client_secret": client["client-secret"],
            "cookie_secret": client["cookie-secret"],
            "server_metadata_url": f"{settings.oidc.issuer.rstrip('/')}{DISCOVERY}",
        }
    }


def _client() -> dict[str, str]:
    """Return the values of the service binding. Raises SettingsError, whose text holds none of them."""
    folder = pathlib.Path(os.environ.get("SERVICE_BINDING_ROOT") or "") / BINDING
    try:
        client = {key: (folder / key).read_text(encoding="utf-8").strip() for key in ("type", *KEYS)}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"AUTHENTICATION is oidc, and the service binding {folder} cannot be read: {error}; it holds the files "
            f"type ({KIND}), {', '.join(KEYS)}"
        ) from error
    if client["type"] != KIND:
        raise SettingsError(f"the service binding {folder} is of type {client['type']!r}; allowed is {KIND}")
    for key in KEYS:
        if not client[key]:
            raise SettingsError(f"the service binding {folder} has an empty file {key}")
    if len(client["cookie-secret"]) < MIN_COOKIE_SECRET:
        raise SettingsError(f"{folder}/cookie-secret has fewer than {MIN_COOKIE_SECRET} characters")
    return client
