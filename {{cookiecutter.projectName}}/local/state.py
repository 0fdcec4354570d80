"""The state folder: the servers' data, logs, ports, passwords and bindings, and who may enter.

state.json    ports, passwords, and the keys of an S3 store (0600); written first, removed last
authority/    the certificate authority (0700, never the server user's)
bindings/     service bindings (0700)
training/ inference/ mlflow/ tracking/    one folder per server; below it only data/ and home/ are the server user's
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import TypedDict

from local.errors import LocalError
from local.processes import as_server_account, give_to_server_account, server_account, wait_until
from local.progress import say

PROJECT = pathlib.Path(__file__).resolve().parent.parent
OURS = ("authority", "bindings", "training", "inference", "mlflow", "tracking")


def location() -> pathlib.Path:
    """Return the state folder's path: $LOCAL_STATE, or the project's .local, or for root one below /var/lib.

    Root's is elsewhere because the server user cannot enter a checkout below /root.
    """
    chosen = os.environ.get("LOCAL_STATE")
    if chosen:
        return pathlib.Path(os.path.realpath(chosen))
    if os.geteuid():
        return pathlib.Path(os.path.realpath(PROJECT / ".local"))
    digest = hashlib.sha256(os.fsencode(PROJECT)).hexdigest()[:8]
    return pathlib.Path("/var/lib/in-database-ml") / f"{PROJECT.name}-{digest}"


class ServerRecord(TypedDict):
    """A server's port, and the environment it was started with."""

    port: int
    environment: str


class Record(TypedDict):
    """The contents of state.json."""

    servers: dict[str, ServerRecord]
    passwords: dict[str, str]
    variables: dict[str, dict[str, str]]


class State:
    """What commands leave for the next one. Change it only while `locked`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._guard = threading.Lock()
        self._record: Record = {"servers": {}, "passwords": {}, "variables": {}}

    @property
    def file(self) -> pathlib.Path:
        """The file of ports and passwords."""
        return self.folder / "state.json"

    def load(self) -> bool:
        """Read state.json; False when there is none. Raises LocalError when it cannot be read."""
        try:
            record = json.loads(self.file.read_text(encoding="utf-8"))
            self._record = {
                "servers": {
                    name: {"port": int(server["port"]), "environment": str(server["environment"])}
                    for name, server in record["servers"].items()
                },
                "passwords": dict(record["passwords"]),
                "variables": dict(record.get("variables", {})),
            }
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalError(f"{self.file} cannot be read ({error}): run `make down`, then start again") from error
        return True

    def prepare(self) -> None:
        """Create the folder if need be and check that the server user gets in. Raises LocalError."""
        _make_parents(self.folder.parent)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self.folder.stat().st_uid != os.geteuid():
            raise LocalError(f"the state folder {self.folder} belongs to another user: set LOCAL_STATE to another")
        self._refuse_foreign()
        self.folder.chmod(0o700 if os.geteuid() else 0o711)
        require_entry(self.folder, "set LOCAL_STATE to a folder that it can enter")
        if not self.load():
            self._save()

    def _refuse_foreign(self) -> None:
        names = [path.name for path in self._contents()]
        strangers = [name for name in names if not _is_ours(name)]
        # A folder that a person has named may hold a folder `training` of their own.
        unmarked = names and not self.file.exists() and os.environ.get("LOCAL_STATE")
        if strangers or (unmarked and set(names) & set(OURS)):
            raise LocalError(
                f"the state folder {self.folder} holds files that are not this project's servers'"
                f" ({', '.join(strangers[:3]) or 'no state.json'}): set LOCAL_STATE to an empty or new folder"
            )

    def _contents(self) -> list[pathlib.Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def remove(self) -> None:
        """Remove the folder. Raises LocalError when it holds files that are not ours, and then removes nothing."""
        self._refuse_foreign()
        for name in OURS:
            _remove_tree(self.folder / name)
        for path in self._contents():
            path.unlink()
        with contextlib.suppress(FileNotFoundError):
            self.folder.rmdir()

    def server(self, name: str) -> ServerRecord | None:
        """Return a server's port and environment, None when it has never been started."""
        return self._record["servers"].get(name)

    def keep_server(self, name: str, port: int, environment: str) -> None:
        """Remember a server's port and environment."""
        with self._guard:
            self._record["servers"][name] = {"port": port, "environment": environment}
            self._save()

    def variables(self, name: str) -> dict[str, str]:
        """Return the variables that a person set for a server."""
        return dict(self._record["variables"].get(name, {}))

    def keep_variables(self, name: str, values: dict[str, str]) -> None:
        """Remember the variables that a person set for a server."""
        with self._guard:
            self._record["variables"][name] = values
            self._save()

    def password(self, name: str) -> str:
        """Return a role's password; the first call makes one."""
        with self._guard:
            if name not in self._record["passwords"]:
                self._record["passwords"][name] = secrets.token_urlsafe(24)
                self._save()
            return str(self._record["passwords"][name])

    def _save(self) -> None:
        write(self.file, json.dumps(self._record, indent=1))


