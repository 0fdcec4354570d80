"""Argo's own validation of its manifests; go.mod pins the Argo version of all tests."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from tools import go_modules
from tools.installed import installed

HERE = Path(__file__).resolve().parent
PINNED = [HERE / "go.mod", HERE / "go.sum"]
MODULE = "github.com/argoproj/argo-workflows/v3"


def validate(files: Iterable[Path]) -> list[str]:
    """Return Argo's errors about the manifests in files, one line per error.

    It validates Workflows, WorkflowTemplates, CronWorkflows, and WorkflowEventBindings with the Workflows that they
    submit. References to WorkflowTemplates are resolved among the same files. Files without any such object are an
    error too. Raises CannotInstall.
    """
    program = installed("argo-validate", [*PINNED, HERE / "main.go"], _build) / "validate"
    result = subprocess.run([program, *files], capture_output=True, text=True, timeout=120, check=False)
    if result.returncode not in (0, 1) or result.stderr:
        raise RuntimeError(f"Argo's validator failed:\n{result.stderr[-2000:]}")
    return result.stdout.splitlines()


def _build(target: Path) -> None:
    go_modules.build(HERE, target / "validate", ".")
