"""The names that identify a pipeline run and the code that it runs."""

import functools
import getpass
import hashlib
import os
import pathlib
import re
import socket
import subprocess
import time

from pipeline.errors import StepError
from pipeline.settings import ROOT

# A run's name stands in MLflow's searches, in Liquibase's lock (255 characters with host and address) and in commands.
RUN_NAME = "[A-Za-z0-9._-]{1,100}"


def pipeline_run() -> str:
    """Return the name that all steps of a pipeline run share: $PIPELINE_RUN, or a new name for this process.

    Raises StepError when $PIPELINE_RUN holds a character that is not allowed.
    """
    name = os.environ.get("PIPELINE_RUN") or _new_name()
    if not re.fullmatch(RUN_NAME, name):
        raise StepError(f"PIPELINE_RUN is {name!r}; allowed are 1 to 100 letters, digits, dots, hyphens, underscores")
    os.environ["PIPELINE_RUN"] = name
    return name


def is_named() -> bool:
    """Return whether an orchestrator or a person chose the run's name."""
    return os.environ.get("PIPELINE_RUN", "") not in ("", _new_name())


@functools.cache
def _new_name() -> str:
    """Return the name of this process's own run."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"


@functools.cache
def git_commit() -> str:
    """Return $GIT_COMMIT, else the commit checked out here, else `uncommitted`."""
    if os.environ.get("GIT_COMMIT"):
        return os.environ["GIT_COMMIT"]
    return _git("rev-parse", "HEAD") or "uncommitted"


def code_tag(folder: str) -> str:
    """Return the Liquibase tag for a changelog folder: the commit, or a hash of uncommitted files.

    $GIT_COMMIT is trusted without asking git: whoever sets it has checked that commit out, and git may be missing.
    """
    commit = git_commit()
    if os.environ.get("GIT_COMMIT"):
        return commit
    if commit != "uncommitted" and not _git("status", "--porcelain", "--", folder):
        return commit
    digest = hashlib.sha256()
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return f"uncommitted-{digest.hexdigest()[:12]}"


def _git(*arguments: str) -> str:
    """Return git's output for this folder; empty without git, or when the folder is not a work tree's root."""
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        if pathlib.Path(top).resolve() != ROOT:
            return ""
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def person() -> str:
    """Return login name and host of the person who runs this command; `uid N` where the user has no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
