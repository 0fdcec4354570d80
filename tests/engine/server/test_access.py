"""Hosts and origins that the server answers to."""

from pathlib import Path
from typing import Any

import pytest

from accelerator_engine.server import (
    Library,
    create_app,
    http_server,
    make_server,
    serve,
)

from .client import OPTIONS, Client, answers, field, raw, running


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:1", "[::1]:8080", "LOCALHOST:8080"])
def test_the_server_answers_to_its_names(client: Client, host: str) -> None:
    assert client.get("/api/about", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "localhost:80:80", "evil@localhost", "", "localhost.",
     "127.0.0.1.nip.io", "[::2]", "[::1", "localhost, evil.example", "127.0.0.2", "localhost:x"],
)  # fmt: skip
def test_the_server_refuses_other_names(client: Client, host: str) -> None:
    reply = client.get("/api/accelerators", Host=host)
    assert reply.detail
    assert reply.status == 403


def test_a_request_without_a_host_is_refused(client: Client) -> None:
    assert b" 403 " in raw(client.port, b"GET /api/accelerators HTTP/1.0\r\n\r\n").splitlines()[0]


@pytest.mark.parametrize(
    ("host", "status"), [("box.example", 200), ("BOX.example:80", 200), ("localhost", 200), ("x", 403)]
)
def test_a_configured_host(local_files: Path, host: str, status: int) -> None:
    app = create_app(Library(local_files=local_files), "box.example")
    assert app.test_client().get("/api/about", headers={"Host": host}).status_code == status


def test_all_hosts_if_configured(local_files: Path) -> None:
    with running(Library(local_files=local_files), "0.0.0.0") as client:  # noqa: S104
        assert client.get("/api/about", Host="box.example").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://localhost"},
        {"Origin": "http://localhost:1"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    ],
)  # fmt: skip
def test_pages_of_other_origins_are_refused(client: Client, headers: dict[str, str]) -> None:
    # Any page may send a form.
    reply = client.generate_from_local(field("accelerator_name", "greeting"), OPTIONS, Host="localhost", **headers)
    assert reply.detail
    assert reply.status == 403
    assert client.get("/api/accelerators", Host="localhost", **headers).status == 403


def test_a_page_of_the_same_origin_is_allowed(client: Client) -> None:
    origin = {"Host": "localhost:9", "Origin": "http://localhost:9", "Sec_Fetch_Site": "same-origin"}
    assert client.generate("greeting", answers(), **origin).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/json", "application/jsonx"]
)
def test_json_with_another_content_type_is_refused(client: Client, kind: str) -> None:
    reply = client.generate("greeting", answers(), Content_Type=kind)
    assert reply.detail
    assert reply.status == 415


def test_no_answer_allows_other_origins(client: Client) -> None:
    for reply in (client.get("/api/accelerators"), client.generate("greeting", answers()), client.get("/nothing")):
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
    reply = client.send("OPTIONS", "/api/accelerators/zip", Access_Control_Request_Method="POST")
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_serve_reports_its_address_and_listens_on_the_loopback_only(
    local_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []
    servers: list[Any] = []

    def make(library: Library, port: int, host: str) -> Any:
        servers.append(make_server(library, port, host))
        servers[0].run = lambda: None
        return servers[0]

    monkeypatch.setattr(http_server, "make_server", make)
    serve(Library(local_files=local_files), 0, started=addresses.append)
    assert addresses == [f"http://localhost:{servers[0].effective_port}"]
    assert servers[0].socket.getsockname()[0] == "127.0.0.1"
    servers[0].close()
    servers[0].task_dispatcher.shutdown()


def test_a_port_in_use(local_files: Path, client: Client) -> None:
    with pytest.raises(OSError, match="in use"):
        make_server(Library(local_files=local_files), client.port)
