"""The time limit for a request's headers, on a server with a stand-in for the API."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import uvicorn

from app import http_protocol
from app.http_protocol import Protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SECONDS = 0.3


@pytest.fixture(autouse=True)
def _soon(monkeypatch) -> None:
    monkeypatch.setattr(http_protocol, "SECONDS_FOR_HEADERS", SECONDS)


async def slow_app(scope, receive, send) -> None:
    """Answer after the time limit for headers."""
    message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
    await asyncio.sleep(2 * SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve, and open a connection."""
    config = uvicorn.Config(slow_app, http=Protocol, lifespan="off", timeout_keep_alive=75, log_level="critical")
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()


async def seconds_until_closed(*pieces: bytes) -> float:
    async with connection() as (reader, writer):
        started = time.monotonic()

        async def send() -> None:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(SECONDS / 4)

        sending = asyncio.create_task(send())
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)
        sending.cancel()
        return time.monotonic() - started


@pytest.mark.parametrize("pieces", [(), (REQUEST[:-2],), [bytes([byte]) for byte in REQUEST[:-2]]])
def test_headers_that_do_not_come_in_time_end_the_connection(pieces) -> None:
    """Nothing, half of them, and a byte now and then."""
    assert SECONDS * 0.9 <= asyncio.run(seconds_until_closed(*pieces)) < 10 * SECONDS


def test_a_slow_body_and_a_slow_answer_are_no_slow_headers() -> None:
    async def ask() -> None:
        async with connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
            await asyncio.sleep(2 * SECONDS)
            writer.write(b"body")
            assert (await asyncio.wait_for(reader.readuntil(b"ok"), 20)).startswith(b"HTTP/1.1 200")

    asyncio.run(ask())


def test_an_idle_connection_stays_for_its_next_request() -> None:
    async def ask() -> None:
        async with connection() as (reader, writer):
            for _ in range(2):
                writer.write(REQUEST)
                assert (await asyncio.wait_for(reader.readuntil(b"ok"), 20)).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(2 * SECONDS)
            # The next one has its own limit.
            writer.write(REQUEST[:5])
            assert await asyncio.wait_for(reader.read(), 20) == b""

    asyncio.run(ask())
