"""`python3 -m local install|start|stop|status|run|serve|doctor|path`: from the project's folder, any Python 3.11+."""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from local import certificates, environments, mlflow_backend, packages, serve
from local.bindings import write_bindings
from local.clusters import Cluster
from local.doctor import report
from local.errors import LocalError
from local.mlflow_backend import StoreCluster, StoredMlflowServer
from local.mlflow_server import MlflowServer
from local.processes import clean_environment, find, interrupted
from local.servers import Server
from local.state import PROJECT, State, location, locked, say

SERVERS = ("training", "inference", "mlflow")


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence and exit status 1, as every other mistake's."""

    def error(self, message: str) -> NoReturn:
        """Raise LocalError."""
        raise LocalError(f"{message}: see `python3 -m local --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    try:
        chosen = _parser().parse_args(arguments)
        return int(chosen.run(chosen) or 0)
    except LocalError as error:
        print(f"local: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"local: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("local: interrupted", file=sys.stderr)
        return 130
    return 1


def _parser() -> Parser:
    parser = Parser(prog="python3 -m local", description="Throw-away servers for a laptop.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    install = commands.add_parser("install", help="make present what the servers and the pipeline need")
    install.add_argument("--packages", action="store_true", help="only the system's packages (as root)")
    install.set_defaults(run=_install)
    commands.add_parser("start", help="start what does not run").set_defaults(run=_start)
    stop = commands.add_parser("stop", help="stop everything and remove its data")
    stop.add_argument("--keep", action="store_true", help="leave the data for the next start")
    stop.set_defaults(run=_stop)
    commands.add_parser("status", help="show what runs, and where").set_defaults(run=_status)
    run = commands.add_parser("run", help="start what does not run, then run a command with its bindings")
    run.add_argument("--environment", default="pipeline", metavar="ROLE", help="whose Python comes first")
    run.add_argument("--no-servers", action="store_true", help="only the environment: start and bind nothing")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    run.set_defaults(run=_run)
    serving = commands.add_parser("serve", help="start what does not run, then the API and the page, until Ctrl-C")
    serving.set_defaults(run=_serve)
    doctor = commands.add_parser("doctor", help="show what is needed and what is missing; changes nothing")
    doctor.set_defaults(run=_doctor)
    path = commands.add_parser("path", help="print where something is, or will be")
    path.add_argument("what", help="a role of requirements/ (pipeline, training-db, …), liquibase, cache, state")
    path.set_defaults(run=_path)
    return parser


def _servers(state: State, to_start: bool) -> list[Server]:
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


def _install(chosen: argparse.Namespace) -> None:
    install(environments.ROLES, only_packages=chosen.packages)
    say("everything is installed" if not chosen.packages else "all packages are installed")


def install(roles: Sequence[str], databases: bool = True, liquibase: bool = True, only_packages: bool = False) -> None:
    """Make present what is missing. Raises LocalError."""
    fetch = liquibase and not environments.is_complete(environments.liquibase())
    packages.install(databases, java=liquibase, npm=fetch)
    if only_packages:
        return
    if databases:
        environments.require_access()
    environments.install(roles, liquibase)


def _start(chosen: argparse.Namespace) -> None:
    state = start(SERVERS, environments.ROLES)
    say(f"bindings   {state.folder / 'bindings'}")


def start(names: Sequence[str], roles: Sequence[str]) -> State:
    """Start the named servers side by side where they do not run; return their state. Raises LocalError."""
    install(roles, only_packages=True)
    state = State(location())
    with locked(state.folder):
        # Whether the server user gets in is asked before minutes are spent on environments.
        state.prepare()
        backend = mlflow_backend.chosen(state) if "mlflow" in names else {}
        install([*roles, mlflow_backend.ROLE] if backend else roles)
        if backend != state.variables("mlflow") and backend:
            # What does not work is not kept.
            mlflow_backend.require(environments.environment(mlflow_backend.ROLE), backend)
            state.keep_variables("mlflow", backend)
        certificates.make_authority(state.folder / "authority")
        servers = _servers(state, to_start=True)
        _side_by_side([server for server in servers if server.name in names])
        write_bindings(state, [server for server in servers if type(server) is Cluster])
        if "training" in names:
            _make_example(state)
    return state


def _make_example(state: State) -> None:
    """Put the table of the first run into the training database, once. Raises LocalError."""
    program, marker = PROJECT / "pipeline" / "commands" / "example_table.py", state.folder / "training" / "example"
    if marker.exists() or not program.exists():
        return
    done = subprocess.run(
        [environments.environment("pipeline") / "bin" / "python", "-m", "pipeline", "example_table"],
        cwd=PROJECT, env=clean_environment(SERVICE_BINDING_ROOT=str(state.folder / "bindings")),
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise LocalError(done.stderr.strip().removeprefix("error: "))
    marker.touch(mode=0o600)


def _side_by_side(servers: Sequence[Server]) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_start_one, server) for server in servers]
        try:
            concurrent.futures.wait(jobs)
        except KeyboardInterrupt:
            interrupted.set()
            raise
    for job in jobs:
        job.result()


def _start_one(server: Server) -> None:
    started, ran = time.monotonic(), server.is_running()
    server.start()
    if not ran:
        say(f"{server.name:<10} localhost:{server.port}, started in {time.monotonic() - started:.1f} s")


def _stop(chosen: argparse.Namespace) -> None:
    with locked(location()):
        state = State(location())
        # The servers are found by their folders, not by what was kept, which may be damaged.
        servers = [*_servers(state, to_start=False), StoreCluster(state)]
        running = [server for server in servers if find(server.is_one)]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for job in [pool.submit(server.stop) for server in servers]:
                job.result()
        if not chosen.keep:
            state.remove()
    what = ", ".join(server.name for server in running) or "nothing was running"
    say(f"stopped: {what}; {'data kept in' if chosen.keep else 'removed'} {location()}")


def _status(chosen: argparse.Namespace) -> None:
    state = State(location())
    if not state.load():
        print(f"nothing has been started; the state would be in {state.folder}")
        return
    for server in _servers(state, to_start=False):
        print(server.describe())
    print(f"{'state':<10} {state.folder}")


def _run(chosen: argparse.Namespace) -> None:
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not command:
        raise LocalError("run what? give a command: `python3 -m local run -- python -m pipeline --help`")
    if chosen.no_servers:
        install([chosen.environment], databases=False, liquibase=False)
        environment = dict(os.environ)
    else:
        environment = bound_environment(chosen.environment)
    _activate(environment, environments.environment(chosen.environment))
    execute(command, environment)


def _serve(chosen: argparse.Namespace) -> None:
    role = serve.role()
    environment = bound_environment(role)
    _activate(environment, environments.environment(role))
    serve.serve(environments.environment(role), environment)


def execute(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Become the command. Raises LocalError when there is no such program."""
    program = shutil.which(command[0], path=environment["PATH"])
    if not program:
        raise LocalError(f"there is no command {command[0]}, neither on PATH nor in the environment")
    sys.stdout.flush()
    os.execve(program, command, environment)


def bound_environment(role: str) -> dict[str, str]:
    """Start what is needed and return the caller's variables with the bindings'; what a person has set wins.

    With SERVICE_BINDING_ROOT set nothing local is started, with MLFLOW_TRACKING_URI set no MLflow server.
    Raises LocalError.
    """
    environment = dict(os.environ)
    if environment.get("SERVICE_BINDING_ROOT"):
        install([role], databases=False)
        return environment
    own = bool(environment.get("MLFLOW_TRACKING_URI"))
    names = SERVERS[:2] if own else SERVERS
    state = start(names, list(dict.fromkeys([*environments.ROLES, role])))
    environment["SERVICE_BINDING_ROOT"] = str(state.folder / "bindings")
    if not own:
        environment = mlflow_backend.without_keys(environment)
        environment["MLFLOW_TRACKING_URI"] = MlflowServer("mlflow", state, None).address
    _bypass_proxies(environment)
    return environment


def _activate(environment: dict[str, str], folder: pathlib.Path) -> None:
    """Put a Python environment and Liquibase first, as an environment's `activate` does."""
    environment.pop("PYTHONHOME", None)
    environment["VIRTUAL_ENV"] = str(folder)
    rest = environment.get("PATH") or os.defpath
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), str(environments.liquibase()), rest])


