"""Argo's own validation of its manifests, and the module that pins which Argo all tests use."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from tools import go_modules
from tools.installed import installed

HERE = Path(__file__).resolve().parent
PINNED = [HERE / "go.mod", HERE / "go.sum"]
MODULE = "github.com/argoproj/argo-workflows/v3"


def validate(files: Iterable[Path]) -> list[str]:
    """Return what Argo refuses in the manifests of files, one line an error.

    They are Workflows, WorkflowTemplates, CronWorkflows, and WorkflowEventBindings with what they submit. A template of
    another object is looked up among those of the same files. Files without any such object are an error too. Raises
    CannotInstall.
    """
    program = installed("argo-validate", [*PINNED, HERE / "main.go"], _build) / "validate"
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode not in (0, 1) or done.stderr:
        raise RuntimeError(f"Argo's validator failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()


def _build(target: Path) -> None:
    go_modules.build(HERE, target / "validate", ".")
