"""`python3 -m local install|start|stop|status|run|serve|doctor|next|sql|lock|path` in the project's folder."""

import argparse
import concurrent.futures
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from local import commands, environments, lock_files, mlflow_backend, next_commands, serve, sql_bodies, startup
from local.doctor import report
from local.errors import LocalError, exit_status
from local.mlflow_backend import StoreCluster
from local.processes import find
from local.progress import say
from local.state import State, location, locked


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence and exit status 1, as every other mistake's."""

    def error(self, message: str) -> NoReturn:
        """Raise LocalError."""
        raise LocalError(f"{message}: see `python3 -m local --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""

    def command() -> int | None:
        options = _parser().parse_args(arguments)
        status: int | None = options.run(options)
        return status

    return exit_status("local", command)


def _parser() -> Parser:
    parser = Parser(prog="python3 -m local", description="Throw-away servers for a laptop.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    install = subparsers.add_parser("install", help="install what the servers, the pipeline and the app need")
    install.add_argument("--packages", action="store_true", help="only the system's packages (as root)")
    install.set_defaults(run=_install)
    subparsers.add_parser("start", help="start what does not run").set_defaults(run=_start)
    stop = subparsers.add_parser("stop", help="stop everything and remove its data")
    stop.add_argument("--keep", action="store_true", help="leave the data for the next start")
    stop.set_defaults(run=_stop)
    subparsers.add_parser("status", help="show what runs, and where").set_defaults(run=_status)
    run = subparsers.add_parser("run", help="start what does not run, then run a command with its bindings")
    run.add_argument("--environment", default="pipeline", metavar="ROLE", help="whose Python comes first")
    run.add_argument("--no-servers", action="store_true", help="only the environment: start and bind nothing")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    run.set_defaults(run=_run)
    serving = subparsers.add_parser("serve", help="start what does not run, then the API and the page, until Ctrl-C")
    serving.set_defaults(run=_serve)
    doctor = subparsers.add_parser("doctor", help="show what is needed and what is missing; changes nothing")
    doctor.set_defaults(run=_doctor)
    subparsers.add_parser("next", help="show what to run after the demo").set_defaults(run=_next)
    sql = subparsers.add_parser("sql", help="copy the modules of database/python into the change sets that name them")
    sql.add_argument("--check", action="store_true", help="only fail if a copy is stale")
    sql.add_argument("folders", nargs="*", type=pathlib.Path, metavar="FOLDER", help="to write; then: to read from too")
    sql.set_defaults(run=sql_bodies.run)
    lock = subparsers.add_parser("lock", help="write the lock files, with one more package if you name one")
    lock.add_argument("--add", default="", metavar="PACKAGE", help="as pip knows it: pandas, pandas==2.3.3")
    lock.add_argument("--role", default="pipeline", help="whose package it is (default: pipeline)")
    lock.set_defaults(run=_lock)
    path = subparsers.add_parser("path", help="print where something is, or will be")
    path.add_argument("what", help="a role of requirements/ (pipeline, training-db, …), liquibase, cache, state")
    path.set_defaults(run=_path)
    return parser


def _install(options: argparse.Namespace) -> None:
    if options.packages:
        startup.install_packages()
        say("all packages are installed")
        return
    app = serve.role()
    startup.install(environments.ROLES, optional=[app])
    complete = environments.is_complete(environments.environment(app))
    say("everything is installed" if complete else "everything but the app's environment is installed")


def _start(options: argparse.Namespace) -> None:
    state = startup.start(startup.SERVERS, environments.ROLES)
    say(f"bindings   {state.folder / 'bindings'}")


def _stop(options: argparse.Namespace) -> None:
    with locked(location()):
        state = State(location())
        # The servers are found by their folders: state.json may be damaged.
        servers = [*startup.servers(state, to_start=False), StoreCluster(state)]
        running = [server for server in servers if find(server.is_one)]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for job in [pool.submit(server.stop) for server in servers]:
                job.result()
        if not options.keep:
            state.remove()
    names = ", ".join(server.name for server in running) or "nothing was running"
    say(f"stopped: {names}; {'data kept in' if options.keep else 'removed'} {location()}")


def _status(options: argparse.Namespace) -> None:
    state = State(location())
    if not state.load():
        print(f"nothing has been started; the state would be in {state.folder}")
        return
    for server in startup.servers(state, to_start=False):
        print(server.describe())
    if page := next_commands.experiment_page(state):
        print(f"{'runs':<10} {page}")
    print(f"{'state':<10} {state.folder}")


def _run(options: argparse.Namespace) -> None:
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise LocalError("run what? give a command: `python3 -m local run -- python`; `./run --help` lists the steps")
    if options.no_servers:
        startup.install([options.environment], databases=False, liquibase=False)
        environment = dict(os.environ)
    else:
        environment = commands.bound_environment(options.environment)
    commands.activate(environment, options.environment)
    commands.execute(command, environment)


def _serve(options: argparse.Namespace) -> None:
    role = serve.role()
    environment = commands.bound_environment(role)
    commands.activate(environment, role)
    serve.serve(environments.environment(role), environment)


def _doctor(options: argparse.Namespace) -> int:
    print("on this machine:")
    bound = os.environ.get("SERVICE_BINDING_ROOT")
    state = State(location())
    state.load()
    backend = {} if bound or os.environ.get("MLFLOW_TRACKING_URI") else mlflow_backend.chosen(state)
    missing = report([*environments.ROLES, mlflow_backend.ROLE] if backend else environments.ROLES)
    if backend and not missing:
        missing += mlflow_backend.report(state, backend)
    stopped = [] if bound else _stopped(state)
    if not missing and not stopped:
        sys.stdout.flush()
        # It asks the databases for what they need.
        environment = commands.bound_environment("pipeline")
        commands.activate(environment, "pipeline")
        commands.execute(["python", "-m", "pipeline", "doctor"], environment)
    if not missing:
        print(f"missing  running servers: {', '.join(stopped)}\n         fix: run `make start`")
    return 1


def _stopped(state: State) -> list[str]:
    """Return the names of the needed local servers that do not run."""
    own = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    servers = startup.servers(state, to_start=False)
    needed = [server for server in servers if server.name in startup.DATABASES or not own]
    return [server.name for server in needed if not server.is_running()]


def _next(options: argparse.Namespace) -> None:
    state = State(location())
    state.load()
    print("\n".join(next_commands.lines(state)))


def _lock(options: argparse.Namespace) -> None:
    lock_files.lock(options.add.split(), options.role or "pipeline")


def _path(options: argparse.Namespace) -> None:
    if options.what == "liquibase":
        print(environments.liquibase())
    elif options.what == "cache":
        print(environments.cache())
    elif options.what == "state":
        print(location())
    else:
        print(environments.environment(options.what))


if __name__ == "__main__":
    sys.exit(main())
