"""Work in threads: limited at a time, and none for a client that has gone."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from starlette.requests import Request

from app import clients

Result = TypeVar("Result")
# Fewer than the threads that AnyIO starts, so that probes always find one.
THREADS = 16


class Work:
    """Runs functions in up to THREADS threads; the others wait for their turn, in order."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(THREADS)

    async def run(self, request: Request, function: Callable[[], Result]) -> Result:
        """Return the result of a function, called in a thread. Raises ClientGone before that if the client has gone."""
        had_to_wait = self._turns.locked()
        async with self._turns:
            # The check is expensive, and a client that did not wait has hardly gone.
            if had_to_wait and await request.is_disconnected():
                raise clients.ClientGone
            clients.is_gone.set(lambda: anyio.from_thread.run(request.is_disconnected))
            return await anyio.to_thread.run_sync(function)


class Shared(Generic[Result]):
    """A function of which one call at a time runs in a thread: callers that come meanwhile get its result."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._running: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """Return the result of the call in progress, or of a new one."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(anyio.to_thread.run_sync(self._function))
        return await asyncio.shield(self._running)
