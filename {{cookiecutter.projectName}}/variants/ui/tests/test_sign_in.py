"""The page asks for a key before it shows anything, and forgets it at once."""

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
from page_environment import PROJECT, call, python

from local.processes import answer, free_port, wait_until

SIGNED_OUT = {"buttons": ["Sign in"], "errors": [], "fields": ["API key"], "subject": None, "ended": True}
SIGNED_IN = {"buttons": ["Sign out"], "errors": [], "fields": [], "subject": ["alice", ["predict"]], "ended": False}
OIDC = {"AUTHENTICATION": "oidc", "OIDC_ISSUER": "https://login.example", "OIDC_AUDIENCE": "api"}


def see(folder: pathlib.Path, *actions: str) -> list[dict]:
    shown = call("page_sign_in", {"folder": str(folder), "actions": actions})
    assert not any(page.pop("keeps_key") for page in shown)
    return shown


def test_a_key_signs_in_until_the_visitor_leaves_or_it_is_withdrawn(tmp_path) -> None:
    first, wrong, right, left = see(tmp_path, "key of bob", "key of alice", "sign out")
    assert first == left == SIGNED_OUT
    assert wrong == {**SIGNED_OUT, "errors": ["The key is not valid."]}
    assert right == SIGNED_IN


def test_a_key_that_is_withdrawn_ends_the_visit(tmp_path) -> None:
    assert see(tmp_path, "key of alice", "withdraw")[1:] == [SIGNED_IN, SIGNED_OUT]


@contextlib.contextmanager
def running_page(**variables: str) -> Iterator[int]:
    """Start the page with a database that does not answer; yield its port."""
    port = free_port(None)
    away = {"PGHOST": "127.0.0.1", "PGPORT": "1", "PGDATABASE": "d", "PGUSER": "u", "PGPASSWORD": "p"}
    steering = ("PG", "SERVICE_BINDING_ROOT", "HOST", "PORT", "STREAMLIT")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    started = subprocess.Popen(
        [python(), "-m", "app"], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**inherited, **away, "APP_PROCESS": "ui", "HOST": "127.0.0.1", "PORT": str(port), **variables},
    )  # fmt: skip
    try:
        assert wait_until(lambda: answer(port, "/_stcore/health")[0] == 200, 60, lambda: started.poll() is not None)
        yield port
    finally:
        started.kill()
        started.wait()


def get(port: int, path: str, host: str = "page.example") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    answered = connection.getresponse()
    answered.read()
    connection.close()
    return answered


def test_the_pages_server_protects_its_visitors() -> None:
    with running_page(AUTHENTICATION="none", ALLOWED_HOSTS="page.example") as port:
        page = get(port, "/")
        assert page.status == 200
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer"
        for path in ("/_stcore/metrics", "/_stcore/metrics/", "//_stcore/metrics"):
            assert get(port, path).status in (400, 404), path
        assert get(port, "/", "evil.example").status == 400
        # Whoever has not signed in stores nothing.
        for path in ("/_stcore/upload_file/a-session/a-file", "/page/_stcore/upload_file/a-session/a-file"):
            assert get(port, path).status == 403, path
        assert get(port, "/_stcore/health", "10.0.0.1").status == 200


@pytest.fixture(name="client")
def _client(tmp_path) -> pathlib.Path:
    """The service binding of the page's client at the provider."""
    folder = tmp_path / "oidc-client"
    folder.mkdir()
    values = {"type": "oidc", "client-id": "page", "client-secret": "s3cret", "cookie-secret": "c" * 32}
    for name, value in values.items():
        (folder / name).write_text(value, encoding="utf-8")
    return folder


def secrets(**variables: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import json; from app import oidc_login, settings; print(json.dumps(oidc_login.secrets(settings.settings())))"
    )
    return subprocess.run(
        [python(), "-c", code], cwd=PROJECT, env={**os.environ, **OIDC, **variables}, capture_output=True, text=True
    )


def test_the_providers_login_gets_its_values_from_the_binding(client) -> None:
    ended = secrets(SERVICE_BINDING_ROOT=str(client.parent), PAGE_URL="https://page.example/")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["auth"] == {
        "redirect_uri": "https://page.example/oauth2callback",
        "client_id": "page",
        "client_secret": "s3cret",
        "cookie_secret": "c" * 32,
        "server_metadata_url": "https://login.example/.well-known/openid-configuration",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cookie-secret", "short", "has fewer than 32 characters"),
        ("type", "postgresql", "is of type 'postgresql'; allowed is oidc"),
        ("client-id", "", "has an empty file client-id"),
        (None, "", "PAGE_URL is ''; it must be the page's address"),
    ],
)
def test_a_wrong_client_is_a_sentence(client, name, value, message) -> None:
    if name:
        (client / name).write_text(value, encoding="utf-8")
    ended = secrets(SERVICE_BINDING_ROOT=str(client.parent), PAGE_URL="https://page.example" if name else "")
    assert ended.returncode and message in ended.stderr.splitlines()[-1]
    assert "s3cret" not in ended.stderr
