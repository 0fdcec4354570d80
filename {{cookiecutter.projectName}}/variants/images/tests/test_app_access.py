"""Who gets an answer of the API: authentication, roles, host names, limits and headers."""

import asyncio
import dataclasses
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from stand_in import ID, SETTINGS, StandIn, png, serving

from app import api_keys, authentication, decoders, images, request_limits
from app.api_keys import line
from app.predictions import DatabaseAway
from app.request_limits import Limits
from app.settings import Oidc
from app.subjects import ROLES, IssuerAway, Subject

KEYED = dataclasses.replace(SETTINGS, authentication="api-key")
LABEL = f"/predictions/{ID}/label"
# The operations that need a role: method, path, role.
OPERATIONS = [
    ("POST", "/predictions", "predict"),
    ("POST", "/predictions/batch", "predict"),
    ("GET", "/models/pictures", "predict"),
    ("POST", LABEL, "label"),
    ("GET", "/nothing", "predict"),
    ("GET", "/docs/", "predict"),
]


@pytest.fixture(name="stand_in")
def _stand_in() -> StandIn:
    return StandIn()


@pytest.fixture(name="keys")
def _keys(tmp_path, monkeypatch):
    """A folder with keys: that of all roles and of one each, named after them."""
    folder = tmp_path / "api-keys"
    folder.mkdir()
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    monkeypatch.setattr(api_keys, "SECONDS_BETWEEN_READS", 0)
    (folder / "type").write_text("api-keys", encoding="utf-8")
    for subject, roles in {"both": ("predict", "label"), **{role: (role,) for role in ROLES}}.items():
        (folder / subject).write_text(line(f"key of {subject}", roles), encoding="utf-8")
    return folder


@pytest.fixture(name="client")
def _client(stand_in, keys):
    with serving(stand_in, KEYED) as client:
        yield client


