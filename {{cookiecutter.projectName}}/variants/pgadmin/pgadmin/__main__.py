"""Starts pgAdmin with both databases in its list of servers.

`python -m pgadmin` serves this machine's user: it listens on the loopback address only and needs no login.
`python -m pgadmin serve` serves others, with the login in $PGADMIN_SETUP_EMAIL and $PGADMIN_SETUP_PASSWORD.
"""

# This folder has no __init__.py: Python then prefers pgAdmin's own package `pgadmin` where both are on the path.

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from local.processes import is_free
from local.state import make_folder, write
from pgadmin.servers import DATABASES, FOLDER, SERVERS, write_files
from pipeline.errors import StepError

HERE = pathlib.Path(__file__).resolve().parent
# The programs of this Python environment.
PROGRAMS = pathlib.Path(sys.executable).parent
LOGIN = ("PGADMIN_SETUP_EMAIL", "PGADMIN_SETUP_PASSWORD")
# pgAdmin keeps its sessions in memory, so one process answers all requests, in threads.
THREADS = 25


def main(arguments: list[str]) -> None:
    """Replace this process by pgAdmin, or exit with a one-line error."""
    try:
        if arguments not in ([], ["serve"]):
            raise StepError(f"{' '.join(arguments)!r} is not known; allowed is no argument, or serve")
        if arguments:
            serve()
        desktop()
    except StepError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or FOLDER} cannot be used: {error.strerror}")


def desktop() -> NoReturn:
    """Replace this process by pgAdmin for this machine's user."""
    port = os.environ.get("PORT") or str(next((port for port in range(5050, 5070) if is_free(port)), 0))
    data = _data()
    changed = write_files(data)
    environment = {**_environment(data, "OFF"), "PORT": port}
    _prepare(environment, data, data / SERVERS, changed, [])
    _execute([str(PROGRAMS / "pgadmin4")], environment)


def serve() -> NoReturn:
    """Replace this process by pgAdmin for others, behind its login."""
    missing = [name for name in LOGIN if not os.environ.get(name)]
    if missing:
        raise StepError(f"{' and '.join(missing)} must be set: the login that pgAdmin asks for")
    data = _data()
    if not os.environ.get("SERVICE_BINDING_ROOT"):
        os.environ["SERVICE_BINDING_ROOT"] = str(_bindings_of_environment(data / "bindings"))
    user = os.environ[LOGIN[0]]
    storage = data / "storage" / _storage_name(user)
    changed = write_files(storage, storage=True)
    environment = {**_environment(data, "ON"), "PORT": os.environ.get("PORT") or "8080"}
    _prepare(environment, data, storage / SERVERS, changed, ["--user", user])
    # pgAdmin's database holds the hashed password now.
    del environment[LOGIN[1]]
    address = f"0.0.0.0:{environment['PORT']}"
    options = ["--workers", "1", "--threads", str(THREADS), "--no-control-socket", "--access-logfile", "-"]
    _execute([str(PROGRAMS / "gunicorn"), "--bind", address, *options, "pgadmin4.pgAdmin4:app"], environment)


def _data() -> pathlib.Path:
    """Return the folder of pgAdmin's data."""
    return pathlib.Path(os.environ.get("PGADMIN_DATA") or FOLDER).absolute()


def _bindings_of_environment(folder: pathlib.Path) -> pathlib.Path:
    """Write the bindings in $BINDING_<ROLE>_<KEY> as files, and remove these variables from the environment."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _, role, _ in DATABASES:
        prefix = f"BINDING_{role.upper().replace('-', '_')}_"
        make_folder(folder / role, 0o700)
        for variable in [variable for variable in os.environ if variable.startswith(prefix)]:
            key = variable.removeprefix(prefix).lower()
            write(folder / role / ("ca.crt" if key == "ca_crt" else key), os.environ.pop(variable))
    return folder


def _storage_name(user: str) -> str:
    """Return pgAdmin's name for the folder of a user's files."""
    name = f"pga_user_{user}" if user[0].isdigit() else user
    return name.replace("@", "_").replace("/", "slash").replace("\\", "slash")


def _environment(data: pathlib.Path, server_mode: str) -> dict[str, str]:
    variables = {
        "PGADMIN_DATA": str(data),
        "PGADMIN_SERVER_MODE": server_mode,
        "CONFIG_DISTRO_FILE_PATH": str(HERE / "config_distro.py"),
    }
    return {**os.environ, **variables}


def _prepare(
    environment: Mapping[str, str], data: pathlib.Path, servers: pathlib.Path, changed: bool, user: Sequence[str]
) -> None:
    """Create pgAdmin's own database, and import the list of servers if it has changed or the database is new.

    The import replaces the servers that a person has added. Raises StepError with pgAdmin's output.
    """
    database = data / "pgadmin4.db"
    existed = database.exists()
    output = _cli(environment, "setup-db")
    if not database.exists():
        raise StepError(f"pgAdmin did not create {database}: {output}")
    if existed and not changed:
        return
    output = _cli(environment, "load-servers", str(servers), "--replace", *user)
    # Its exit code is 0 even if the import failed.
    if f"{len(DATABASES)} Server(s)" not in output:
        servers.unlink()  # so that the next start imports the list again
        raise StepError(f"pgAdmin did not import {servers}: {output}")


def _cli(environment: Mapping[str, str], *arguments: str) -> str:
    """Run pgAdmin's own command line and return the end of its output. Raises StepError."""
    command = [str(PROGRAMS / "pgadmin4-cli"), *arguments]
    process = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    output = " ".join((process.stdout + process.stderr).split())[-500:]
    if process.returncode:
        raise StepError(f"pgAdmin's `{arguments[0]}` failed: {output}")
    return output


def _execute(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
