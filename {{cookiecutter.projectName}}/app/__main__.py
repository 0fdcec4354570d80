"""Starts the process that APP_PROCESS names, the API (`api`) or the page (`ui`), on HOST and PORT: `python -m app`.

Only this module knows the commands that start them.
"""

import ipaddress
import os
import pathlib
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from app.authentication import authenticator
from app.settings import SettingsError, settings

PROJECT = pathlib.Path(__file__).resolve().parent.parent
PAGE = PROJECT / "app" / "page.py"
HOST, LOOPBACK = "0.0.0.0", "127.0.0.1"
PORTS = {"api": 8000, "ui": 8501}
# An orchestrator kills a process after 30 s, and may use some of them before it sends SIGTERM.
SECONDS_TO_SHUT_DOWN = 20
# The environment's own values take precedence.
VARIABLES = {
    # glibc returns the memory of a large picture to the system at once; otherwise each thread keeps some of it.
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    # Nobody edits the files of a deployment, and watching them costs CPU time.
    "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
}


def main(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the API or the page, or exit with a one-line error."""
    try:
        if arguments:
            raise SettingsError(
                f"`python -m app` takes no arguments, but {arguments[0]!r} was given: set APP_PROCESS, HOST and PORT "
                "instead"
            )
        command = command_of(os.environ, settings().authentication)
        # Checked for the page, too: a rolling update must not continue with a page that can only show an error.
        settings().binding()
        authenticator(settings())
    except SettingsError as error:
        sys.exit(f"error: {error}")
    os.execve(sys.executable, command, {**VARIABLES, **os.environ})


def command_of(variables: Mapping[str, str], authentication: str) -> list[str]:
    """Return the command that starts the process which the environment variables select. Raises SettingsError."""
    process = variables.get("APP_PROCESS") or "api"
    if process not in PORTS:
        raise SettingsError(f"APP_PROCESS is {process!r}; allowed is {' or '.join(PORTS)}")
    if process == "ui" and not PAGE.exists():
        raise SettingsError("APP_PROCESS is 'ui'; this project has no page, allowed is api")
    host, port = _host(variables, authentication), variables.get("PORT") or str(PORTS[process])
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise SettingsError(f"PORT is {port!r}; allowed is a whole number from 1 to 65535")
    _require_free(host, int(port))
    return _api(host, port, variables) if process == "api" else _page(host, port)


def _host(variables: Mapping[str, str], authentication: str) -> str:
    """Return the address to listen on. Raises SettingsError if strangers could reach it without authentication."""
    if authentication != "none":
        return variables.get("HOST") or HOST
    host = variables.get("HOST") or LOOPBACK
    protected = variables.get("PROTECTED_BY_PROXY") or "false"
    if protected not in ("true", "false"):
        raise SettingsError(f"PROTECTED_BY_PROXY is {protected!r}; allowed is true or false")
    if protected == "false" and host != "localhost" and not _is_loopback(host):
        raise SettingsError(
            f"HOST is {host!r} and AUTHENTICATION is none, so everybody who reaches it may predict and label: "
            f"set AUTHENTICATION to api-key or oidc, HOST to {LOOPBACK}, or PROTECTED_BY_PROXY to true where a proxy "
            "authenticates all clients"
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_free(host: str, port: int) -> None:
    """Raise SettingsError when the address is not free, so that both programs fail with the same message."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # Both programs set this option: an address whose last connections are in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"nothing can listen on HOST {host!r} and PORT {port}: {reason}") from error


def _api(host: str, port: str, variables: Mapping[str, str]) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "app.api:app", "--app-dir", str(PROJECT), "--host", host, "--port", port,
        # Scale by pods: POOL_SIZE and UPLOADS_MIB apply per process.
        "--workers", "1",
        # The app itself logs each request once.
        "--no-access-log",
        *_proxy_options(variables.get("FORWARDED_ALLOW_IPS", "")),
        "--http", "app.http_protocol:Protocol",
        # Longer than the 60 s of an ingress, so that the ingress never sends a request on a connection closed here.
        "--timeout-keep-alive", "75",
        "--timeout-graceful-shutdown", str(SECONDS_TO_SHUT_DOWN),
    ]  # fmt: skip


def _proxy_options(addresses: str) -> list[str]:
    """Return the options that let the proxies at these addresses say who the client is and which scheme it uses."""
    return ["--proxy-headers", "--forwarded-allow-ips", addresses] if addresses else ["--no-proxy-headers"]


def _page(host: str, port: str) -> list[str]:
    return [
        sys.executable, "-m", "streamlit", "run", str(PAGE), "--server.address", host, "--server.port", port,
        # The same as in app/.streamlit, which Streamlit finds only from some working directories.
        "--server.headless", "true", "--browser.gatherUsageStats", "false",
        "--logger.hideWelcomeMessage", "true",
    ]  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
