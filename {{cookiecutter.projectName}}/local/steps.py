"""The pipeline's steps as `./run` takes them: checked first, so that a wrong name starts no server."""

import difflib
import os
from collections.abc import Sequence
from typing import NoReturn

from local import commands, environments
from local.errors import LocalError
from local.state import PROJECT

ROLE = "pipeline"
# Commands that run several steps.
CHAINS = ("all", "retrain")


def run(arguments: Sequence[str]) -> NoReturn:
    """Become `python -m pipeline` with these arguments, in the project's folder. Raises LocalError."""
    if wants_servers(arguments):
        require_step(arguments[0])
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
