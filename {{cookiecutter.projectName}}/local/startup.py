"""Startup of the local servers: their installation, and the order in which they start."""

import concurrent.futures
import os
import pathlib
import subprocess
import time
from collections.abc import Mapping, Sequence

from local import certificates, environments, mlflow_backend, packages
from local.bindings import write_bindings
from local.clusters import Cluster
from local.errors import LocalError
from local.mlflow_backend import StoreCluster, StoredMlflowServer
from local.mlflow_server import MlflowServer
from local.processes import clean_environment, interrupted, server_account
from local.progress import Progress, say
from local.servers import Server
from local.state import PROJECT, State, location, locked

DATABASES = ("training", "inference")
SERVERS = (*DATABASES, "mlflow")


def servers(state: State, to_start: bool) -> list[Server]:
    """Return the servers; without `to_start` they can only be looked for and stopped."""

    def role(name: str) -> pathlib.Path | None:
        return environments.environment(name) if to_start else None

    clusters = [
        Cluster("trainer", "training", state, role("training-db")),
        Cluster("inference-app", "inference", state, role("inference-db")),
    ]
    settings = state.variables("mlflow")
    if not settings:
        return [*clusters, MlflowServer("mlflow", state, role("pipeline"))]
    store = StoreCluster(state)
    return [*clusters, store, StoredMlflowServer(state, role(mlflow_backend.ROLE), store, settings)]


def install_packages(databases: bool = True, liquibase: bool = True) -> None:
    """Install the system's packages that are missing. Raises LocalError."""
    fetch = liquibase and not environments.is_complete(environments.liquibase())
    packages.install(databases, java=liquibase, npm=fetch)


def install(roles: Sequence[str], databases: bool = True, liquibase: bool = True, optional: Sequence[str] = ()) -> None:
    """Install packages and environments that are missing. Raises LocalError, but not for a role in `optional`."""
    install_packages(databases, liquibase)
    if databases:
        environments.require_access()
    environments.install(roles, liquibase, optional)


def start(names: Sequence[str], roles: Sequence[str]) -> State:
    """Start the named servers side by side where they do not run; return their state. Raises LocalError."""
    if os.geteuid():
        # As root, install_packages creates the servers' user first.
        server_account()
    install_packages()
    state = State(location())
    with locked(state.folder):
        # Checks that the server user gets in, before minutes are spent on environments.
        state.prepare()
        backend = mlflow_backend.chosen(state) if "mlflow" in names else {}
        install([*roles, mlflow_backend.ROLE] if backend else roles)
        if backend:
            _keep_backend(state, backend)
        certificates.make_authority(state.folder / "authority")
        all_servers = servers(state, to_start=True)
        _side_by_side([server for server in all_servers if server.name in names])
        write_bindings(state, [server for server in all_servers if type(server) is Cluster])
        if "training" in names:
            _make_example(state)
    return state


def _keep_backend(state: State, backend: Mapping[str, str]) -> None:
    """Remember the settings of MLflow's stores if they are new and work. Raises LocalError when they do not."""
    if backend != state.variables("mlflow"):
        mlflow_backend.require(environments.environment(mlflow_backend.ROLE), backend)
        state.keep_variables("mlflow", dict(backend))


def _make_example(state: State) -> None:
    """Make the table of the first run in the training database, once. Raises LocalError."""
    program = PROJECT / "pipeline" / "commands" / "example_table.py"
    marker = state.folder / "training" / "example"
    if marker.exists() or not program.exists():
        return
    progress = Progress()
    with progress.shown(), progress.job("example table", lambda: "loading"):
        completed = subprocess.run(
            [environments.environment("pipeline") / "bin" / "python", "-m", "pipeline", "example_table"],
            cwd=PROJECT, env=clean_environment(SERVICE_BINDING_ROOT=str(state.folder / "bindings")),
            capture_output=True, text=True,
        )  # fmt: skip
    if completed.returncode:
        raise LocalError(completed.stderr.strip().removeprefix("error: "))
    marker.touch(mode=0o600)


def _side_by_side(to_start: Sequence[Server]) -> None:
    progress = Progress()
    with progress.shown(), concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_start_one, server, progress) for server in to_start]
        try:
            concurrent.futures.wait(jobs)
        except KeyboardInterrupt:
            interrupted.set()
            raise
    for job in jobs:
        job.result()


def _start_one(server: Server, progress: Progress) -> None:
    started, ran = time.monotonic(), server.is_running()
    with progress.job(server.name, lambda: "starting"):
        server.start()
    if not ran:
        say(f"{server.name:<10} {server.address}, started in {time.monotonic() - started:.1f} s")
