"""`python -m app`: starts the process that the variables name, reports wrong ones, and stops on SIGTERM."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from app import __main__ as process
from app.settings import SettingsError
from local import serve
from local.processes import answer, free_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROCESSES = ["api", "ui"] if process.PAGE.exists() else ["api"]
# Nothing listens on this port, so every database call fails.
AWAY = {"PGHOST": "127.0.0.1", "PGPORT": "1", "PGDATABASE": "d", "PGUSER": "u", "PGPASSWORD": "p4ssw0rd"}
ALONE = {**AWAY, "AUTHENTICATION": "none"}


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without the variables that the app reads."""
    steering = (
        "PG", "SERVICE_BINDING_ROOT", "APP_PROCESS", "HOST", "PORT", "MODEL_STAGE", "POOL_SIZE", "STREAMLIT",
        "AUTHENTICATION", "PROTECTED_BY_PROXY",
    )  # fmt: skip
    return {**{name: value for name, value in os.environ.items() if not name.startswith(steering)}, **variables}


def test_the_api_is_what_starts_unless_the_page_is_named(monkeypatch) -> None:
    monkeypatch.setattr(process, "_require_free", lambda host, port: None)
    usual = " ".join(process.command_of({}, "api-key"))
    assert "-m uvicorn app.api:app" in usual and "--host 0.0.0.0 --port 8000" in usual
    # No proxy is trusted unless it is named.
    assert "--no-proxy-headers" in usual and "--forwarded-allow-ips" not in usual
    chosen = {"APP_PROCESS": "api", "HOST": "::1", "PORT": "80", "FORWARDED_ALLOW_IPS": "10.0.0.0/8"}
    command = " ".join(process.command_of(chosen, "oidc"))
    assert "--host ::1 --port 80" in command and "--forwarded-allow-ips 10.0.0.0/8" in command
    if "ui" in PROCESSES:
        page = " ".join(process.command_of({"APP_PROCESS": "ui"}, "api-key"))
        assert f"-m streamlit run {process.PAGE} --server.address 0.0.0.0 --server.port 8501" in page


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"APP_PROCESS": "web"}, "APP_PROCESS is 'web'; allowed is api or ui"),
        ({"PORT": "0"}, "PORT is '0'; allowed is a whole number from 1 to 65535"),
        ({"PORT": "tcp://10.0.0.1:80"}, "allowed is a whole number"),
        ({"PORT": "65536"}, "allowed is a whole number"),
        ({"HOST": "a..b"}, "nothing can listen on HOST 'a..b' and PORT 8000: "),
        ({"HOST": "192.0.2.1"}, "Cannot assign requested address"),
    ],
)
def test_a_wrong_variable_is_a_sentence(variables, message) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        process.command_of(variables, "api-key")
    assert "\n" not in str(refused.value)


def test_without_authentication_it_serves_this_machine_alone(monkeypatch) -> None:
    """Strangers must not predict and label by accident."""
    monkeypatch.setattr(process, "_require_free", lambda host, port: None)
    assert "--host 127.0.0.1" in " ".join(process.command_of({}, "none"))
    for host in ("localhost", "127.0.0.9", "::1"):
        assert f"--host {host}" in " ".join(process.command_of({"HOST": host}, "none"))
    for host in ("0.0.0.0", "::", "10.1.2.3", "localhost.example.com"):
        with pytest.raises(SettingsError, match=f"^HOST is '{host}' and AUTHENTICATION is none, .*PROTECTED_BY_PROXY"):
            process.command_of({"HOST": host}, "none")
        behind = process.command_of({"HOST": host, "PROTECTED_BY_PROXY": "true"}, "none")
        assert f"--host {host}" in " ".join(behind)
    with pytest.raises(SettingsError, match="PROTECTED_BY_PROXY is 'yes'; allowed is true or false"):
        process.command_of({"PROTECTED_BY_PROXY": "yes"}, "none")