def bearer(subject: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key of {subject}"}


def detail(answer, status: int) -> str:
    """Return the sentence of an error answer."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    return answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "role"), OPERATIONS)
def test_an_operation_needs_a_valid_key_of_its_role(client, stand_in, caplog, method, path, role) -> None:
    caplog.set_level(logging.INFO)
    for headers in ({}, {"Authorization": "Basic a2V5"}, bearer("nobody"), {"Authorization": "Bearer "}):
        answer = client.request(method, path, headers=headers)
        assert detail(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    for subject in set(ROLES) - {role}:
        refused = client.request(method, path, headers=bearer(subject))
        assert detail(refused, 403).lower() == f"{subject} does not have the role {role}."
    assert not stand_in.rows and not stand_in.subjects
    # Whoever has the role gets as far as the operation.
    assert client.request(method, path, headers=bearer(role)).status_code in (200, 404, 422)
    records = [record for record in caplog.records if record.name == "app.requests"]
    assert [getattr(record, "subject", None) for record in records[:4]] == [None] * 4
    assert records[-1].subject == role
    assert "key of" not in str([vars(record) for record in records])


def test_the_body_of_a_stranger_is_not_read(client) -> None:
    """No 413 or 422: the answer comes before the body is looked at."""
    assert detail(client.post("/predictions", files={"image": bytes(images.MAX_BYTES + 1)}), 401)
    assert detail(client.post(LABEL, content=b"{"), 401)


def test_predictions_and_labels_carry_their_subject(client, stand_in, caplog) -> None:
    caplog.set_level(logging.INFO)
    assert client.post("/predictions", files={"image": png()}, headers=bearer("both")).status_code == 200
    batch = [("images", png()), ("images", png())]
    assert client.post("/predictions/batch", files=batch, headers=bearer("predict")).status_code == 200
    assert client.post(LABEL, json={"label": "cat"}, headers=bearer("label")).status_code == 200
    assert stand_in.subjects == ["both", "predict", "label"]
    logged = [record.subject for record in caplog.records if record.name == "app.requests"]
    assert logged == stand_in.subjects


def test_without_authentication_everybody_is_anonymous(stand_in) -> None:
    with serving(stand_in) as client:
        assert client.post("/predictions", files={"image": png()}).status_code == 200
        assert client.post(LABEL, json={"label": "cat"}, headers=bearer("nobody")).status_code == 200
    assert stand_in.subjects == ["anonymous", "anonymous"]


def test_what_is_public_needs_no_key(client) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
        assert client.get(path).status_code == 200
    assert client.get("/", follow_redirects=False).status_code == 307
    assert client.get("/readyz", headers=bearer("nobody")).status_code == 200


def test_an_issuer_that_is_away_is_the_servers_problem(monkeypatch, stand_in) -> None:
    settings = dataclasses.replace(SETTINGS, authentication="oidc", oidc=Oidc("https://a.example", "api", "roles"))

    def away(self, token: str) -> None:
        raise IssuerAway("the issuer does not answer")

    monkeypatch.setattr(authentication.Tokens, "subject", away)
    with serving(stand_in, settings) as client:
        answer = client.get("/models/pictures", headers=bearer("both"))
        assert (detail(answer, 503), answer.headers["retry-after"]) == ("The issuer does not answer.", "2")
        assert detail(client.get("/models/pictures"), 401).startswith("A token is needed")


def test_the_description_declares_the_authentication(client) -> None:
    described = client.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in described["paths"].items():
        for operation in operations.values():
            needs = path not in ("/healthz", "/readyz")
            assert ("security" in operation, "401" in operation["responses"], "403" in operation["responses"]) == (
                needs, needs, needs,
            )  # fmt: skip


def test_a_subject_has_a_rate_of_its_own(stand_in, keys) -> None:
    with serving(stand_in, dataclasses.replace(KEYED, requests_per_minute=3)) as client:
        statuses = [client.get("/models/pictures", headers=bearer("both")).status_code for _ in range(3)]
        assert statuses == [200] * 3
        refused = client.get("/models/pictures", headers=bearer("both"))
        assert detail(refused, 429).startswith("Both has sent too many requests: try again in ")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/models/pictures", headers=bearer("predict")).status_code == 200
        for path in ("/healthz", "/readyz", "/docs"):
            assert client.get(path, headers=bearer("both")).status_code == 200
    for settings in (dataclasses.replace(KEYED, requests_per_minute=0), SETTINGS):
        with serving(stand_in, settings) as client:
            statuses = {client.get("/models/pictures", headers=bearer("both")).status_code for _ in range(5)}
            assert statuses == {200}


def test_the_rate_recovers() -> None:
    rate = request_limits.Rate(1)
    assert rate.seconds_to_wait("a") == 0
    assert 1 <= rate.seconds_to_wait("a") <= 60
    assert rate.seconds_to_wait("b") == 0


def test_too_many_requests_at_once_are_refused_and_probes_answered(stand_in, monkeypatch) -> None:
    started, released = threading.Semaphore(0), threading.Event()

    def served(newest: bool = False):
        started.release()
        assert released.wait(30)
        raise DatabaseAway("it does not answer")

    monkeypatch.setattr(stand_in, "served", served)
    settings = dataclasses.replace(SETTINGS, concurrent_requests=2)
    with serving(stand_in, settings) as client, ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(client.get, "/models/pictures") for _ in range(2)]
        assert all(started.acquire(timeout=30) for _ in asking)
        refused = client.get("/models/pictures")
        assert detail(refused, 503) == "Too many requests are in progress: try again."
        assert refused.headers["retry-after"] == "2"
        for path in ("/healthz", "/readyz", "/docs"):
            assert client.get(path).status_code == 200
        released.set()
        assert {answer.result().status_code for answer in asking} == {503}
        assert client.get("/docs").status_code == 200


def test_public_paths_take_no_place_and_a_subject_has_half_of_them() -> None:
    """Strangers who read nothing of what they asked for leave the places to clients with a key."""
    limits = Limits(None, per_minute=0, at_once=4)
    statuses: dict[str, list[int]] = {}

    async def ask(path: str, subject: str, answered: asyncio.Event) -> None:
        async def app(scope, receive, send) -> None:
            await answered.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message) -> None:
            if message["type"] == "http.response.start":
                statuses.setdefault(subject, []).append(message["status"])

        limits.app = app
        scope = {"type": "http", "path": path, "method": "GET", "headers": [], "query_string": b""}
        scope["state"] = {"subject": Subject(subject, frozenset(ROLES)), "request_id": "1", "noted": {}}
        await limits(scope, None, send)

    async def all_at_once() -> None:
        answered = asyncio.Event()
        asked = [("/docs", "stranger")] * 9 + [("/predictions", "mallory")] * 5 + [("/predictions", "bob")]
        asking = [asyncio.create_task(ask(*each, answered)) for each in asked]
        await asyncio.sleep(0)
        answered.set()
        await asyncio.gather(*asking)

    asyncio.run(all_at_once())
    assert statuses["stranger"] == [200] * 9
    assert sorted(statuses["mallory"]) == [200, 200, 503, 503, 503]
    assert statuses["bob"] == [200]
    assert not limits.in_progress


def test_large_pictures_do_not_keep_small_ones_from_an_answer(stand_in, monkeypatch) -> None:
    """Few wait for a decoder; the others are refused at once, and small pictures need none."""
    waiting, released = threading.Semaphore(0), threading.Event()
    fitted = images._fitted

    def slow(image, size, mode):
        if image.width > 4:
            waiting.release()
            assert released.wait(30)
        return fitted(image, size, mode)

    monkeypatch.setattr(images, "_fitted", slow)
    monkeypatch.setattr(images, "MAX_SMALL_PIXELS", 16)
    monkeypatch.setattr(decoders, "_places", threading.BoundedSemaphore(3))
    with serving(stand_in) as client, ThreadPoolExecutor(3) as pool:

        def ask(size: int):
            return client.post("/predictions", files={"image": png(size=(size, size))})

        large = [pool.submit(ask, 8) for _ in range(3)]
        assert all(waiting.acquire(timeout=30) for _ in range(decoders.DECODERS))
        deadline = time.monotonic() + 30
        while decoders._places._value and time.monotonic() < deadline:
            released.wait(0.01)
        refused = ask(8)
        assert detail(refused, 503) == "Too many large pictures are being decoded: try again."
        assert refused.headers["retry-after"] == "2"
        assert ask(2).status_code == 200
        assert client.get("/readyz").status_code == 200
        released.set()
        assert {answer.result().status_code for answer in large} == {200}
        assert ask(8).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api.example.com", 200), ("API.example.com:8443", 200), ("a.pods.example.com", 200), ("[::1]:8000", 200),
        ("evil.example", 400), ("pods.example.com", 400), ("api.example.com.evil.example", 400), ("", 400),
        ("[::2]", 400),
    ],
)  # fmt: skip
def test_other_host_names_are_refused(stand_in, host, status) -> None:
    settings = dataclasses.replace(SETTINGS, allowed_hosts=("api.example.com", "*.pods.example.com", "[::1]"))
    with serving(stand_in, settings) as client:
        assert client.get("/models/pictures", headers={"Host": host}).status_code == status
        # Probes address the pod.
        for path in ("/healthz", "/readyz"):
            assert client.get(path, headers={"Host": host}).status_code == 200


def test_no_answer_leads_to_a_foreign_host(stand_in) -> None:
    with serving(stand_in) as client:
        for path in ("/", "/docs/", "/healthz/", "//evil.example/", "/models/pictures/"):
            answer = client.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
            assert "evil" not in answer.headers.get("location", "")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/models/pictures", "/nothing", "/openapi.json", "/docs"])
def test_every_answer_has_the_security_headers(client, path) -> None:
    for headers in ({}, bearer("both")):
        sent = client.get(path, headers=headers).headers
        assert sent["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in sent["content-security-policy"]
        assert "default-src" in sent["content-security-policy"]
        assert (sent["referrer-policy"], sent["cache-control"]) == ("no-referrer", "no-store")
