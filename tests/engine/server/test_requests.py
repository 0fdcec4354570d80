"""Invalid requests."""

from pathlib import Path

import pytest

from accelerator_engine.server import (
    Library,
    app,
)

from .client import ACCELERATOR, OPTIONS, Client, answers, field, file, form_part, packed, running


def test_missing_options_have_the_message_of_the_real_engine_in_the_answer(client: Client) -> None:
    reply = client.generate("greeting", {"projectName": "demo"})
    assert reply.json == {
        "title": "MissingOptions",
        "status": 400,
        "detail": "Invalid options provided. Expected but not present: [whom]",
    }


MISTAKES = {
    "unknown": (404, "NotFound", "nothing", {}),
    "path": (404, "NotFound", "../fragments/license", {}),
    "absolute": (404, "NotFound", "/etc", {}),
    "wrong type": (400, "InvalidOptions", "greeting", answers(loud="yes")),
    "pattern": (400, "InvalidOptions", "greeting", answers(greeting="hello")),
    "project name": (400, "InvalidOptions", "greeting", answers(projectName="../up")),
    "project number": (400, "InvalidOptions", "greeting", answers(projectName=1)),
    "line break": (400, "InvalidOptions", "greeting", answers(projectName="a\r\nX-Header: b")),
    "no name": (400, "BadRequest", "", {}),
    "list": (400, "BadRequest", "greeting", []),
    "text": (400, "BadRequest", "greeting", "x"),
    "surrogate": (400, "BadRequest", "greeting", answers(whom="\ud800")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_options(client: Client, mistake: str) -> None:
    status, title, name, options = MISTAKES[mistake]
    reply = client.generate(name, options)
    assert reply.detail
    assert (reply.status, reply.json["title"]) == (status, title)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"accelerator": 1}', b'{"accelerator": {"a": 1}}',
        b'{"accelerator":"greeting","options":{"whom":NaN}}', b'{"accelerator":"greeting","options":{"x":1e999}}',
        b'{"accelerator":"greeting","options":{"x":' + b"9" * 5000 + b"}}",
        b'{"accelerator":"greeting","options":{"x":' + b"[" * 60 + b"]" * 60 + b"}}",
        b"[" * 100_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_invalid_bodies(client: Client, body: bytes) -> None:
    reply = client.send("POST", "/api/accelerators/zip", body, Content_Type="application/json")
    assert reply.detail
    assert (reply.status, reply.json["title"]) == (400, "BadRequest")


FORMS: dict[str, tuple[int, list[tuple[str, str | None, bytes]]]] = {
    "nothing": (400, []),
    "options only": (400, [OPTIONS]),
    "both": (400, [file("accelerator", packed({"a": ""})), field("accelerator_name", "greeting"), OPTIONS]),
    "two accelerators": (400, [file("accelerator", packed({"a": ""})), file("accelerator", packed({"b": ""}))]),
    "two names": (400, [field("accelerator_name", "greeting"), field("accelerator_name", "greeting"), OPTIONS]),
    "two options": (400, [field("accelerator_name", "greeting"), OPTIONS, OPTIONS]),
    "accelerator as text": (400, [field("accelerator", "greeting"), OPTIONS]),
    "fragment as text": (400, [field("accelerator_name", "greeting"), field("fragment_x", "x"), OPTIONS]),
    "options as file": (400, [field("accelerator_name", "greeting"), file("options", b"{}")]),
    "options no object": (400, [field("accelerator_name", "greeting"), field("options", "[]")]),
    "options no JSON": (400, [field("accelerator_name", "greeting"), field("options", "whom=x")]),
    "unknown accelerator": (404, [field("accelerator_name", "nothing"), OPTIONS]),
    "unknown fragment": (404, [field("accelerator_name", "greeting"), field("fragment_names", "nothing"), OPTIONS]),
    "fragment path": (404, [field("accelerator_name", "greeting"), field("fragment_names", "../x"), OPTIONS]),
    "missing import": (400, [file("accelerator", packed({"accelerator.yaml": ACCELERATOR.replace("license", "l")}))]),
    "bad manifest": (400, [file("accelerator", packed({"accelerator.yaml": "a: ["})), OPTIONS]),
    "bad project name": (400, [file("accelerator", packed({"a": ""}), "a/../../b.tar.gz")]),
    "failing engine": (400, [file("accelerator", packed({"accelerator.yaml": "engine: {condition: '#x.y'}"}))]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_invalid_forms(client: Client, form: str) -> None:
    status, parts = FORMS[form]
    reply = client.generate_from_local(*parts)
    assert reply.detail
    assert reply.status == status


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=é", "multipart/form-data; boundary=x"]
)
def test_a_form_without_its_boundary(client: Client, kind: str) -> None:
    sent = kind.encode().decode("latin-1")
    assert client.generate_from_local(field("accelerator_name", "greeting"), OPTIONS, Content_Type=sent).detail


def test_a_form_that_is_cut_off(client: Client) -> None:
    body = form_part("x", "accelerator_name", None, b"greeting") + form_part("x", "options", None, OPTIONS[2])[:-4]
    kind = "multipart/form-data; boundary=x"
    assert client.send("POST", "/api/accelerators/zip", body, Content_Type=kind).detail


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/api", 404), ("GET", "/api/accelerators/", 404), ("GET", "/api//accelerators", 404),
        ("GET", "/api/accelerators/zip", 405), ("DELETE", "/api/accelerators", 405), ("POST", "/api/about", 405),
        ("GET", "/api/accelerators/options", 400), ("GET", "/api/accelerators/options?name=", 400),
        ("GET", "/api/accelerators/options?name=..%2F..%2Fetc", 404), ("GET", "/api/../../etc/passwd", 404),
        ("GET", "/%ff%00", 404), ("GET", "/static/x", 404),
    ],
)  # fmt: skip
def test_unknown_addresses(client: Client, method: str, path: str, status: int) -> None:
    reply = client.send(method, path)
    assert reply.detail
    assert reply.status == status


def test_a_refused_method_lists_the_allowed_ones(client: Client) -> None:
    assert "POST" in client.get("/api/accelerators/zip").headers["Allow"]


def test_a_long_parameter(client: Client) -> None:
    assert client.generate("greeting", answers(), f"&username={'x' * 300}").status == 400


def test_a_failure_of_the_server_is_logged_and_hidden_from_the_client(
    local_files: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails_on_purpose: None
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(app, "generate", fail)
    with running(Library(local_files=local_files)) as client:
        reply = client.generate("greeting", answers())
    assert (reply.status, reply.detail) == (500, "the server failed; see its log")
    assert "a secret" in caplog.text
