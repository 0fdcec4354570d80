"""The API and, where app/ui.py is there, the page: served on this machine until a signal stops them."""

import contextlib
import dataclasses
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

from local.errors import LocalError
from local.processes import POLL_SECONDS, answer, free_port, is_free, says_ok
from local.progress import say
from local.state import PROJECT

PAGE = PROJECT / "app" / "ui.py"
SECONDS_TO_START = 60
SECONDS_TO_STOP = 10


@dataclasses.dataclass(frozen=True)
class Service:
    """A program that serves: its name in messages, its port, and the path that answers once it is ready."""

    name: str
    port: int
    path: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """The address for browsers."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Return whether a request is answered."""
        return says_ok(self.port, self.path)


def role() -> str:
    """Return the role whose environment serves: the page's, which holds the API's packages, where there is a page."""
    return "ui" if PAGE.exists() else "app"


def serve(environment: pathlib.Path, variables: Mapping[str, str]) -> None:
    """Serve with the Python of `environment` until SIGINT or SIGTERM; end all of it before returning.

    Raises LocalError when a program dies or does not answer.
    """
    stop = threading.Event()
    running: dict[Service, subprocess.Popen[bytes]] = {}
    with _signals_set(stop):
        try:
            for service in _services(str(environment / "bin" / "python")):
                running[service] = _start(service, variables)
            _await_answers(running, stop)
            while not stop.wait(POLL_SECONDS):
                _require_alive(running)
        finally:
            end(list(running.values()))


def _port(usual: range) -> int:
    """Return the first free one of the usual ports, any other free one when all are taken."""
    return next((port for port in usual if is_free(port)), 0) or free_port(None)


def _services(python: str) -> list[Service]:
    api, page = _port(range(8000, 8020)), _port(range(8501, 8521))
    command = (python, "-m", "app")
    services = [Service("API", api, "/healthz", command, _variables("api", api))]
    if PAGE.exists():
        # Whoever edits the page here sees it at once.
        edited = ("STREAMLIT_SERVER_FILE_WATCHER_TYPE", "auto")
        services.append(Service("page", page, "/_stcore/health", command, (edited, *_variables("ui", page))))
    return services


def _variables(process: str, port: int) -> tuple[tuple[str, str], ...]:
    """Return the variables that `python -m app` reads."""
    # Only this machine reaches the address.
    return (
        ("APP_PROCESS", process),
        ("HOST", "127.0.0.1"),
        ("PORT", str(port)),
        ("AUTHENTICATION", "none"),
        ("ALLOWED_HOSTS", "127.0.0.1,localhost"),
    )


@contextlib.contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C, `kill` and a closed terminal set the event instead of ending this process at once."""

    def set_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(service: Service, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own: Ctrl-C reaches it through this process alone."""
    environment = {**variables, **dict(service.variables)}
    return subprocess.Popen(
        service.command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _await_answers(running: Mapping[Service, subprocess.Popen[bytes]], stop: threading.Event) -> None:
    """Print each address as soon as something answers there."""
    waiting = list(running)
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        _require_alive(running)
        for service in [service for service in waiting if service.answers()]:
            # In one piece: the programs write to the same terminal.
            sys.stdout.write(f"{service.name:<10} {service.address}\n")
            sys.stdout.flush()
            waiting.remove(service)
        if not waiting:
            if reason := lacks(next(iter(running)).port):
                say(reason)
            say("serving until Ctrl-C")
            return
        if stop.wait(POLL_SECONDS):
            return
    raise LocalError(f"the {waiting[0].name} does not answer on {waiting[0].address} after {SECONDS_TO_START} s")


def lacks(port: int) -> str:
    """Return the API's reason why it is not ready (such as no model yet), an empty text when it is ready."""
    status, content = answer(port, "/readyz")
    if status == http.client.OK:
        return ""
    try:
        return f"not ready: {json.loads(content)['detail']}"
    except (ValueError, TypeError, KeyError):
        return "not ready: the API does not say why"


def _require_alive(running: Mapping[Service, subprocess.Popen[bytes]]) -> None:
    for service, process in running.items():
        if process.poll() is not None:
            raise LocalError(f"the {service.name} ended with status {process.returncode}: its output is above")


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the programs, by force those that are left after a while."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
