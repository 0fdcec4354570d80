"""The list of servers that pgAdmin imports, made from the service bindings: `python -m pgadmin.servers`.

It names a passfile, which alone holds the passwords. The roles are those with the fewest rights: who trains, the app.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

from local.state import make_folder, write
from pipeline.databases import Binding, binding
from pipeline.errors import StepError
from pipeline.settings import settings

FOLDER = pathlib.Path(__file__).resolve().parent / "data"
SERVERS = "servers.json"
PASSFILE = "passfile"
# Title, binding, colour of the tag.
DATABASES = (("Training", "trainer", "#1b6ec2"), ("Inference", "inference-app", "#2e8540"))


def main() -> None:
    """Write the files and say where they are; a mistake is told in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m pgadmin.servers", description="Writes what pgAdmin imports.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=FOLDER, help="where to (pgadmin/data)")
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
    """Write the list, the passfile and the certificates; return whether the list is another than before.

    With `storage` the files are named as a pgAdmin in server mode wants it: from its user's storage folder on.
    Every file can be read by its owner alone. Raises StepError, OSError.
    """
    # All is read before anything is written.
    found = [binding(role) for _, role, _ in DATABASES]
    lines = [passfile_line(each) for each in found]
    listed = json.dumps(servers(found, pathlib.Path("/") if storage else folder), indent=2) + "\n"
    certificates = {certificate(each): pathlib.Path(each.ca_file).read_text("utf-8") for each in found if each.ca_file}
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_folder(folder, 0o700)
    for name, text in {PASSFILE: "".join(lines), **certificates}.items():
        write(folder / name, text)
    file = folder / SERVERS
    before = file.read_text("utf-8") if file.exists() else ""
    write(file, listed)
    return listed != before


def servers(found: list[Binding], folder: pathlib.Path) -> dict[str, Any]:
    """Return the list as pgAdmin's `load-servers` reads it: no password is in it."""
    entries = [_server(title, colour, each, folder) for (title, _, colour), each in zip(DATABASES, found)]
    return {"Servers": {str(number): entry for number, entry in enumerate(entries, start=1)}}


def _server(title: str, colour: str, found: Binding, folder: pathlib.Path) -> dict[str, Any]:
    # As pipeline.databases.connect does: with an authority's certificate nothing less than a verified name.
    parameters = {"sslmode": found.sslmode or ("verify-full" if found.ca_file else "prefer")}
    if found.ca_file:
        parameters["sslrootcert"] = str(folder / certificate(found))
    return {
        "Name": f"{title} {settings().project_name}",
        "Group": f"Server Group {title} {settings().project_name}",
        "Host": found.host,
        "Port": _port(found),
        "MaintenanceDB": found.database,
        "Username": found.username,
        "Comment": f"{found.type}, as the service binding {found.name} has it",
        "ConnectionParameters": {**parameters, "connect_timeout": 10, "passfile": str(folder / PASSFILE)},
        "Tags": [{"text": title.lower(), "color": colour}, {"text": found.type, "color": colour}],
    }


def _port(found: Binding) -> int:
    """Return the port as the number that pgAdmin wants. Raises StepError when it is none."""
    if not (found.port.isascii() and found.port.isdigit() and 0 < int(found.port) < 65536):
        raise StepError(f"the service binding {found.name} has the port {found.port!r}; allowed is 1 to 65535")
    return int(found.port)


def certificate(found: Binding) -> str:
    """Return the name of the file with the certificate of a binding's authority."""
    return f"{found.name}-ca.crt"


def passfile_line(found: Binding) -> str:
    """Return the binding's line of libpq's password file. Raises StepError for a line break in one of its keys."""
    fields = (found.host, found.port, found.database, found.username, found.password)
    if any("\n" in field or "\r" in field for field in fields):
        raise StepError(f"the service binding {found.name} has a line break in a key; a passfile cannot hold it")
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"


if __name__ == "__main__":
    main()
