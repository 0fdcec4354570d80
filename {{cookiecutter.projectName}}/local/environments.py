"""Python environments, one per role, and Liquibase: built once, in a cache that all projects share.

An environment is named after its role, its lock file's hash and the system Python's version. So a complete environment
never changes: a changed lock file makes a new one beside it. Old ones stay until somebody deletes the cache folder.

Liquibase comes from npm's package liquibase 4.28.1, which carries the real Liquibase 4.28.0 (Apache-2.0)
and PostgreSQL's driver. It stays at 4.x: 5 changed its licence and ships no drivers.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from local import installers
from local.errors import LocalError
from local.packages import SYSTEM_PYTHON, system_python
from local.processes import caller_environment
from local.progress import Progress, say
from local.state import PROJECT, lock, make_public, require_entry

ROLES = ("pipeline", "training-db", "inference-db")
LIQUIBASE_VERSION = "4.28"
# Of Liquibase's jars: itself, what it needs to run, and PostgreSQL's driver.
JARS = ("liquibase-core", "picocli", "snakeyaml", "commons-", "opencsv", "jaxb-", "postgresql")
LIQUIBASE_FILES = ("internal", "licenses", "liquibase", "LICENSE.txt")
COMPLETE = "complete"


class Build(NamedTuple):
    """A folder of the cache, its name in messages, and the function that fills it."""

    folder: pathlib.Path
    title: str
    make: Callable[[pathlib.Path, Progress], None]


def cache() -> pathlib.Path:
    """Return the cache folder: $IN_DATABASE_ML_CACHE, root's in /var/cache, or the person's own."""
    chosen = os.environ.get("IN_DATABASE_ML_CACHE")
    if chosen:
        return pathlib.Path(chosen).absolute()
    if not os.geteuid():
        return pathlib.Path("/var/cache/in-database-ml")
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home).absolute() / "in-database-ml"


@functools.cache
def environment(role: str) -> pathlib.Path:
    """Return where a role's environment is, or will be. Raises LocalError when it has no lock file."""
    digest = _digest(PROJECT / "requirements" / f"{role}.txt")
    return cache() / "environments" / f"{role}-{digest}-py{system_python()[0]}"


@functools.cache
def liquibase() -> pathlib.Path:
    """Return the folder that holds, or will hold, the `liquibase` command."""
    return cache() / f"liquibase-{_digest(PROJECT / 'local' / 'package-lock.json')}"


def _digest(lock_file: pathlib.Path) -> str:
    try:
        return hashlib.sha256(lock_file.read_bytes()).hexdigest()[:12]
    except OSError as error:
        roles = ", ".join(sorted(path.stem for path in (PROJECT / "requirements").glob("*.in"))) or "none"
        raise LocalError(
            f"the lock file {lock_file} cannot be read ({error.strerror}); roles with a lock file: {roles}"
        ) from error


def is_complete(folder: pathlib.Path) -> bool:
    """Return whether a folder of the cache has been built to its end."""
    return (folder / COMPLETE).exists()


def install(roles: Sequence[str], with_liquibase: bool = True, optional: Sequence[str] = ()) -> None:
    """Build the missing environments side by side; a failure of a role in `optional` is only reported.

    Raises LocalError with the end of the installer's output.
    """
    required = [_environment_build(role) for role in roles]
    if with_liquibase:
        required.append(Build(liquibase(), "Liquibase", _build_liquibase))
    jobs = [(_build, build) for build in required] + [(_try_build, _environment_build(role)) for role in optional]
    missing = [(build, job) for build, job in jobs if not is_complete(job.folder)]
    if not missing:
        return
    progress = Progress()
    with progress.shown(), concurrent.futures.ThreadPoolExecutor() as pool:
        for job in [pool.submit(build, job, progress) for build, job in missing]:
            job.result()


def _environment_build(role: str) -> Build:
    return Build(environment(role), f"Python environment {role}", functools.partial(_build_environment, role))


