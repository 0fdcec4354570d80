"""The API over a stand-in for the database: its calls, its errors and its log."""

import dataclasses
import json
import logging
import re

import pytest
from fastapi.testclient import TestClient
from stand_in import ID, MODEL, SETTINGS, StandIn, png, serving

from app import images
from app.predictions import DatabaseAway, WaitingForModel


@pytest.fixture(name="stand_in")
def _stand_in() -> StandIn:
    return StandIn()


@pytest.fixture(name="client")
def _client(stand_in):
    with serving(stand_in) as client:
        yield client


def problem(answer, status: int) -> str:
    """Return the sentence of an error answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content.keys() == {"type", "title", "status", "detail", "instance", "request_id"}
    assert content["status"] == status
    assert content["request_id"] == answer.headers["x-request-id"]
    assert content["instance"] == answer.request.url.raw_path.decode().split("?")[0]
    assert re.fullmatch(r"[^a-z].*[^.]\.", content["detail"])
    return content["detail"]


def test_a_prediction(client, stand_in) -> None:
    answer = client.post("/predictions", files={"image": png(1, 2, 3, 4)})
    assert answer.json() == {
        "prediction_id": ID,
        "label": "dog",
        "probabilities": {"cat": 0.25, "dog": 0.75},
        "model": "pictures",
        "version": 3,
        "unlike_training": [],
    }
    assert stand_in.rows == [bytes([1, 2, 3, 4])]


def test_a_batch_keeps_the_order(client, stand_in) -> None:
    files = [("images", png(n, 0, 0, 0)) for n in range(64)]
    assert len(client.post("/predictions/batch", files=files).json()["predictions"]) == 64
    assert [row[0] for row in stand_in.rows] == list(range(64))
    assert "at most 64" in problem(client.post("/predictions/batch", files=[*files, files[0]]), 422)
    assert "the field is missing" in problem(client.post("/predictions/batch"), 422).lower()
    stand_in.rows.clear()
    problem(client.post("/predictions/batch", files=[files[0], ("images", b"text")]), 415)
    assert not stand_in.rows


def test_a_model_of_another_shape_is_seen_at_once() -> None:
    wide = dataclasses.replace(MODEL, version=4, input_shape=(1, 8, 1))
    stand_in = StandIn(MODEL, wide)
    with serving(stand_in) as client:
        assert client.post("/predictions", files={"image": png(size=(8, 1))}).json()["version"] == 4
    assert [len(row) for row in stand_in.rows] == [4, 8]


def test_a_model_of_another_shape_and_as_many_bytes_is_seen_at_once() -> None:
    flat = dataclasses.replace(MODEL, version=4, input_shape=(1, 4, 1))
    stand_in = StandIn(MODEL, flat)
    with serving(stand_in) as client:
        client.post("/predictions", files={"image": png(1, 2, 3, 4, size=(4, 1))})
    assert len(stand_in.rows) == 2
    assert stand_in.rows[1] == bytes([1, 2, 3, 4])


def test_a_label(client) -> None:
    answer = client.post(f"/predictions/{ID}/label", json={"label": "cat"})
    assert answer.json()["predicted_label"] == "dog"
    assert "one of cat, dog" in problem(client.post(f"/predictions/{ID}/label", json={"label": "cow"}), 422)
    problem(client.post(f"/predictions/{ID.replace('0', '1')}/label", json={"label": "cat"}), 404)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 60_000, b'{"label": "\\ud800"}', b'{"label": 7}', b"9" * 5000, b'{"label": "cat", "x": 1}'],
)
def test_a_body_that_is_no_label(client, body) -> None:
    answer = client.post(f"/predictions/{ID}/label", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_what_is_too_long_is_refused(client) -> None:
    assert "longer" in problem(client.post(f"/predictions/{ID}/label", json={"label": "c" * 99_999}), 413)
    assert "10,485,760" in problem(client.post("/predictions", files={"image": bytes(images.MAX_BYTES + 1)}), 413)
    for path in ("/predictions", "/predictions/batch"):
        assert "longer" in problem(client.post(path, files={"images": bytes(40 * 2**20)}), 413)


@pytest.mark.parametrize(
    ("error", "seconds"), [(WaitingForModel("no version yet"), "5"), (DatabaseAway("it does not answer"), "2")]
)
def test_what_passes_by_itself_says_when_to_ask_again(client, stand_in, error, seconds) -> None:
    stand_in.error = error
    for answer in (client.post("/predictions", files={"image": png()}), client.get("/models/pictures")):
        assert problem(answer, 503).startswith(str(error).capitalize())
        assert answer.headers["retry-after"] == seconds
    assert client.get("/healthz").status_code == 200


def test_readiness(client, stand_in) -> None:
    assert client.get("/readyz").json()["status"] == "ready"
    stand_in.models = [None]
    waiting = client.get("/readyz")
    message = "This API is waiting for a model: no version of pictures holds the stage staging yet."
    assert problem(waiting, 503) == message
    assert waiting.headers["retry-after"] == "5"
    stand_in.error = DatabaseAway("it does not answer")
    assert problem(client.get("/readyz"), 503) == "It does not answer."


def test_the_model(client) -> None:
    answer = client.get("/models/pictures").json()
    assert (answer["version"], answer["classes"], answer["input_shape"]) == (3, ["cat", "dog"], [2, 2, 1])
    assert "only pictures" in problem(client.get("/models/other"), 404)
    for name in ("%00", "%ff", "'; DROP", "x" * 9999):
        problem(client.get(f"/models/{name}"), 422)


def test_the_frameworks_own_errors_are_problems_too(client) -> None:
    assert problem(client.get("/nothing"), 404) == "There is nothing at this path."
    refused = client.delete("/predictions")
    problem(refused, 405)
    assert refused.headers["allow"] == "POST"
    answer = client.post("/predictions", data={"image": "text"})
    assert problem(answer, 422) == "A file is expected (body.image)."


def test_the_image_of_a_batch_that_is_refused_is_named(client) -> None:
    images = [("images", png(1, 2, 3, 4)), ("images", b"text")]
    answer = client.post("/predictions/batch", files=images)
    assert answer.status_code == 415
    assert answer.json()["detail"] == "Image 2: the file is no PNG, JPEG or WebP image."


@pytest.mark.parametrize(
    ("path", "sent", "message"),
    [
        (f"/predictions/{ID}/label", {"content": b"label=dog"}, "with the header Content-Type: application/json"),
        ("/predictions/seven/label", {"json": {"label": "dog"}}, "A prediction's id is a UUID"),
        ("/predictions", {"content": b"x"}, "The field is missing (body.image)"),
    ],
)
def test_what_is_expected_is_said(client, path, sent, message) -> None:
    answer = client.post(path, **sent)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_a_text_field_is_not_read_by_a_codec_that_takes_for_ever(client) -> None:
    """The client names the codec; this one needs minutes for a megabyte."""
    field = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"A" * 2**18 + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b; charset=punycode"
    answer = client.post("/predictions/batch", content=field, headers={"Content-Type": kind})
    # 422 would mean that the text was decoded: the form has no images.
    assert answer.status_code == 400


def test_why_the_database_is_away_is_for_the_log_alone(client, stand_in, caplog) -> None:
    caplog.set_level("INFO", "app.requests")
    stand_in.error = DatabaseAway("it does not answer")
    stand_in.error.__cause__ = ConnectionError("db:5432 refused\nsecond line")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "db:5432" not in answer.text
    assert (caplog.records[-1].reason, caplog.records[-1].levelname) == ("db:5432 refused", "WARNING")


def test_a_mistake_of_the_server_tells_nothing(client, stand_in, caplog) -> None:
    stand_in.error = RuntimeError("password=secret")
    answer = client.get("/readyz")
    assert "secret" not in problem(answer, 500)
    (record,) = [record for record in caplog.records if record.name == "app.requests"]
    assert record.levelno == logging.ERROR and record.exc_info


def test_a_request_id_is_taken_over_when_it_is_one(client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "a-1._B"}).headers["x-request-id"] == "a-1._B"
    for wrong in ("", "a b", "x" * 129, '"}{', "é".encode()):
        made = client.get("/healthz", headers={"X-Request-ID": wrong}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_each_request_is_one_line_without_what_was_sent(client, caplog) -> None:
    caplog.set_level(logging.INFO)
    client.post("/predictions?token=secret", files={"image": png(83, 69, 67, 82)}, headers={"X-Request-ID": "r1"})
    (record,) = [record for record in caplog.records if record.name == "app.requests"]
    fields = {name: vars(record)[name] for name in ("method", "path", "status", "request_id", "prediction_id", "label")}
    assert fields == {
        "method": "POST",
        "path": "/predictions",
        "status": 200,
        "request_id": "r1",
        "prediction_id": ID,
        "label": "dog",
    }
    assert record.milliseconds > 0 and record.version == 3
    assert "secret" not in str(vars(record)) and "PNG" not in str(vars(record))


@pytest.mark.parametrize(
    ("path", "logged", "route"),
    [
        ("/?token=secret", "/", "/"),
        ("/docs?token=secret", "/docs", "/docs"),
        ("/healthz", "/healthz", "/healthz"),
        ("/nothing?token=secret", "/nothing", None),
        ("/a%0Ab", "/a%0Ab", None),
        ("/" + "x" * 300, "/" + "x" * 199 + "…", None),
        (f"/predictions/{ID}/label", f"/predictions/{ID}/label", "/predictions/{prediction_id}/label"),
    ],
)
def test_the_path_of_each_request_is_logged(client, caplog, path, logged, route) -> None:
    """The path as it was sent, also if nothing is there, but no query string."""
    caplog.set_level(logging.INFO)
    client.get(path, follow_redirects=False)
    (record,) = [record for record in caplog.records if record.name == "app.requests"]
    assert (vars(record)["path"], vars(record)["route"]) == (logged, route)
    assert "secret" not in str(vars(record))


def test_the_root_leads_to_the_documentation(client) -> None:
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert client.get("/").url.path == "/docs"
    assert "/" not in client.get("/openapi.json").json()["paths"]
    with TestClient(client.app, root_path="/prefix") as behind_a_proxy:
        answer = behind_a_proxy.get("/prefix/", follow_redirects=False)
    assert answer.headers["location"] == "/prefix/docs"


def test_other_origins_are_let_in_only_when_they_are_named() -> None:
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    allowed = "access-control-allow-origin"
    with serving(StandIn()) as client:
        assert allowed not in client.get("/healthz", headers=ask).headers
        problem(client.options("/predictions", headers=ask), 405)
    with serving(StandIn(), dataclasses.replace(SETTINGS, cors_origins=("https://a.example",))) as client:
        assert client.options("/predictions", headers=ask).headers[allowed] == "https://a.example"
        assert allowed not in client.get("/healthz", headers={"Origin": "https://b.example"}).headers


def test_the_documentation_needs_no_other_server(client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text)
    for address in re.findall(r"(?:src|href)=\"([^\"]+)", page.text):
        assert client.get(address).status_code == 200


def test_the_documentation_behind_a_proxy_finds_its_files() -> None:
    """Its title is text, not HTML."""
    settings = dataclasses.replace(SETTINGS, project_name="<b>cats</b>")
    with serving(StandIn(), settings) as client:
        text = TestClient(client.app, root_path="/prefix").get("/prefix/docs").text
    assert "<title>&lt;b&gt;cats&lt;/b&gt; API</title>" in text
    assert {address.split("/")[1] for address in re.findall(r"(?:src=|href=|url: )\"([^\"]+)", text)} == {"prefix"}


def test_every_error_is_declared(client) -> None:
    described = client.get("/openapi.json").json()
    assert described["components"]["schemas"]["Problem"]
    for operations in described["paths"].values():
        for operation in operations.values():
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert {"405", "500"} <= errors.keys()
            for answer in errors.values():
                assert list(answer["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in json.dumps(described)


def test_the_pool_is_closed_at_the_end(stand_in) -> None:
    with serving(stand_in):
        assert not stand_in.closed
    assert stand_in.closed
