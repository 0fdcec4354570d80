"""actionlint, built from the Go modules that go.mod and go.sum pin."""

from pathlib import Path

from tools import go_modules
from tools.installed import installed

HERE = Path(__file__).resolve().parent


def program() -> Path:
    """Return the program, which also runs shellcheck on the scripts of a workflow. Raises CannotInstall."""
    return installed("actionlint", [HERE / "go.mod", HERE / "go.sum"], _build) / "actionlint"


def _build(target: Path) -> None:
    go_modules.build(HERE, target / "actionlint", "github.com/rhysd/actionlint/cmd/actionlint")