def _build(build: Build, progress: Progress) -> None:
    """Build one folder at its final place; the marker comes last, without it nobody uses the folder."""
    folder = build.folder
    _make_public(folder.parent)
    waiting = "waiting for another installation"
    with progress.job(build.title, lambda: waiting):
        descriptor = lock(folder.with_name(f".{folder.name}.lock"), f"{build.title}: {waiting}")
    try:
        if is_complete(folder):
            return
        say(f"{build.title}: installing into {folder}")
        started = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        try:
            build.make(folder, progress)
        except LocalError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / COMPLETE).touch(mode=0o644)
        say(f"{build.title}: installed in {time.monotonic() - started:.0f} s")
    finally:
        os.close(descriptor)


def _try_build(build: Build, progress: Progress) -> None:
    """Build one folder; a failure is reported and left to the command that needs the folder."""
    try:
        _build(build, progress)
    except (LocalError, OSError) as error:
        say(f"{build.title}: not installed, the rest goes on; the command that needs it tries again: {error}")


def _make_public(folder: pathlib.Path) -> None:
    make_public(folder, "cache folder", "set IN_DATABASE_ML_CACHE")


def require_access() -> None:
    """Raise LocalError when the server user could not use the cache; called before anything is built."""
    _make_public(cache() / "environments")
    require_entry(cache() / "environments", "set IN_DATABASE_ML_CACHE to a folder that it can enter")


def _build_environment(role: str, folder: pathlib.Path, progress: Progress) -> None:
    lock_file = PROJECT / "requirements" / f"{role}.txt"
    site_packages = folder / "lib" / f"python{system_python()[0]}" / "site-packages"
    counter = installers.PipProgress(lock_file.read_text(encoding="utf-8"), site_packages)
    # As a module: a script's first line cannot hold a long path. pip, because people's mirrors are set there.
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    options = ["--no-deps", "--require-hashes", "--progress-bar=off", "-r", str(lock_file)]
    with progress.job(role, counter.report):
        _run([SYSTEM_PYTHON, "-m", "venv", str(folder)], f"the Python environment {role}", PROJECT)
        _run([*pip, *options], str(lock_file), PROJECT, counter.read)


def _build_liquibase(folder: pathlib.Path, progress: Progress) -> None:
    """Install with npm in a folder beside, keep what PostgreSQL needs (the command then starts in 1 s), and try it."""
    work = folder.with_name(f"{folder.name}.npm")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(work)
    work.mkdir(mode=0o755)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PROJECT / "local" / name, work)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    with progress.job("Liquibase", lambda: f"npm, {megabytes(work)} MB"):
        _run(npm, "Liquibase", work)
        _move_liquibase(work / "node_modules" / "liquibase" / "dist" / "liquibase", folder)
        shutil.rmtree(work)
        _try_liquibase(folder)


def _move_liquibase(tree: pathlib.Path, folder: pathlib.Path) -> None:
    """Leave out what PostgreSQL does not need, and move the rest to `folder`."""
    for path in [path for path in tree.iterdir() if path.name not in LIQUIBASE_FILES]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [path for path in (tree / "internal" / "lib").iterdir() if not path.name.startswith(JARS)]:
        path.unlink()
    (tree / "liquibase").chmod(0o755)
    tree.rename(folder)


def megabytes(folder: pathlib.Path) -> int:
    """Return the size of the files in a folder that an installer may be changing."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size // 1_000_000


def _try_liquibase(folder: pathlib.Path) -> None:
    shown = _run([str(folder / "liquibase"), "--version"], "Liquibase", folder)
    if f"Version: {LIQUIBASE_VERSION}" not in shown:
        raise LocalError(f"{folder / 'liquibase'} is not version {LIQUIBASE_VERSION}: {shown.strip()[-200:]}")


def _run(
    command: Sequence[str], title: str, folder: pathlib.Path, read: Callable[[str], None] = lambda line: None
) -> str:
    """Run an installer with the caller's settings and return its output. Raises LocalError when it fails."""
    return installers.run(command, f"{title} cannot be installed", caller_environment(), folder, read)