def test_without_keys_it_does_not_start() -> None:
    """The default asks for keys: an app that nobody can use would look healthy."""
    ended = subprocess.run(
        [sys.executable, "-m", "app"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env=environment(PORT=str(free_port(None)), AUTHENTICATION="api-key", **AWAY),
    )  # fmt: skip
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "SERVICE_BINDING_ROOT (not set) has no folder api-keys" in ended.stderr


def test_a_project_without_a_page_has_none_to_start(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(process, "PAGE", tmp_path / "ui.py")
    with pytest.raises(SettingsError, match="this project has no page, allowed is api"):
        process.command_of({"APP_PROCESS": "ui"}, "api-key")


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SettingsError, match=f"PORT {port}: Address already in use"):
            process.command_of({"HOST": "127.0.0.1", "PORT": port}, "none")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_mistake_ends_it_before_it_starts(name) -> None:
    """The page, too: a rolling update must not continue with a page that can only show an error."""
    port = str(free_port(None))
    for arguments, variables, message in (
        ([], {"PGHOST": "db"}, "error: PGHOST is set without PGDATABASE, PGUSER, PGPASSWORD: "),
        ([], {**AWAY, "POOL_SIZE": "0"}, "error: POOL_SIZE is '0'; allowed is a whole number from 1 to 100"),
        (["openapi"], AWAY, "error: `python -m app` takes no arguments, but 'openapi' was given: "),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env=environment(APP_PROCESS=name, PORT=port, **variables),
        )  # fmt: skip
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended.stderr
        assert ended.stderr.startswith(message)


@contextlib.contextmanager
def running_api(folder: pathlib.Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the API with a database that does not answer."""
    port = free_port(None)
    with open(folder / "log", "wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, stdout=log, stderr=log,
            env=environment(HOST="127.0.0.1", PORT=str(port), **ALONE),
        )  # fmt: skip
    try:
        alive = wait_until(lambda: answer(port, "/healthz")[0] == 200, 60, lambda: started.poll() is not None)
        assert alive, (folder / "log").read_text()
        yield started, port
    finally:
        started.kill()
        started.wait()


def test_a_running_request_is_answered_before_it_ends(tmp_path) -> None:
    """As a rolling update needs: no new requests, an answer to those in progress, then a quick end."""
    body = json.dumps({"label": "x" * 1000}).encode()
    with running_api(tmp_path) as (started, port):
        assert answer(port, "/readyz")[0] == 503
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        idle.request("GET", "/healthz")
        assert idle.getresponse().read()
        uploading = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        uploading.putrequest("POST", "/predictions/seven/label")
        uploading.putheader("Content-Type", "application/json")
        uploading.putheader("Content-Length", str(len(body)))
        uploading.endheaders(body[:500])
        time.sleep(0.3)
        started.send_signal(signal.SIGTERM)
        assert wait_until(lambda: answer(port, "/healthz")[0] == 0, 10)
        time.sleep(0.5)
        assert started.poll() is None
        uploading.send(body[500:])
        answered = uploading.getresponse()
        problem = json.loads(answered.read())
        assert (answered.status, problem["detail"]) == (422, "A prediction's id is a UUID (path.prediction_id).")
        sent = time.monotonic()
        # The exit status names the signal, except for a container's first process, whose status is 0.
        assert started.wait(30) in (0, -signal.SIGTERM)
        assert time.monotonic() - sent < 2
        for connection in (idle, uploading):
            connection.close()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log and "p4ssw0rd" not in log
    # Each line is a JSON object, and each request has one line, from the app itself.
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["status"] for line in lines if line.get("route") == "/predictions/{prediction_id}/label"] == [422]
    assert {line["logger"] for line in lines} == {"uvicorn.error", "app.requests"}


@contextlib.contextmanager
def stand_in_for_the_api(status: int, content: bytes) -> Iterator[int]:
    """Serve the same answer for every request; yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_make_serve_says_what_the_api_waits_for() -> None:
    problem = json.dumps({"detail": "This API is waiting for a model."}).encode()
    for status, content, message in (
        (200, b"{}", ""),
        (503, problem, "not ready: This API is waiting for a model."),
        (502, b"no object", "not ready: the API does not say why"),
    ):
        with stand_in_for_the_api(status, content) as port:
            assert serve.lacks(port) == message
    assert serve.lacks(free_port(None)) == "not ready: the API does not say why"
