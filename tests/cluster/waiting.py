"""Polling until another process has done something, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import ClusterError

T = TypeVar("T")
POLL_SECONDS = 0.1


def wait_for(event: str, probe: Callable[[], T | None], seconds: float, check: Callable[[], None] = lambda: None) -> T:
    """Call `probe` until it returns a true value, and return that; `check` may raise to give up early.

    `event` names the awaited event in the message. Raises ClusterError, with the last value, after the deadline.
    """
    deadline = time.monotonic() + seconds
    while not (value := probe()):
        check()
        if time.monotonic() > deadline:
            last = f"; at last: {value}" if value is not None and value is not False else ""
            raise ClusterError(f"waited {seconds:g} s for {event}{last}")
        time.sleep(POLL_SECONDS)
    return value
