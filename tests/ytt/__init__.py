"""The real ytt, built from the Go modules that go.mod and go.sum pin."""

from pathlib import Path

import go_modules
from installed import installed

HERE = Path(__file__).resolve().parent
VERSION = "0.52.0"


def folder() -> Path:
    """Return the folder with the program `ytt`, for PATH. Raises CannotInstall."""
    return installed("ytt", [HERE / "go.mod", HERE / "go.sum", Path(__file__)], _build)


def _build(target: Path) -> None:
    # A ytt that does not know its version accepts no minimumRequiredVersion.
    go_modules.build(HERE, target / "ytt", "carvel.dev/ytt/cmd/ytt", {"carvel.dev/ytt/pkg/version.Version": VERSION})
