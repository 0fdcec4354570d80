"""Programs that the tests need, installed once per machine into the cache of the generated projects."""

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
    """Return the folder of a program; `install` fills it on the first call.

    The folder's name contains the hash of the `pinned` files, so a change of their content installs anew. Raises
    CannotInstall.
    """
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in pinned)).hexdigest()[:12]
    folder = _cache() / f"{name}-{digest}"
    # The folder exists under this name only when it is complete.
    if not folder.exists():
        with _lock(folder.with_name(f".{folder.name}.lock")):
            if not folder.exists():
                _fill(folder, install)
    return folder


def _fill(folder: Path, install: Callable[[Path], None]) -> None:
    work = folder.with_name(f"{folder.name}.partial")
    # This process holds the lock, so an existing folder is from an interrupted installation.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o755)
    try:
        install(work)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _cache() -> Path:
    """Return the cache folder: $IN_DATABASE_ML_CACHE, /var/cache for root, or the user's own."""
    configured = os.environ.get("IN_DATABASE_ML_CACHE")
    if configured:
        return Path(configured).absolute()
    if not os.geteuid():
        return Path("/var/cache/in-database-ml")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "in-database-ml"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time install; others wait."""
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
