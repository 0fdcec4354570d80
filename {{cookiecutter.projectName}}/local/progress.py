"""Progress of long work: one line, rewritten on a terminal and repeated every few seconds elsewhere.

All of it goes to standard error, because a program may read standard output.
"""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_REWRITES = 0.2
# Back to the first column, and nothing right of it.
CLEAR = "\r\x1b[K"


def say(line: str) -> None:
    """Print a line, in place of the progress that a terminal shows."""
    sys.stderr.write(f"{CLEAR if is_terminal(sys.stderr) else ''}{line}\n")
    sys.stderr.flush()


def is_terminal(stream: TextIO) -> bool:
    """Return whether a line of the stream can be rewritten."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Progress:
    """The jobs that run at the moment, with the last report of each."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._reports: dict[str, Callable[[], str]] = {}
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def job(self, name: str, report: Callable[[], str]) -> Iterator[None]:
        """Show a job until the block ends; `report` returns what is known of it, and is called for each line."""
        with self._guard:
            self._reports[name] = report
        try:
            yield
        finally:
            with self._guard:
                del self._reports[name]

    def line(self) -> str:
        """Return elapsed seconds and the report of each job; nothing when no job runs."""
        with self._guard:
            reports = dict(self._reports)
        if not reports:
            return ""
        jobs = "; ".join(f"{name}: {report()}" for name, report in reports.items())
        return f"{self._clock() - self._started:.0f} s  {jobs}"

    def write(self) -> None:
        """Write the line, on a terminal over the one before and no longer than it is wide."""
        line = self.line()
        if not line:
            return
        if is_terminal(self._stream):
            self._stream.write(CLEAR + line[: shutil.get_terminal_size().columns - 1])
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    @contextlib.contextmanager
    def shown(self) -> Iterator["Progress"]:
        """Write the line again and again until the block ends."""
        ended = threading.Event()
        terminal = is_terminal(self._stream)
        seconds = SECONDS_BETWEEN_REWRITES if terminal else SECONDS_BETWEEN_LINES

        def repeat() -> None:
            while not ended.wait(seconds):
                self.write()

        writer = threading.Thread(target=repeat, daemon=True)
        writer.start()
        try:
            yield self
        finally:
            ended.set()
            writer.join()
            if terminal:
                self._stream.write(CLEAR)
                self._stream.flush()
