"""Processes that outlive the command which starts them: each known by its number and the time it began."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError
from .places import LOGS, PROCESSES
from .waiting import wait_for

LOG_LINES = 15


@dataclass(frozen=True)
class Process:
    """A started process and where it logs."""

    name: str

    @property
    def log(self) -> Path:
        """What it prints."""
        return LOGS / f"{self.name}.log"

    @property
    def _note(self) -> Path:
        return PROCESSES / self.name

    def start(self, command: Sequence[object], environment: Mapping[str, str] | None = None) -> "Process":
        """Start it, in a session of its own: a Ctrl-C in the terminal is not its business."""
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._note.write_text(f"{started.pid} {_began(started.pid)}\n", encoding="ascii")
        return self

    @property
    def number(self) -> int | None:
        """Its process number, None when it does not run."""
        with contextlib.suppress(OSError, ValueError):
            number, began = self._note.read_text(encoding="ascii").split()
            # A number is given again some day: the time it began tells whose it is.
            if _began(int(number)) == began:
                return int(number)
        return None

    def check(self) -> None:
        """Raise ClusterError, with the end of its log, when it has ended."""
        if self.number is None:
            raise ClusterError(f"{self.name} has ended: read {self.log}, whose last lines are\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
        return ""

    def stop(self, seconds: float = 10) -> None:
        """End it at once and wait until it is gone."""
        number = self.number
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
            wait_for(f"the end of {self.name}", lambda: self.number is None, seconds)
        self._note.unlink(missing_ok=True)


def started() -> list[Process]:
    """Return every process that was started and not stopped, the last one first."""
    notes = sorted(PROCESSES.glob("*"), key=lambda note: note.stat().st_mtime_ns, reverse=True)
    return [Process(note.name) for note in notes]


def _began(number: int) -> str:
    """Return when a process began, in clock ticks; empty when there is no such process, or only its zombie."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name in brackets may hold anything.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
