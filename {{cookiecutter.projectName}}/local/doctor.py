"""Lists the requirements of the local servers, whether each is met, and the command that fixes it."""

import os
import shutil
from collections.abc import Iterator, Sequence

from local import environments, packages
from local.errors import LocalError

# What the environments take when none of them has been built: TensorFlow twice, MLflow, Liquibase.
GIB_TO_BUILD = 5
FIX = "run `make install`"


def report(roles: Sequence[str]) -> int:
    """Print one line per part, the environments of `roles` among them; return how many are missing."""
    missing = 0
    for part, is_there, fix in _parts(roles):
        print(f"{'found  ' if is_there else 'missing'}  {part}")
        if not is_there:
            print(f"         fix: {fix}")
        missing += not is_there
    return missing


def _parts(roles: Sequence[str]) -> Iterator[tuple[str, bool, str]]:
    """Yield each part, whether it is there, and the fix. The rest depends on Python, so nothing follows without it."""
    try:
        packages.system_python()
    except LocalError as error:
        yield "Python 3.11 or newer", False, str(error)
        return
    yield from _packages()
    unbuilt = []
    for role in roles:
        folder = environments.environment(role)
        unbuilt += [] if environments.is_complete(folder) else [role]
        yield f"Python environment {role} ({folder})", environments.is_complete(folder), FIX
    liquibase = environments.liquibase()
    yield f"Liquibase {environments.LIQUIBASE_VERSION} ({liquibase})", environments.is_complete(liquibase), FIX
    if unbuilt:
        yield _disk()


def _packages() -> Iterator[tuple[str, bool, str]]:
    server = not os.environ.get("SERVICE_BINDING_ROOT")
    if server:
        version = packages.installed_postgresql()
        yield f"PostgreSQL with PL/Python {version or ''}".rstrip(), bool(version), FIX
    npm = not environments.is_complete(environments.liquibase())
    names = {"python3-venv": "Python's venv", packages.JAVA_PACKAGE: f"Java {packages.OLDEST_JAVA} or newer"}
    for package, is_there in packages.tools(server, java=True, npm=npm).items():
        java_home = packages.java_home_mistake() if package == packages.JAVA_PACKAGE else ""
        yield names.get(package, package), is_there, java_home or FIX


def _disk() -> tuple[str, bool, str]:
    folder = environments.cache()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    fix = f"{GIB_TO_BUILD} GiB are needed: make room, or set IN_DATABASE_ML_CACHE to a larger disk"
    return f"room for the environments in {folder}: {free:.0f} GiB free", free >= GIB_TO_BUILD, fix
