"""Debian and Ubuntu packages: which are missing, and their installation."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

from local import installers
from local.errors import LocalError
from local.progress import Progress, say
from local.state import lock

SYSTEM_PYTHON = "/usr/bin/python3"
OLDEST_JAVA = 17
# The Debian package of Java.
JAVA_PACKAGE = "default-jre-headless"
# While PostgreSQL is installed, this keeps its packages from starting a cluster of the system's own.
NO_MAIN_CLUSTER = pathlib.Path("/etc/postgresql-common/createcluster.d/in-database-ml.conf")
LOCK = pathlib.Path("/run/lock/in-database-ml-packages")


def installed_postgresql(root: pathlib.Path = pathlib.Path("/")) -> int | None:
    """Return the newest version that is installed with PL/Python, None when there is none."""
    return max((version for version in _servers(root) if has_plpython(version, root)), default=None)


def has_plpython(version: int, root: pathlib.Path = pathlib.Path("/")) -> bool:
    """Return whether a PostgreSQL version's server and its PL/Python are installed."""
    return (
        version in _servers(root)
        and (root / f"usr/lib/postgresql/{version}/lib/plpython3.so").exists()
        and (root / f"usr/share/postgresql/{version}/extension/plpython3u.control").exists()
    )


def _servers(root: pathlib.Path) -> list[int]:
    paths = (root / "usr/lib/postgresql").glob("*/bin/postgres")
    return [int(path.parts[-3]) for path in paths if path.parts[-3].isdigit()]


def programs(version: int) -> pathlib.Path:
    """Return the folder of a PostgreSQL version's programs."""
    return pathlib.Path(f"/usr/lib/postgresql/{version}/bin")


@functools.cache
def system_python() -> tuple[str, bool]:
    """Return the system Python's version ("3.11") and whether it can make environments.

    Raises LocalError when there is none, or one older than the lock files support.
    """
    question = (
        "import sys, importlib.util as u;"
        "print('%d.%d' % sys.version_info[:2], int(u.find_spec('ensurepip') is not None))"
    )
    command = [SYSTEM_PYTHON, "-I", "-S", "-c", question]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalError(f"{SYSTEM_PYTHON}, which PL/Python links, does not run: {error}") from error
    version, venv = completed.stdout.split()
    if tuple(map(int, version.split("."))) < (3, 11):
        raise LocalError(f"{SYSTEM_PYTHON} is Python {version}; 3.11 or newer is needed: Debian 12, Ubuntu 24.04")
    return version, venv == "1"


