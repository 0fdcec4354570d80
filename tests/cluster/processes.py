"""Background processes that outlive the command that starts them, identified by PID and start time."""

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
    """A background process; a file in PROCESSES records its PID and start time."""

    name: str

    @property
    def log(self) -> Path:
        """The file with the process's output."""
        return LOGS / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return PROCESSES / self.name

    def start(self, command: Sequence[object], environment: Mapping[str, str] | None = None) -> "Process":
        """Start the process in a new session, so that Ctrl-C in the terminal does not reach it."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_file.write_text(f"{process.pid} {_start_time(process.pid)}\n", encoding="ascii")
        return self

    @property
    def pid(self) -> int | None:
        """The process's PID, None when it does not run."""
        with contextlib.suppress(OSError, ValueError):
            pid, start_time = self._pid_file.read_text(encoding="ascii").split()
            # PIDs are reused; the start time distinguishes the processes.
            if _start_time(int(pid)) == start_time:
                return int(pid)
        return None

    def check(self) -> None:
        """Raise ClusterError with the end of the log if the process has exited."""
        if self.pid is None:
            raise ClusterError(f"{self.name} has ended: read {self.log}, whose last lines are\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
        return ""

    def stop(self, seconds: float = 10) -> None:
        """Kill the process and wait until it is gone."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for(f"the end of {self.name}", lambda: self.pid is None, seconds)
        self._pid_file.unlink(missing_ok=True)


def started() -> list[Process]:
    """Return every process that was started and not stopped, newest first."""
    pid_files = sorted(PROCESSES.glob("*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [Process(path.name) for path in pid_files]


def _start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; empty for no process or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name in parentheses may contain spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
