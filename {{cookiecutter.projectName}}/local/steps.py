"""The pipeline's steps as `./run` takes them: names and files are checked first, so that no mistake starts a server."""

import difflib
import os
import subprocess
from collections.abc import Sequence

from local import commands, environments, startup
from local.errors import LocalError
from local.packages import SYSTEM_PYTHON
from local.state import PROJECT

ROLE = "pipeline"
# Commands that run several steps.
CHAINS = ("all", "retrain")
# The command that starts no server.
CHECK = "check"


def run(arguments: Sequence[str]) -> int:
    """Become `python -m pipeline` with these arguments, in the project's folder. Raises LocalError.

    Returns the exit status of the check if the check alone was asked for, or if it finds a mistake.
    """
    if wants_servers(arguments):
        require_step(arguments[0])
        status = check_before(arguments)
        if status or arguments[0] == CHECK:
            return status
        environment = commands.bound_environment(ROLE)
        # It may be relative to the folder that the caller is in.
        environment["SERVICE_BINDING_ROOT"] = os.path.abspath(environment["SERVICE_BINDING_ROOT"])
    else:
        require_environment()
        environment = dict(os.environ)
    # A person waits for it: the step prints its elapsed time.
    environment["STEP_IS_WATCHED"] = "1"
    commands.activate(environment, ROLE)
    os.chdir(PROJECT)
    commands.execute(["python", "-m", "pipeline", *arguments], environment)


def wants_servers(arguments: Sequence[str]) -> bool:
    """Return whether the arguments run a step: help, and a command line that begins with an option, run none."""
    return bool(arguments) and not arguments[0].startswith("-") and "--help" not in arguments


def check_before(arguments: Sequence[str]) -> int:
    """Check the files that a step reads before a server starts; return the exit status.

    A missing environment is installed after the check of the code, for the check of the rest. Raises LocalError.
    """
    status = check(arguments)
    if status or arguments[0] == CHECK or environments.is_complete(environments.environment(ROLE)):
        return status
    is_bound = bool(os.environ.get("SERVICE_BINDING_ROOT"))
    startup.install([ROLE] if is_bound else environments.ROLES, databases=not is_bound)
    return check(arguments)


def check(arguments: Sequence[str]) -> int:
    """Check the files that the steps among the arguments read, all files without a step; return the exit status.

    The pipeline does it, in less than a second. Without its environment, only Python code can be checked.
    """
    environment = environments.environment(ROLE)
    # -S hides the system's packages, so that the check is the same on every machine.
    python = [str(environment / "bin" / "python")] if environments.is_complete(environment) else [SYSTEM_PYTHON, "-S"]
    named = [name for name in names() if name in arguments and name != CHECK]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    command = [*python, "-m", f"pipeline.commands.{CHECK}", *named]
    return subprocess.run(command, cwd=PROJECT, env=variables).returncode


def names() -> list[str]:
    """Return what can be run: the chains, and one step or other command per module."""
    folders = (PROJECT / "pipeline" / "steps", PROJECT / "pipeline" / "commands")
    return [*CHAINS, *(path.stem for folder in folders for path in sorted(folder.glob("[a-z]*.py")))]


def require_step(name: str) -> None:
    """Raise LocalError with the name that comes nearest when there is no such step."""
    if name in names():
        return
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ":"
    raise LocalError(f"there is no step {name}{hint} `./run --help` lists them")


def require_environment() -> None:
    """Raise LocalError when there is no Python that could show the steps' help."""
    if not environments.is_complete(environments.environment(ROLE)):
        raise LocalError(
            f"the steps are {', '.join(names())}; run `make install` first to read about their options, "
            "or run a step, which installs what it needs"
        )
