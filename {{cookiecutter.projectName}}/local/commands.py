"""Commands that run in a role's environment, with the bindings of the servers."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from local import environments, mlflow_backend, startup
from local.errors import LocalError
from local.mlflow_server import MlflowServer


def execute(command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Become the command. Raises LocalError when there is no such program."""
    program = shutil.which(command[0], path=environment["PATH"])
    if not program:
        raise LocalError(f"there is no command {command[0]}, neither on PATH nor in the environment")
    sys.stdout.flush()
    os.execve(program, list(command), environment)


def bound_environment(role: str) -> dict[str, str]:
    """Start the needed servers; return the caller's variables, which take precedence, and those of the bindings.

    With SERVICE_BINDING_ROOT set, no local server is started; with MLFLOW_TRACKING_URI set, no MLflow server.
    Raises LocalError.
    """
    environment = dict(os.environ)
    if environment.get("SERVICE_BINDING_ROOT"):
        startup.install([role], databases=False)
        return environment
    own = bool(environment.get("MLFLOW_TRACKING_URI"))
    names = startup.DATABASES if own else startup.SERVERS
    state = startup.start(names, list(dict.fromkeys([*environments.ROLES, role])))
    environment["SERVICE_BINDING_ROOT"] = str(state.folder / "bindings")
    if not own:
        environment = mlflow_backend.without_keys(environment)
        environment["MLFLOW_TRACKING_URI"] = MlflowServer("mlflow", state, None).address
    _bypass_proxies(environment)
    return environment


def activate(environment: dict[str, str], role: str) -> None:
    """Put a role's Python environment and Liquibase first, as an environment's `activate` does."""
    folder = environments.environment(role)
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
