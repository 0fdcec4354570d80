"""Signs of life of a step that prints nothing for seconds, for a person who waits for it."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

# `./run` sets it; where an orchestrator runs a step, nobody watches.
WATCHED = "STEP_IS_WATCHED"
SECONDS = 5.0
# The step's current activity, in a list so that `show` can replace it; empty when there is none.
_activity = [""]


def show(activity: str) -> None:
    """Add an activity to the next lines about the step; an empty text removes it."""
    _activity[0] = activity


@contextlib.contextmanager
def elapsed_time(step: str, interval: float = SECONDS) -> Iterator[None]:
    """Print the step's elapsed time to standard error every `interval` seconds while a person watches it."""
    ended = threading.Event()
    started = time.monotonic()

    def print_lines() -> None:
        while not ended.wait(interval):
            activity = f", {_activity[0]}" if _activity[0] else ""
            print(f"{step}: {time.monotonic() - started:.0f} s{activity}", file=sys.stderr, flush=True)

    if not os.environ.get(WATCHED):
        yield
        return
    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
