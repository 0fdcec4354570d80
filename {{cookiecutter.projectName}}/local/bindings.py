"""Service bindings (servicebinding.io): one folder a database role, one file a key."""

import pathlib

from local.clusters import SUPERUSER, Cluster
from local.state import State, make_folder, write


def write_bindings(state: State, clusters: list[Cluster]) -> pathlib.Path:
    """Write the bindings that differ from what lies there; return their folder."""
    folder = state.folder / "bindings"
    make_folder(folder, 0o700)
    for cluster in clusters:
        _write_binding(folder / f"{cluster.name}-{SUPERUSER}", cluster, SUPERUSER)
        _write_binding(folder / cluster.binding, cluster, cluster.role)
    return folder


def _write_binding(folder: pathlib.Path, cluster: Cluster, username: str) -> None:
    keys = {
        "type": "postgresql",
        "provider": "local",
        "host": "localhost",
        "port": str(cluster.port),
        "database": cluster.name,
        "username": username,
        "password": cluster.state.password(folder.name),
        "sslmode": "verify-full",
        "ca.crt": (cluster.state.folder / "authority" / "ca.crt").read_text(encoding="ascii"),
    }
    make_folder(folder, 0o700)
    for key, value in keys.items():
        path = folder / key
        if not path.exists() or path.read_text(encoding="utf-8") != value:
            write(path, value)
