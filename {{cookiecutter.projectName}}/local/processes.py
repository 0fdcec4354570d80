"""Processes and ports: who owns them, how servers are started and ended, how to wait for an answer.

The command line alone identifies a process: root in a container may read nothing else of another user's.
"""

import contextlib
import dataclasses
import functools
import http.client
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from local.errors import LocalError

PROC = pathlib.Path("/proc")
POLL_SECONDS = 0.05
# Set by Ctrl-C: threads that wait for a server give up at once instead of at their deadline.
interrupted = threading.Event()


@dataclasses.dataclass(frozen=True)
class Account:
    """The user that servers run as."""

    name: str
    uid: int
    gid: int


class ProcessOwner(TypedDict, total=False):
    """The arguments of subprocess that start a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


@functools.cache
def server_account() -> Account:
    """Return the user that servers run as: the caller, but never root, which PostgreSQL refuses.

    Raises LocalError when root has no user `postgres` to hand over to, or another caller has no entry in /etc/passwd.
    """
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid) if uid else pwd.getpwnam("postgres")
    except KeyError:
        if uid:
            raise LocalError(
                f"the user {uid} has no entry in /etc/passwd, without which PostgreSQL does not start: add one as root "
                f"with `useradd --uid {uid} NAME`, or run as another user"
            ) from None
        raise LocalError(
            "there is no user postgres, which the servers run as when root starts them: run `python3 -m local install`"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid if not uid else os.getegid())


def as_server_account() -> ProcessOwner:
    """Return subprocess's arguments that start a program as the server user."""
    if os.geteuid():
        return {}
    account = server_account()
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def give_to_server_account(path: pathlib.Path) -> None:
    """Make the server user the owner of a file or folder."""
    if not os.geteuid():
        account = server_account()
        os.chown(path, account.uid, account.gid)


def clean_environment(**more: str) -> dict[str, str]:
    """Return an environment that holds nothing of the caller's: no secret, no PYTHONPATH, no PG… variable."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **more}


def caller_environment() -> dict[str, str]:
    """Return the caller's environment (PIP_*, npm_*, proxies, certificates) without another Python's."""
    python = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "VIRTUAL_ENV")
    pip = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    return {name: value for name, value in os.environ.items() if name not in python + pip}


def spawn(command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> subprocess.Popen[bytes]:
    """Start a server that outlives this command, its output appended to `log`.

    Raises OSError when the program cannot be started.
    """
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        return subprocess.Popen(
            command, env=environment, cwd="/", umask=0o077, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **as_server_account(),
        )  # fmt: skip


def wait_until(answers: Callable[[], bool], seconds: float, gone: Callable[[], bool] = lambda: False) -> bool:
    """Ask again and again until the answer is yes; False once `seconds` are over or `gone` says yes.

    Raises KeyboardInterrupt in every waiting thread when the person has interrupted the command.
    """
    deadline = time.monotonic() + seconds
    while not answers():
        if gone() or time.monotonic() > deadline:
            return answers()
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.wait(POLL_SECONDS)
    return True


def says_ok(port: int, path: str) -> bool:
    """Return whether a GET on this machine is answered with 200."""
    return answer(port, path)[0] == http.client.OK


def answer(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET on this machine, 0 where nothing answers; no proxy that is set is asked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def command_line(pid: int) -> list[str]:
    """Return a process's program and arguments; a list with one empty text when there is no such process."""
    try:
        return os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).rstrip("\0").split("\0")
    except OSError:
        return [""]


def find(matches: Callable[[list[str]], bool]) -> list[int]:
    """Return the ids of the processes whose command line satisfies `matches`, in ascending order."""
    pids = sorted(int(entry) for entry in os.listdir(PROC) if entry.isdigit())
    return [pid for pid in pids if matches(command_line(pid))]


def end(matches: Callable[[list[str]], bool], first: signal.Signals, seconds: float) -> None:
    """End all processes that satisfy `matches`: `first`, and SIGKILL for those that are left after `seconds`.

    Each is looked at right before it is signalled, so that an id that another program has by now is not hit.
    """
    for number in (first, signal.SIGKILL):
        for pid in find(matches):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if wait_until(lambda: not find(matches), seconds):
            return


def is_free(port: int) -> bool:
    """Return whether nothing listens on the port, on either loopback address."""
    ipv4 = _binds(socket.AF_INET, "127.0.0.1", port)
    return ipv4 and (not _has_ipv6() or _binds(socket.AF_INET6, "::1", port))


def free_port(preferred: int | None) -> int:
    """Return `preferred` if nothing listens there, else another free port."""
    if preferred and is_free(preferred):
        return preferred
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if is_free(port):
            return port


@functools.cache
def _has_ipv6() -> bool:
    return socket.has_ipv6 and _binds(socket.AF_INET6, "::1", 0)


def _binds(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            # As the servers do: an address of connections that have just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError:
        return False
    return True
