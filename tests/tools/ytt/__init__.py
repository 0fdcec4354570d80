"""Carvel's ytt, built from the Go modules that go.mod and go.sum pin."""

from pathlib import Path

from tools import go_modules
from tools.installed import installed

HERE = Path(__file__).resolve().parent
VERSION = "0.52.0"


def folder() -> Path:
    """Return the folder that holds the program `ytt`, for PATH. Raises CannotInstall."""
    return installed("ytt", [HERE / "go.mod", HERE / "go.sum", Path(__file__)], _build)


def _build(target: Path) -> None:
    # Without its version, ytt rejects every minimumRequiredVersion.
    go_modules.build(HERE, target / "ytt", "carvel.dev/ytt/cmd/ytt", {"carvel.dev/ytt/pkg/version.Version": VERSION})