def _bypass_proxies(environment: dict[str, str]) -> None:
    """Let requests to the local servers go past a proxy."""
    if any(name.lower() in ("http_proxy", "all_proxy") for name in environment):
        for name in ("no_proxy", "NO_PROXY"):
            hosts = [environment[name]] if environment.get(name) else []
            environment[name] = ",".join([*hosts, "localhost", "127.0.0.1"])


def _doctor(chosen: argparse.Namespace) -> int:
    print("on this machine:")
    bound = os.environ.get("SERVICE_BINDING_ROOT")
    state = State(location())
    started = state.load()
    backend = {} if bound or os.environ.get("MLFLOW_TRACKING_URI") else mlflow_backend.chosen(state)
    missing = report([*environments.ROLES, mlflow_backend.ROLE] if backend else environments.ROLES)
    if backend and not missing:
        missing += mlflow_backend.report(state, backend)
    running = started and all(server.is_running() for server in _servers(state, to_start=False))
    if not missing and (bound or running):
        sys.stdout.flush()
        # What the databases need is asked there.
        environment = bound_environment("pipeline")
        _activate(environment, environments.environment("pipeline"))
        execute(["python", "-m", "pipeline", "doctor"], environment)
    if not missing:
        print("missing  local servers: they do not run\n         mend: run `make start`")
    return 1


def _path(chosen: argparse.Namespace) -> None:
    if chosen.what == "liquibase":
        print(environments.liquibase())
    elif chosen.what == "cache":
        print(environments.cache())
    elif chosen.what == "state":
        print(location())
    else:
        print(environments.environment(chosen.what))


if __name__ == "__main__":
    sys.exit(main())
