"""The log: one JSON object a line, and for each request one line. No image, header or body is in it."""

import asyncio
import contextlib
import logging
import logging.config
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import problem

# Seconds after which others have been answered, and there may be room for an upload.
RETRY_AFTER = "2"
# A body of which nothing came for so long is given up: its sender may be gone without a word.
SECONDS_OF_SILENCE = 30
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
logger = logging.getLogger("app.requests")


def configure() -> None:
    """Send everything that is logged to standard output, uvicorn's own words too; its access log is off."""
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
                    # Uvicorn gives some messages twice, once with colours.
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
    """Return what every record of the standard library has."""
    return list(vars(logging.makeLogRecord({})))


def note(request: Request, **fields: Any) -> None:
    """Add fields to the line that the request will have in the log."""
    request.state.noted.update(fields)


class Requests:
    """Gives each request its id, limits its body, logs it, and answers for what nobody caught."""

    def __init__(self, app: ASGIApp, limits: dict[str, int], limit: int, together: int) -> None:
        """Take bodies of up to `limit` bytes, or those in `limits` for single paths; `together` at the same time."""
        self.app = app
        self.limits = limits
        self.limit = limit
        self.together = together
        # The bytes that the requests which are not answered yet have room for.
        self.kept = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        noted: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, noted=noted)
        started, status, error = time.perf_counter(), 0, None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            with self._limited(scope, receive) as limited:
                await self.app(scope, limited, answer)
        except Exception as caught:
            error = caught
            if not status:
                response = problem(Request(scope), 500, "the server made a mistake; its log says more")
                await response(scope, receive, answer)
        logger.log(
            logging.WARNING if status == 503 else logging.ERROR if status >= 500 else logging.INFO,
            "request",
            exc_info=error,
            extra={
                "method": scope["method"],
                "path": getattr(scope.get("route"), "path", None),
                "status": status,
                "milliseconds": round((time.perf_counter() - started) * 1000, 2),
                "request_id": request_id,
                **noted,
            },
        )

    @contextlib.contextmanager
    def _limited(self, scope: Scope, receive: Receive) -> Iterator[Receive]:
        """Yield a `receive` that ends a body: one too long, one without room beside the others, one that stops coming.

        Room is kept from the first bytes on for all that are announced, or else allowed: who has it is not turned away
        half-way.
        """
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        limit = self.limits.get(path, self.limit)
        header = Headers(scope=scope).get("content-length", "")
        announced = int(header) if re.fullmatch("[0-9]{1,18}", header) else 0
        received, room, complete = announced if announced > limit else 0, 0, False

        async def limited() -> Message:
            nonlocal received, room, complete
            message = await _next(receive, complete) if received <= limit else {"type": "http.request"}
            complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            received += size
            if received > limit:
                raise HTTPException(413, f"the body is longer than the {limit:,} bytes that are allowed")
            if size and not room:
                room = self._room(announced or limit)
            return message

        try:
            yield limited
        finally:
            self.kept -= room

    def _room(self, size: int) -> int:
        """Keep room for a body and return how much. Raises HTTPException when there is too little."""
        if self.kept + size > self.together:
            raise HTTPException(503, "too much is being uploaded at once: try again", {"Retry-After": RETRY_AFTER})
        self.kept += size
        return size


async def _next(receive: Receive, complete: bool) -> Message:
    """Return the next message, of an incomplete body soon. Raises HTTPException when it does not come."""
    try:
        async with asyncio.timeout(None if complete else SECONDS_OF_SILENCE):
            return await receive()
    except TimeoutError:
        told = f"nothing more of the body came for {SECONDS_OF_SILENCE} s"
        raise HTTPException(408, told, {"Connection": "close"}) from None