def write(path: pathlib.Path, text: str, mode: int = 0o600, server: bool = False) -> None:
    """Write a file at once and whole, with its mode; with `server` it is the server user's."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(new, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
    new.chmod(mode)
    if server:
        give_to_server_account(new)
    new.replace(path)


def make_folder(path: pathlib.Path, mode: int, server: bool = False) -> None:
    """Create a folder if need be and set its mode; with `server` it is the server user's."""
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(mode)
    if server:
        give_to_server_account(path)


def require_entry(folder: pathlib.Path, remedy: str) -> None:
    """Raise LocalError naming the first folder on the way that the server user cannot enter."""
    if os.geteuid() or _can_enter(folder):
        return
    part = next(part for part in (*reversed(folder.parents), folder) if not _can_enter(part))
    raise LocalError(f"the servers run as user {server_account().name}, which cannot enter {part}: {remedy}")


def _can_enter(folder: pathlib.Path) -> bool:
    return not subprocess.run(["/usr/bin/test", "-x", folder], cwd="/", **as_server_account()).returncode


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Let one command at a time work on a state folder; a second one waits. Raises LocalError."""
    _make_parents(folder.parent)
    path = folder.with_name(f"{folder.name}.lock" if folder.name.startswith(".") else f".{folder.name}.lock")
    descriptor = lock(path, f"waiting for another command that works on {folder}")
    try:
        yield
    finally:
        if not folder.exists():
            path.unlink(missing_ok=True)
        os.close(descriptor)


def lock(path: pathlib.Path, notice: str) -> int:
    """Return a descriptor that holds an exclusive lock on `path`; closing it gives the lock back.

    `notice` is printed when somebody else has the lock. Raises LocalError when the file cannot be made.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LocalError(f"{path} cannot be written ({error.strerror}): make its folder writable") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(notice)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever had the lock may have removed the file: then a new one has to be locked.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _make_parents(folder: pathlib.Path) -> None:
    make_public(folder, "folder", "set LOCAL_STATE to one you can write")


def make_public(folder: pathlib.Path, title: str, fix: str) -> None:
    """Create a folder, and its parents, that everybody may enter. Raises LocalError when it cannot be made."""
    try:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        for part in reversed(missing):
            part.mkdir(mode=0o755, exist_ok=True)
            part.chmod(0o755)
    except OSError as error:
        raise LocalError(f"the {title} {folder} cannot be made ({error.strerror}): {fix}") from error


def _is_ours(name: str) -> bool:
    return name in OURS or name in ("state.json", "state.json.new")


def _remove_tree(folder: pathlib.Path) -> None:
    """Remove a folder, again if a program that is just ending writes into it. Raises OSError."""

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    if not wait_until(gone, 5):
        shutil.rmtree(folder)
