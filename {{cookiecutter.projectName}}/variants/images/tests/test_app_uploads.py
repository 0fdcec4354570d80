"""Uploads while they arrive: their length, their memory and their pace."""

import asyncio
import dataclasses
import json
import threading

import pytest
from stand_in import SETTINGS, StandIn, png
from starlette.exceptions import HTTPException

from app import decoders, endpoints, images, logs
from app.authentication import Nobody

FORM = (b"content-type", b"multipart/form-data; boundary=b")
FIRST_PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'


async def ask(app, path: str, *headers: tuple[bytes, bytes], body=()) -> dict:
    """Send a request whose body arrives in pieces, with a wait for each event among them; return its answer."""
    pieces, sent = list(body), []

    async def receive() -> dict:
        while pieces and isinstance(pieces[0], asyncio.Event):
            await pieces[0].wait()
            pieces.pop(0)
        piece = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict) -> None:
        sent.append(message)

    method = "POST" if body else "GET"
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "http_version": "1.1"}
    await asyncio.wait_for(app({**scope, "headers": [FORM, *headers]}, receive, send), 10)
    return {"status": sent[0]["status"], "headers": dict(sent[0]["headers"]), "body": sent[1]["body"]}


@pytest.mark.parametrize(("headers", "most"), [([], images.MAX_BYTES + 2**20), ([(b"content-length", b"9" * 12)], 0)])
def test_what_is_too_long_is_not_read_to_its_end(headers, most) -> None:
    taken, sent = 0, []

    async def receive() -> dict:
        nonlocal taken
        taken += 2**16
        start = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' if taken == 2**16 else b""
        return {"type": "http.request", "body": start + bytes(2**16), "more_body": True}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predictions", "query_string": b"", "headers": [FORM, *headers]}
    asyncio.run(endpoints.create_app(SETTINGS, StandIn(), Nobody())({**scope, "http_version": "1.1"}, receive, send))
    assert sent[0]["status"] == 413
    assert taken <= most


@pytest.mark.parametrize(("announced", "fitting"), [(20 * 2**20, 1), (None, 1), (9 * 2**20, 3)])
def test_uploads_have_room_or_are_asked_to_come_again(announced, fitting) -> None:
    """The API accepts as many uploads as fit, and refuses the next one until one of them is answered."""
    headers = [(b"content-length", str(announced).encode())] if announced else []

    async def upload_beside_others() -> None:
        app = endpoints.create_app(dataclasses.replace(SETTINGS, uploads_mib=32), StandIn(), Nobody())
        path, rest = "/predictions/batch", asyncio.Event()
        body = (FIRST_PART, rest, b"no image\r\n--b--\r\n")
        others = [asyncio.create_task(ask(app, path, *headers, body=body)) for _ in range(fitting)]
        await asyncio.sleep(0.1)
        refused = await ask(app, path, *headers, body=body)
        assert refused["status"] == 503
        assert refused["headers"][b"retry-after"] == b"2"
        assert json.loads(refused["body"])["detail"] == "Too much is being uploaded at once: try again."
        # Small requests and probes are not affected.
        assert (await ask(app, "/readyz"))["status"] == 200
        rest.set()
        assert {(await other)["status"] for other in others} == {415}
        assert (await ask(app, path, *headers, body=body))["status"] == 415

    asyncio.run(upload_beside_others())


def test_a_body_that_stops_coming_is_given_up(monkeypatch) -> None:
    """A body that stalls would hold its memory forever; a slow one is read to its end."""
    monkeypatch.setattr(logs, "SECONDS_OF_SILENCE", 0.2)

    async def upload_in_pieces() -> None:
        app = endpoints.create_app(dataclasses.replace(SETTINGS, uploads_mib=32), StandIn(), Nobody())
        loop, never = asyncio.get_running_loop(), asyncio.Event()
        answer = await ask(app, "/predictions/batch", body=(FIRST_PART, never, b""))
        assert (answer["status"], answer["headers"][b"connection"]) == (408, b"close")
        slow = [asyncio.Event() for _ in range(4)]
        for number, event in enumerate(slow):
            loop.call_later(0.1 * (number + 1), event.set)
        pieces = [piece for event in slow for piece in (event, b"no image")]
        answer = await ask(app, "/predictions/batch", body=(FIRST_PART, *pieces, b"\r\n--b--\r\n"))
        assert answer["status"] == 415

    asyncio.run(upload_in_pieces())


def test_a_body_that_drips_is_given_up(monkeypatch) -> None:
    """A client that sends a byte now and then must not keep memory reserved."""
    monkeypatch.setattr(logs, "SECONDS_FOR_BODY", 0.3)

    async def drip() -> None:
        app = endpoints.create_app(dataclasses.replace(SETTINGS, uploads_mib=32), StandIn(), Nobody())
        loop, drops = asyncio.get_running_loop(), [asyncio.Event() for _ in range(9)]
        for number, event in enumerate(drops):
            loop.call_later(0.1 * (number + 1), event.set)
        pieces = [piece for event in drops for piece in (event, b"x")]
        answer = await ask(app, "/predictions/batch", body=(FIRST_PART, *pieces))
        assert (answer["status"], answer["headers"][b"connection"]) == (408, b"close")

    asyncio.run(drip())


def test_a_subject_has_half_of_the_memory_beside_its_first_body() -> None:
    requests = logs.Requests(None, {}, 1, 64)
    assert requests._reserve("mallory", 40) == 40
    with pytest.raises(HTTPException, match="503"):
        requests._reserve("mallory", 1)
    assert requests._reserve("bob", 20) == 20
    with pytest.raises(HTTPException, match="503"):
        requests._reserve("cy", 20)


def test_the_pictures_of_a_client_that_has_gone_are_not_decoded(monkeypatch, caplog) -> None:
    """Neither those that wait for their turn nor those that wait for a decoder."""
    caplog.set_level("INFO", "app.requests")
    monkeypatch.setattr(images, "MAX_SMALL_PIXELS", 1)
    monkeypatch.setattr(decoders, "_decoders", threading.BoundedSemaphore(1))
    stand_in, gone = StandIn(), asyncio.Event()

    async def give_up() -> dict:
        app = endpoints.create_app(SETTINGS, stand_in, Nobody())
        body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + png() + b"\r\n--b--\r\n"
        sent: list[dict] = []
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict:
            if pieces:
                return pieces.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predictions", "query_string": b"", "headers": [FORM]}
        decoders._decoders.acquire()
        asking = asyncio.create_task(app({**scope, "http_version": "1.1"}, receive, send))
        while decoders._places._value == decoders.PLACES:
            await asyncio.sleep(0.01)
        gone.set()
        decoders._decoders.release()
        await asyncio.wait_for(asking, 10)
        return sent[0]

    assert asyncio.run(give_up())["status"] == 499
    assert not stand_in.rows
    assert decoders._places._value == decoders.PLACES
    assert [(record.status, record.levelname) for record in caplog.records] == [(499, "INFO")]
