"""The log: one JSON object per line, one line per request. It holds no image, header, body or query string."""

import asyncio
import contextlib
import logging
import logging.config
import re
import time
import uuid
from collections.abc import Iterator, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BUSY_SECONDS, problem
from app.shares import Shares
from app.subjects import ANONYMOUS

# Longest pause within a body, in seconds: a client may disappear without closing its connection.
SECONDS_OF_SILENCE = 30
# Longest time for a whole body: a client may send a byte now and then to keep memory reserved.
SECONDS_FOR_BODY = 120
# Longest path in a line, in characters.
MAX_PATH = 200
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
logger = logging.getLogger("app.requests")


def configure() -> None:
    """Send all log records to standard output, including uvicorn's own; its access log is off."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "fmt": "{levelname}{name}{message}",
                    "style": "{",
                    "timestamp": "time",
                    "rename_fields": {"levelname": "level", "name": "logger"},
                    # Uvicorn adds a coloured copy of some messages.
                    "reserved_attrs": [*_reserved(), "color_message"],
                }
            },
            "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
            "root": {"level": "INFO", "handlers": ["out"]},
            "loggers": {
                "uvicorn": {"handlers": [], "propagate": True},
                "uvicorn.error": {"handlers": [], "propagate": True},
                "uvicorn.access": {"handlers": [], "propagate": False},
            },
        }
    )


def _reserved() -> list[str]:
    """Return the attributes that every record of the standard library has."""
    return list(vars(logging.makeLogRecord({})))


def note(request: Request, **fields: object) -> None:
    """Add fields to the request's line in the log."""
    request.state.noted.update(fields)


class Requests:
    """Middleware: gives each request an id, limits its body, logs it, and answers 500 for an uncaught exception."""

    def __init__(self, app: ASGIApp, limits: Mapping[str, int], default_limit: int, total_limit: int) -> None:
        """Accept bodies of up to `limits[path]` or `default_limit` bytes, and `total_limit` bytes at the same time."""
        self.app = app
        self.limits = limits
        self.default_limit = default_limit
        # Bytes for the bodies of requests in progress.
        self.reserved = Shares(total_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header = Headers(scope=scope).get("x-request-id", "")
        request_id = header if REQUEST_ID.fullmatch(header) else uuid.uuid4().hex
        noted: dict[str, object] = {}
        scope.setdefault("state", {}).update(request_id=request_id, noted=noted)
        started, status = time.perf_counter(), 0
        error: Exception | None = None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            with self._limit(scope, receive) as limited:
                await self.app(scope, limited, answer)
        except Exception as caught:
            error = caught
            if not status:
                response = problem(Request(scope), 500, "the server failed; its log has the details")
                await response(scope, receive, answer)
        logger.log(
            logging.WARNING if status == 503 else logging.ERROR if status >= 500 else logging.INFO,
            "request",
            exc_info=error,
            extra={
                **_request_fields(scope),
                "status": status,
                "milliseconds": round((time.perf_counter() - started) * 1000, 2),
                "request_id": request_id,
                **noted,
            },
        )

    @contextlib.contextmanager
    def _limit(self, scope: Scope, receive: Receive) -> Iterator[Receive]:
        """Yield a `receive` that raises HTTPException for a body that is too long or stalls, or if memory is short.

        The first bytes reserve memory for the whole body: for its Content-Length, or else for the path's limit. An
        upload that has started is therefore never refused half-way for lack of memory.
        """
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        limit = self.limits.get(path, self.default_limit)
        header = Headers(scope=scope).get("content-length", "")
        announced = int(header) if re.fullmatch("[0-9]{1,18}", header) else 0
        received, reserved, complete = announced if announced > limit else 0, 0, False
        subject: str | None = None
        deadline = time.monotonic() + SECONDS_FOR_BODY

        async def limited() -> Message:
            nonlocal received, reserved, complete, subject
            message = await _next(receive, complete, deadline) if received <= limit else {"type": "http.request"}
            complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            received += size
            if received > limit:
                raise HTTPException(413, f"the body is longer than the {limit:,} bytes that are allowed")
            if size and subject is None:
                subject = scope["state"]["subject"].name if "subject" in scope["state"] else ANONYMOUS.name
                reserved = self._reserve(subject, announced or limit)
            return message

        try:
            yield limited
        finally:
            if reserved and subject is not None:
                self.reserved.give_back(subject, reserved)

    def _reserve(self, subject: str, size: int) -> int:
        """Reserve and return `size` bytes. Raises HTTPException if there are not as many left for the subject."""
        if not self.reserved.take(subject, size):
            raise HTTPException(503, "too much is being uploaded at once: try again", {"Retry-After": BUSY_SECONDS})
        return size


def _request_fields(scope: Scope) -> dict[str, str | None]:
    """Return method, path and route of a request; the route is None for a path that the API does not have.

    The path is as it was sent, without the query string, cut after MAX_PATH characters. The route is the path with
    names for its variable parts.
    """
    path: str = scope.get("raw_path", b"").decode("ascii", "replace") or scope["path"]
    return {
        "method": scope["method"],
        "path": path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…",
        "route": getattr(scope.get("route"), "path", None),
    }


async def _next(receive: Receive, complete: bool, deadline: float) -> Message:
    """Return the next message. Raises HTTPException if the next part of an incomplete body does not arrive in time."""
    left = deadline - time.monotonic()
    try:
        async with asyncio.timeout(None if complete else min(SECONDS_OF_SILENCE, left)):
            return await receive()
    except TimeoutError:
        silence = f"nothing more of the body arrived for {SECONDS_OF_SILENCE} s"
        detail = f"the body did not arrive within {SECONDS_FOR_BODY} s" if left < SECONDS_OF_SILENCE else silence
        raise HTTPException(408, detail, {"Connection": "close"}) from None
