"""Waiting for what another process does, with a deadline and a name for what is waited for."""

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import ClusterError

T = TypeVar("T")
POLL_SECONDS = 0.1


def wait_for(what: str, look: Callable[[], T | None], seconds: float, check: Callable[[], None] = lambda: None) -> T:
    """Return the first true answer of `look`; `check` may give up earlier by raising.

    Raises ClusterError, with the last answer, when there is none before the deadline.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        check()
        if time.monotonic() > deadline:
            told = f"; at last: {found}" if found is not None and found is not False else ""
            raise ClusterError(f"waited {seconds:g} s for {what}{told}")
        time.sleep(POLL_SECONDS)
    return found