def java_version() -> int:
    """Return the major version of the Java that Liquibase would run with, 0 when there is none."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which(f"{home}/bin/java" if home else "java")
    if not program:
        return 0
    release = pathlib.Path(os.path.realpath(program)).parent.parent / "release"
    with contextlib.suppress(OSError):
        # Reading the file is 100 ms faster than starting Java.
        return _major(release.read_text(encoding="utf-8", errors="replace"), r'JAVA_VERSION="(\d+)')
    completed = subprocess.run([program, "-version"], capture_output=True, text=True)
    return _major(completed.stderr + completed.stdout, r'version "(\d+)')


def _major(text: str, pattern: str) -> int:
    match = re.search(pattern, text)
    return int(match.group(1)) if match else 0


def tools(databases: bool, java: bool, npm: bool) -> dict[str, bool]:
    """Return whether each needed tool is there, by its package, PostgreSQL aside. Raises LocalError."""
    checks: dict[str, tuple[bool, Callable[[], bool]]] = {
        "python3-venv": (True, lambda: system_python()[1]),
        "openssl": (databases, lambda: shutil.which("openssl") is not None),
        JAVA_PACKAGE: (java, lambda: java_version() >= OLDEST_JAVA),
        "npm": (npm, lambda: shutil.which("npm") is not None),
    }
    return {package: is_there() for package, (is_needed, is_there) in checks.items() if is_needed}


def java_home_mistake() -> str:
    """Return the mistake in JAVA_HOME when there is no Java that can be used; empty when it is not set."""
    home = os.environ.get("JAVA_HOME")
    where = f"JAVA_HOME is {home}, where there is no Java {OLDEST_JAVA} or newer"
    return f"{where}: point it at one, or unset it" if home else ""


def tools_missing(databases: bool, java: bool, npm: bool) -> list[str]:
    """Return the names of missing packages, PostgreSQL's aside.

    Raises LocalError when JAVA_HOME points to no such Java: no package fixes that.
    """
    missing = [package for package, is_there in tools(databases, java, npm).items() if not is_there]
    if JAVA_PACKAGE in missing and java_home_mistake():
        raise LocalError(java_home_mistake())
    return missing


def postgresql_packages(
    root: pathlib.Path = pathlib.Path("/"),
    is_offered: Callable[[str], bool] | None = None,
    default: Callable[[], int | None] | None = None,
) -> list[str]:
    """Return the names of PostgreSQL's missing packages.

    They are PL/Python for an installed server if apt offers it, else server and PL/Python of the distribution's own
    version. Raises LocalError when the package lists offer neither.
    """
    if installed_postgresql(root):
        return []
    is_offered, default = is_offered or _is_offered, default or _default_version
    for installed in sorted(_servers(root), reverse=True):
        if is_offered(f"postgresql-plpython3-{installed}"):
            return [f"postgresql-plpython3-{installed}"]
    version = default()
    if not version:
        raise LocalError(
            "PostgreSQL with PL/Python is missing and apt's lists do not offer it: run `sudo apt-get update`"
        )
    return [f"postgresql-{version}", f"postgresql-plpython3-{version}"]


def _is_offered(package: str) -> bool:
    return re.search(r"Candidate: \d", _ask_apt("policy", package)) is not None


def _default_version() -> int | None:
    return _major(_ask_apt("depends", "postgresql"), r"Depends: postgresql-(\d+)") or None


def _ask_apt(*question: str) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(["apt-cache", *question], env=environment, capture_output=True, text=True).stdout


def install(databases: bool, java: bool, npm: bool) -> None:
    """Install the missing packages; calls nothing when none is missing.

    Raises LocalError when that takes root's rights, or when apt fails.
    """
    tools, server = tools_missing(databases, java, npm), databases and not installed_postgresql()
    if not tools and not server:
        return
    if not shutil.which("apt-get"):
        missing = [*tools, *(["PostgreSQL with PL/Python"] if server else [])]
        raise LocalError(
            f"missing on this machine: {', '.join(missing)}; only on Debian and Ubuntu are they installed "
            "from here: install them by hand, or set SERVICE_BINDING_ROOT to use servers elsewhere"
        )
    if os.geteuid():
        names = " ".join([*(postgresql_packages() if server else []), *tools])
        raise LocalError(
            f"packages are missing: run `sudo apt-get install -y --no-install-recommends {names}`, or "
            "`sudo python3 -m local install --packages`, which starts no cluster of the system's own"
        )
    with _one_installation():
        # Whoever held the lock may have installed them.
        tools, server = tools_missing(databases, java, npm), databases and not installed_postgresql()
        if tools or server:
            _install_as_root(tools, server)
    left = tools_missing(databases, java, npm)
    if left or (databases and not installed_postgresql()):
        raise LocalError(f"this distribution's packages are too old: {', '.join(left) or 'PostgreSQL'}")


@contextlib.contextmanager
def _one_installation() -> Iterator[None]:
    """Let one process of this machine call apt-get at a time; the others wait. Raises LocalError."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    descriptor = lock(LOCK, "packages: waiting for another installation")
    try:
        yield
    finally:
        os.close(descriptor)


def _install_as_root(tools: list[str], server: bool) -> None:
    started = time.monotonic()
    say("installing packages: apt-get update")
    _apt("update", "-qq")
    names = [*(postgresql_packages() if server else []), *tools]
    say(f"installing packages: {' '.join(names)}")
    with _no_main_cluster():
        _apt("install", "-y", "-qq", "--no-install-recommends", *names)
    say(f"packages installed in {time.monotonic() - started:.0f} s")


def _apt(*command: str) -> None:
    apt = installers.AptProgress()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    line = ["apt-get", *command, "-o", "APT::Status-Fd=1"]
    progress = Progress()
    with progress.shown(), progress.job("apt-get", apt.report):
        installers.run(line, f"`apt-get {' '.join(command)}` failed", environment, read=apt.read)


@contextlib.contextmanager
def _no_main_cluster() -> Iterator[None]:
    """Let PostgreSQL's packages create no cluster; remove the setting afterwards."""
    NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n", encoding="ascii")
    try:
        yield
    finally:
        NO_MAIN_CLUSTER.unlink(missing_ok=True)
