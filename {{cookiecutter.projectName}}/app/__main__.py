"""`python -m app` becomes the process that APP_PROCESS names: the API (`api`) or the page (`ui`).

It listens on HOST and PORT. This is the one place that knows how each is started.
"""

import os
import pathlib
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from app.settings import SettingsError, settings

PROJECT = pathlib.Path(__file__).resolve().parent.parent
PAGE = PROJECT / "app" / "ui.py"
HOST = "0.0.0.0"
PORTS = {"api": 8000, "ui": 8501}
# An orchestrator kills after 30 s, and may wait some of them before it asks a process to end.
SECONDS_TO_END = 20
# What a person sets wins.
VARIABLES = {
    # What a large picture took goes back to the system at once; else each thread keeps some of it.
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    # Nobody edits files where it is deployed, and each watched one costs the machine.
    "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
}


def main(arguments: Sequence[str]) -> NoReturn:
    """Become the process, or exit with a sentence."""
    try:
        if arguments:
            raise SettingsError(
                f"`python -m app` takes no arguments, but {arguments[0]!r} was given: APP_PROCESS, HOST and PORT say "
                "what it becomes"
            )
        command = command_of(os.environ)
        # A page, too, that could only say what it lacks does not start: no deployment is to go on with it.
        settings().binding()
    except SettingsError as error:
        sys.exit(f"error: {error}")
    os.execve(sys.executable, command, {**VARIABLES, **os.environ})


def command_of(variables: Mapping[str, str]) -> list[str]:
    """Return the command that the variables ask for. Raises SettingsError."""
    process = variables.get("APP_PROCESS") or "api"
    if process not in PORTS:
        raise SettingsError(f"APP_PROCESS is {process!r}; allowed is {' or '.join(PORTS)}")
    if process == "ui" and not PAGE.exists():
        raise SettingsError("APP_PROCESS is 'ui'; this project has no page, allowed is api")
    host, port = variables.get("HOST") or HOST, variables.get("PORT") or str(PORTS[process])
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise SettingsError(f"PORT is {port!r}; allowed is a whole number from 1 to 65535")
    _require_free(host, int(port))
    return _api(host, port, variables) if process == "api" else _page(host, port)


def _require_free(host: str, port: int) -> None:
    """Raise SettingsError when nothing can listen there: either program would say so in its own words."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the programs do: an address of connections that have just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise SettingsError(f"nothing can listen on HOST {host!r} and PORT {port}: {told}") from error


def _api(host: str, port: str, variables: Mapping[str, str]) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "app.api:app", "--app-dir", str(PROJECT), "--host", host, "--port", port,
        # More of them are more pods: POOL_SIZE and UPLOADS_MIB are those of one process.
        "--workers", "1",
        # Each request is logged once, by the app itself.
        "--no-access-log",
        # Nothing is decided by who asks; an ingress says by which scheme, which redirects keep.
        "--proxy-headers", "--forwarded-allow-ips", variables.get("FORWARDED_ALLOW_IPS") or "*",
        # An ingress keeps connections for a minute; were they closed here first, a request could meet a closed one.
        "--timeout-keep-alive", "75",
        "--timeout-graceful-shutdown", str(SECONDS_TO_END),
    ]  # fmt: skip


def _page(host: str, port: str) -> list[str]:
    return [
        sys.executable, "-m", "streamlit", "run", str(PAGE), "--server.address", host, "--server.port", port,
        # As app/.streamlit says, wherever it is looked for.
        "--server.headless", "true", "--browser.gatherUsageStats", "false",
        "--logger.hideWelcomeMessage", "true",
    ]  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
