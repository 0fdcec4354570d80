"""Writes the list of servers that pgAdmin imports from the service bindings: `python -m pgadmin.servers`.

The list refers to a passfile, the only file with passwords. It has the roles with the fewest rights: trainer and app.
"""

import argparse
import json
import pathlib
import sys
from typing import TypedDict

from local.state import make_folder, write
from pipeline.databases import Binding, binding
from pipeline.errors import StepError
from pipeline.settings import settings

FOLDER = pathlib.Path(__file__).resolve().parent / "data"
SERVERS = "servers.json"
PASSFILE = "passfile"
# Title, binding, colour of the tag.
DATABASES = (("Training", "trainer", "#1b6ec2"), ("Inference", "inference-app", "#2e8540"))


class Tag(TypedDict):
    """A coloured label in pgAdmin's tree."""

    text: str
    color: str


class Server(TypedDict):
    """A server as pgAdmin's `load-servers` reads it."""

    Name: str
    Group: str
    Host: str
    Port: int
    MaintenanceDB: str
    Username: str
    Comment: str
    ConnectionParameters: dict[str, str | int]
    Tags: list[Tag]


def main() -> None:
    """Write the files and print their paths, or exit with a one-line error."""
    parser = argparse.ArgumentParser(
        prog="python -m pgadmin.servers", description="Writes the list of servers and the passfile for pgAdmin."
    )
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=FOLDER, help="output folder (pgadmin/data)")
    parser.add_argument(
        "--storage", action="store_true", help="for a pgAdmin in server mode: FOLDER is its user's storage folder"
    )
    chosen = parser.parse_args()
    try:
        write_files(chosen.folder.absolute(), storage=chosen.storage)
    except StepError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or chosen.folder} cannot be written: {error.strerror}")
    print(f"servers    {chosen.folder / SERVERS}")
    print(f"passfile   {chosen.folder / PASSFILE}")


def write_files(folder: pathlib.Path, storage: bool = False) -> bool:
    """Write the list, the passfile and the certificates; return whether the list has changed.

    With `storage`, paths in the list start at the user's storage folder, as pgAdmin in server mode expects.
    Only the owner can read the files. Raises StepError, OSError.
    """
    # Read everything before writing anything.
    bindings = [binding(role) for _, role, _ in DATABASES]
    lines = [passfile_line(bound) for bound in bindings]
    text = json.dumps(servers(bindings, pathlib.Path("/") if storage else folder), indent=2) + "\n"
    certificates = {
        certificate(bound): pathlib.Path(bound.ca_file).read_text("utf-8") for bound in bindings if bound.ca_file
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_folder(folder, 0o700)
    for name, content in {PASSFILE: "".join(lines), **certificates}.items():
        write(folder / name, content)
    file = folder / SERVERS
    previous = file.read_text("utf-8") if file.exists() else ""
    write(file, text)
    return text != previous


def servers(bindings: list[Binding], folder: pathlib.Path) -> dict[str, dict[str, Server]]:
    """Return the list as pgAdmin's `load-servers` reads it; it holds no password."""
    entries = [_server(title, colour, bound, folder) for (title, _, colour), bound in zip(DATABASES, bindings)]
    return {"Servers": {str(number): entry for number, entry in enumerate(entries, start=1)}}


def _server(title: str, colour: str, bound: Binding, folder: pathlib.Path) -> Server:
    # The same default as in pipeline.databases.connect: with an authority's certificate, verify the host name.
    parameters: dict[str, str | int] = {"sslmode": bound.sslmode or ("verify-full" if bound.ca_file else "prefer")}
    if bound.ca_file:
        parameters["sslrootcert"] = str(folder / certificate(bound))
    return {
        "Name": f"{title} {settings().project_name}",
        "Group": f"Server Group {title} {settings().project_name}",
        "Host": bound.host,
        "Port": _port(bound),
        "MaintenanceDB": bound.database,
        "Username": bound.username,
        "Comment": f"{bound.type}, from the service binding {bound.name}",
        "ConnectionParameters": {**parameters, "connect_timeout": 10, "passfile": str(folder / PASSFILE)},
        "Tags": [{"text": title.lower(), "color": colour}, {"text": bound.type, "color": colour}],
    }


def _port(bound: Binding) -> int:
    """Return the port as a number, as pgAdmin expects. Raises StepError for anything else."""
    if not (bound.port.isascii() and bound.port.isdigit() and 0 < int(bound.port) < 65536):
        raise StepError(f"the service binding {bound.name} has the port {bound.port!r}; allowed is 1 to 65535")
    return int(bound.port)


def certificate(bound: Binding) -> str:
    """Return the name of the file with the certificate of a binding's authority."""
    return f"{bound.name}-ca.crt"


def passfile_line(bound: Binding) -> str:
    """Return the binding's line of libpq's password file. Raises StepError for a line break in one of its keys."""
    fields = (bound.host, bound.port, bound.database, bound.username, bound.password)
    if any("\n" in field or "\r" in field for field in fields):
        raise StepError(f"the service binding {bound.name} has a line break in a key; a passfile cannot hold it")
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"


if __name__ == "__main__":
    main()
