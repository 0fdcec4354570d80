"""What the three servers have in common: found again, started on a free port, awaited, ended."""

import abc
import contextlib
import pathlib
import signal
from collections.abc import Sequence

from local.errors import LocalError
from local.processes import end, find, free_port, is_free, spawn, wait_until
from local.state import State, make_folder

SECONDS_TO_START = 120
SECONDS_TO_STOP = 10
ATTEMPTS = 3


class Server(abc.ABC):
    """One server in its folder of the state; `environment` holds the Python it runs with."""

    # What its processes are sent, before SIGKILL.
    last_word = signal.SIGTERM

    def __init__(self, name: str, state: State, environment: pathlib.Path | None) -> None:
        self.name = name
        self.state = state
        self.environment = environment
        self.folder = state.folder / name
        self.data = self.folder / "data"
        self.home = self.folder / "home"
        self.log = self.folder / "log"

    @property
    def port(self) -> int:
        """The port that was chosen at the last start, 0 before the first."""
        record = self.state.server(self.name)
        return record["port"] if record else 0

    @property
    def address(self) -> str:
        """The address for clients: localhost:PORT."""
        return f"localhost:{self.port}"

    @property
    def identity(self) -> str:
        """The settings of a running process that needs no restart."""
        return str(self.environment)

    @abc.abstractmethod
    def is_one(self, command: list[str]) -> bool:
        """Return whether a command line is that of a process of this server and of no other."""

    @abc.abstractmethod
    def main_process(self) -> int | None:
        """Return the id of the process that serves, None when there is none."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Return whether a request is answered on the server's port."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make data and settings, for the port that has been chosen. Raises LocalError."""

    @abc.abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program and its arguments."""

    @abc.abstractmethod
    def variables(self) -> dict[str, str]:
        """Return the server's whole environment."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Do what needs the running server. Raises LocalError."""

    def is_running(self) -> bool:
        """Return whether this server's own process answers."""
        return self.main_process() is not None and self.answers()

    def start(self) -> None:
        """Make the server run; one that runs already, with the same environment, is left alone.

        A dead one is started again with its data. Raises LocalError with the end of the log.
        """
        if not self._runs_as_wanted():
            self.stop()
            make_folder(self.folder, 0o711)
            make_folder(self.home, 0o700, server=True)
            self._launch()
        self.finish()

    def _runs_as_wanted(self) -> bool:
        """Return whether it answers, or soon does, with the environment that the lock file names now."""
        record = self.state.server(self.name)
        if not record or record["environment"] != self.identity:
            return False
        return wait_until(self.is_running, SECONDS_TO_START, gone=lambda: self.main_process() is None)

    def _launch(self) -> None:
        for _ in range(ATTEMPTS):
            port = free_port(self.port)
            self.state.keep_server(self.name, port=port, environment=self.identity)
            self.prepare()
            failure = self._try()
            if not failure:
                return
            self.stop()
            # Another program may have taken the port in the meantime: then another port helps.
            if is_free(port):
                break
        raise LocalError(failure)

    def _try(self) -> str:
        """Start the program and wait for its answer; return why there was none."""
        logged = self.log.stat().st_size if self.log.exists() else 0
        process = spawn(self.command(), self.variables(), self.log)
        if wait_until(self.is_running, SECONDS_TO_START, gone=lambda: process.poll() is not None):
            return ""
        status = process.returncode
        how = f"ended with status {status}" if status is not None else f"is silent for {SECONDS_TO_START} s"
        with open(self.log, "rb") as log:
            log.seek(logged)
            lines = log.read().decode(errors="replace").strip().splitlines()[-15:]
        return "\n".join([f"the {self.name} server {how}; the end of its log {self.log}:", *lines])

    def stop(self) -> None:
        """End every process of this server; others are never touched. Raises LocalError when one stays."""
        end(self.is_one, self.last_word, SECONDS_TO_STOP)
        left = find(self.is_one)
        if left:
            raise LocalError(f"the {self.name} server's processes {left} cannot be ended: end them by hand")

    def describe(self) -> str:
        """Return one line for a person."""
        pid = self.main_process()
        if pid is None:
            return f"{self.name:<10} stopped"
        how = "running" if self.answers() else "starting"
        return f"{self.name:<10} {how}   {self.address}   process {pid}   log {self.log}"


def first_number(path: pathlib.Path) -> int | None:
    """Return the number on a file's first line, None when there is no such file or number."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(path.read_text(encoding="utf-8", errors="replace").splitlines()[0])
    return None
