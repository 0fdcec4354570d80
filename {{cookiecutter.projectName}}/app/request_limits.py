"""Limits: the requests of a subject per minute, and the requests in progress together."""

import math
import time

from limits import RateLimitItemPerMinute, aio, storage, strategies
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.authentication import role_of
from app.problems import BUSY_SECONDS, problem
from app.shares import Shares


class Rate:
    """Counts the requests of each subject in this process, for callers in threads."""

    def __init__(self, per_minute: int) -> None:
        """Allow `per_minute` requests to each subject, any number if it is 0."""
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._counter = strategies.SlidingWindowCounterRateLimiter(storage.MemoryStorage())

    def seconds_to_wait(self, subject: str) -> int:
        """Count a request; return 0 if it is allowed, otherwise the seconds until another one is."""
        if self._item is None or self._counter.hit(self._item, subject):
            return 0
        return _seconds_until(self._counter.get_window_stats(self._item, subject).reset_time)


class LoopRate:
    """Like Rate, for callers in an event loop: Rate starts a thread every 10 ms, which would slow the API down."""

    def __init__(self, per_minute: int) -> None:
        """Allow `per_minute` requests to each subject, any number if it is 0."""
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._counter = aio.strategies.SlidingWindowCounterRateLimiter(aio.storage.MemoryStorage())

    async def seconds_to_wait(self, subject: str) -> int:
        """Count a request; return 0 if it is allowed, otherwise the seconds until another one is."""
        if self._item is None or await self._counter.hit(self._item, subject):
            return 0
        return _seconds_until((await self._counter.get_window_stats(self._item, subject)).reset_time)


def _seconds_until(moment: float) -> int:
    return max(1, math.ceil(moment - time.time()))


class Limits:
    """Middleware: answers 429 to a subject with too many requests, and 503 while too many requests are in progress.

    `Shares` says how many places one subject may have.
    """

    def __init__(self, app: ASGIApp, per_minute: int, at_once: int) -> None:
        self.app = app
        self.rate = LoopRate(per_minute)
        self.in_progress = Shares(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; probes and other public paths are always answered, and take no place."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if not path or role_of(path) is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        subject = scope["state"]["subject"].name
        seconds = await self.rate.seconds_to_wait(subject)
        if seconds:
            detail = f"{subject} has sent too many requests: try again in {seconds} s"
            refusal = problem(request, 429, detail, {"Retry-After": str(seconds)})
        elif not self.in_progress.take(subject, 1):
            refusal = problem(
                request, 503, "too many requests are in progress: try again", {"Retry-After": BUSY_SECONDS}
            )
        else:
            try:
                await self.app(scope, receive, send)
            finally:
                self.in_progress.give_back(subject, 1)
            return
        await refusal(scope, receive, send)
