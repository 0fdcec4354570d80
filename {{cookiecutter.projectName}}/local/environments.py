"""Python environments, one a role, and Liquibase: built once, in a cache that all projects share.

An environment is named after its role, its lock file's hash and the system Python's version, so it never
changes once it is complete: a changed lock file makes a new one beside it. Old ones stay until somebody
removes the cache folder; nothing but time is lost by that.

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
import subprocess
import time
from collections.abc import Callable, Sequence

from local.errors import LocalError
from local.packages import SYSTEM_PYTHON, system_python
from local.processes import caller_environment
from local.state import PROJECT, lock, make_public, require_entry, say

ROLES = ("pipeline", "training-db", "inference-db")
LIQUIBASE_VERSION = "4.28"
# Of Liquibase's jars: itself, what it needs to run, and PostgreSQL's driver.
JARS = ("liquibase-core", "picocli", "snakeyaml", "commons-", "opencsv", "jaxb-", "postgresql")
KEPT = ("internal", "licenses", "liquibase", "LICENSE.txt")
COMPLETE = "complete"


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
        there = ", ".join(sorted(path.stem for path in (PROJECT / "requirements").glob("*.in"))) or "none"
        raise LocalError(
            f"the lock file {lock_file} cannot be read ({error.strerror}); roles with a lock file: {there}"
        ) from error


def is_complete(folder: pathlib.Path) -> bool:
    """Whether a folder of the cache has been built to its end."""
    return (folder / COMPLETE).exists()


def install(roles: Sequence[str], with_liquibase: bool = True) -> None:
    """Build what is missing, side by side. Raises LocalError with the end of the installer's output."""
    jobs: list[tuple[pathlib.Path, str, Callable[[pathlib.Path], None]]] = [
        (environment(role), f"Python environment {role}", functools.partial(_build_environment, role)) for role in roles
    ]
    if with_liquibase:
        jobs.append((liquibase(), "Liquibase", _build_liquibase))
    missing = [job for job in jobs if not is_complete(job[0])]
    if not missing:
        return
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(_build, *job) for job in missing]:
            done.result()


def _build(folder: pathlib.Path, what: str, build: Callable[[pathlib.Path], None]) -> None:
    """Build one folder at its final place; the marker comes last, without it nobody uses the folder."""
    _make_public(folder.parent)
    descriptor = lock(folder.with_name(f".{folder.name}.lock"), f"{what}: waiting for another installation")
    try:
        if is_complete(folder):
            return
        say(f"{what}: installing into {folder}")
        started = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        try:
            build(folder)
        except LocalError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / COMPLETE).touch(mode=0o644)
        say(f"{what}: installed in {time.monotonic() - started:.0f} s")
    finally:
        os.close(descriptor)


def _make_public(folder: pathlib.Path) -> None:
    make_public(folder, "cache folder", "set IN_DATABASE_ML_CACHE")


def require_access() -> None:
    """Raise LocalError when the server user could not use what is built here: asked before it is built."""
    _make_public(cache() / "environments")
    require_entry(cache() / "environments", "set IN_DATABASE_ML_CACHE to a folder that it can enter")


def _build_environment(role: str, folder: pathlib.Path) -> None:
    lock_file = PROJECT / "requirements" / f"{role}.txt"
    _run([SYSTEM_PYTHON, "-m", "venv", str(folder)], f"the Python environment {role}", PROJECT)
    # As a module: a script's first line cannot hold a long path. pip, because people's mirrors are set there.
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    _run([*pip, "--no-deps", "--require-hashes", "--quiet", "-r", str(lock_file)], str(lock_file), PROJECT)


def _build_liquibase(folder: pathlib.Path) -> None:
    """Install with npm beside, keep what PostgreSQL needs (a command then starts in 1 s), and try it."""
    work = folder.with_name(f"{folder.name}.npm")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(work)
    work.mkdir(mode=0o755)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PROJECT / "local" / name, work)
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], "Liquibase", work)
    tree = work / "node_modules" / "liquibase" / "dist" / "liquibase"
    for path in [path for path in tree.iterdir() if path.name not in KEPT]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [path for path in (tree / "internal" / "lib").iterdir() if not path.name.startswith(JARS)]:
        path.unlink()
    (tree / "liquibase").chmod(0o755)
    tree.rename(folder)
    shutil.rmtree(work)
    _try_liquibase(folder)


def _try_liquibase(folder: pathlib.Path) -> None:
    shown = _run([str(folder / "liquibase"), "--version"], "Liquibase", folder)
    if f"Version: {LIQUIBASE_VERSION}" not in shown:
        raise LocalError(f"{folder / 'liquibase'} is not version {LIQUIBASE_VERSION}: {shown.strip()[-200:]}")


def _run(command: Sequence[str], what: str, folder: pathlib.Path) -> str:
    """Run an installer and return its output. Raises LocalError with the end of it when it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=caller_environment(), umask=0o022, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except FileNotFoundError as error:
        raise LocalError(f"{command[0]} is not there: run `python3 -m local install`") from error
    if done.returncode:
        end = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise LocalError(f"{what} cannot be installed; the end of the output of `{command[0]}`:\n{end}")
    return done.stdout
