"""pgAdmin with both databases in its list.

`python -m pgadmin` is for the person at this machine: it listens on the loopback address alone, and without a login.
`python -m pgadmin serve` is for others: it asks for the login in $PGADMIN_SETUP_EMAIL and $PGADMIN_SETUP_PASSWORD.
"""

# This folder is no package with an __init__.py: pgAdmin's own code has a package of that name, which then comes first.

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

from local.processes import is_free
from local.state import make_folder, write
from pgadmin.servers import DATABASES, FOLDER, SERVERS, write_files
from pipeline.errors import StepError

HERE = pathlib.Path(__file__).resolve().parent
# Of this Python environment.
PROGRAMS = pathlib.Path(sys.executable).parent
LOGIN = ("PGADMIN_SETUP_EMAIL", "PGADMIN_SETUP_PASSWORD")
# pgAdmin keeps sessions in its one process; a thread answers a request.
THREADS = 25


def main(arguments: list[str]) -> None:
    """Become pgAdmin; a mistake is told in one sentence."""
    try:
        if arguments not in ([], ["serve"]):
            raise StepError(f"{' '.join(arguments)!r} is not known; allowed is nothing, or serve")
        serve() if arguments else desktop()
    except StepError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or FOLDER} cannot be used: {error.strerror}")


def desktop() -> None:
    """Become pgAdmin for the person at this machine."""
    port = os.environ.get("PORT") or str(next((port for port in range(5050, 5070) if is_free(port)), 0))
    data = _data()
    changed = write_files(data)
    environment = {**_environment(data, "OFF"), "PORT": port}
    _prepare(environment, data, data / SERVERS, changed, [])
    _become([str(PROGRAMS / "pgadmin4")], environment)


def serve() -> None:
    """Become pgAdmin for others, behind its login."""
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
    # pgAdmin knows it now, hashed.
    del environment[LOGIN[1]]
    address = f"0.0.0.0:{environment['PORT']}"
    options = ["--workers", "1", "--threads", str(THREADS), "--no-control-socket", "--access-logfile", "-"]
    _become([str(PROGRAMS / "gunicorn"), "--bind", address, *options, "pgadmin4.pgAdmin4:app"], environment)


def _data() -> pathlib.Path:
    """Return the folder of all that pgAdmin keeps."""
    return pathlib.Path(os.environ.get("PGADMIN_DATA") or FOLDER).absolute()


def _bindings_of_environment(folder: pathlib.Path) -> pathlib.Path:
    """Write the bindings that are told as $BINDING_<ROLE>_<KEY>, and take them out of the environment."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _, role, _ in DATABASES:
        prefix = f"BINDING_{role.upper().replace('-', '_')}_"
        make_folder(folder / role, 0o700)
        for variable in [variable for variable in os.environ if variable.startswith(prefix)]:
            key = variable.removeprefix(prefix).lower()
            write(folder / role / ("ca.crt" if key == "ca_crt" else key), os.environ.pop(variable))
    return folder


def _storage_name(user: str) -> str:
    """Return the name that pgAdmin gives to the folder of a user's files."""
    name = f"pga_user_{user}" if user[0].isdigit() else user
    return name.replace("@", "_").replace("/", "slash").replace("\\", "slash")


def _environment(data: pathlib.Path, server_mode: str) -> dict[str, str]:
    told = {
        "PGADMIN_DATA": str(data),
        "PGADMIN_SERVER_MODE": server_mode,
        "CONFIG_DISTRO_FILE_PATH": str(HERE / "config_distro.py"),
    }
    return {**os.environ, **told}


def _prepare(
    environment: Mapping[str, str], data: pathlib.Path, servers: pathlib.Path, load: bool, whose: Sequence[str]
) -> None:
    """Make pgAdmin's own database, and let it import the list where that is another than before.

    What a person has added beside it is replaced then. Raises StepError with what pgAdmin said.
    """
    database = data / "pgadmin4.db"
    known = database.exists()
    told = _cli(environment, "setup-db")
    if not database.exists():
        raise StepError(f"pgAdmin did not make {database}: {told}")
    if known and not load:
        return
    told = _cli(environment, "load-servers", str(servers), "--replace", *whose)
    # It exits with 0 whatever happened.
    if f"{len(DATABASES)} Server(s)" not in told:
        servers.unlink()  # else the next start would take them for known
        raise StepError(f"pgAdmin did not import {servers}: {told}")


def _cli(environment: Mapping[str, str], *arguments: str) -> str:
    """Run pgAdmin's own command line and return what it said. Raises StepError."""
    command = [str(PROGRAMS / "pgadmin4-cli"), *arguments]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    told = " ".join((done.stdout + done.stderr).split())[-500:]
    if done.returncode:
        raise StepError(f"pgAdmin's `{arguments[0]}` failed: {told}")
    return told


def _become(command: Sequence[str], environment: Mapping[str, str]) -> None:
    sys.stdout.flush()
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
