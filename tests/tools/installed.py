"""Programs that the tests need, installed once a machine into the cache that generated projects use too."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class CannotInstall(Exception):
    """A program cannot be installed; the text says why."""


def installed(name: str, pinned: Sequence[Path], install: Callable[[Path], None]) -> Path:
    """Return the folder with a program, which `install` fills if it is not there.

    The folder's name holds the hash of the files that pin what is installed. Raises CannotInstall.
    """
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in pinned)).hexdigest()[:12]
    folder = _cache() / f"{name}-{digest}"
    # It gets its name when it is complete.
    if not folder.exists():
        with _lock(folder.with_name(f".{folder.name}.lock")):
            if not folder.exists():
                _fill(folder, install)
    return folder


def _fill(folder: Path, install: Callable[[Path], None]) -> None:
    work = folder.with_name(f"{folder.name}.partial")
    # Whoever left it was interrupted: the lock is ours.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o755)
    try:
        install(work)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _cache() -> Path:
    """Return the cache folder: $IN_DATABASE_ML_CACHE, root's in /var/cache, or the person's own."""
    chosen = os.environ.get("IN_DATABASE_ML_CACHE")
    if chosen:
        return Path(chosen).absolute()
    if not os.geteuid():
        return Path("/var/cache/in-database-ml")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "in-database-ml"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time install; the others wait."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        reason = f"the cache folder {path.parent} cannot be written ({error.strerror}): set IN_DATABASE_ML_CACHE"
        raise CannotInstall(reason) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
