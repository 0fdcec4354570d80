"""Shared by all tests: the template, and a sandbox that shows every file a command writes."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from groups import Groups, start_order
from tools.backstage.scaffolder import Scaffolder

from accelerator_engine.__main__ import main
from accelerator_engine.options import Option, read_options

# A shell starts background jobs with SIGINT ignored, and the processes of a test would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "{{cookiecutter.projectName}}"
BODY = ROOT / FOLDER


def overlays(path: str) -> list[Path]:
    """Return the overlay folders of the body, nested ones too, that hold a path of the project."""
    folders = [*BODY.glob("variants/*"), *BODY.glob("variants/*/variants/*")]
    return sorted(folder for folder in folders if (folder / path).exists())


def in_project(name: str) -> str:
    """Return the path that a file of the body has in a project: the path without overlay folders."""
    return re.sub("^(?:variants/[^/]+/)+", "", name)


def in_body(path: str, variant: str = "") -> Path:
    """Return the file of the body for a path of the project; `variant` chooses where several variants have one."""
    folders = [folder for folder in (BODY, *overlays(path)) if (folder / path).exists()]
    if variant:
        folders = [BODY / "variants" / variant]
    (folder,) = folders
    return folder / path


def change(file: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file."""
    text = file.read_text(encoding="utf-8")
    assert old in text, (file, old)
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups | None:
    """Keep tests together that share servers or fixtures when two processes share the slow tests."""
    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the slowest groups first. This needs --no-loadscope-reorder: xdist would sort by number of tests."""
    items.sort(key=lambda item: start_order(item.nodeid))


def body_files() -> list[Path]:
    """Return the files of the body, without those that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", FOLDER],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def options() -> dict[str, Option]:
    """The options of this repository's accelerator.yaml by name."""
    return {option.name: option for option in read_options(ROOT / "accelerator.yaml")}


@dataclass(frozen=True)
class Sandbox:
    """An output folder with a neighbour that must stay as it is, and a home of its own."""

    path: Path

    @property
    def output(self) -> Path:
        """The folder for generated projects."""
        return self.path / "neighbours" / "output"

    @property
    def home(self) -> Path:
        """The home folder, for the files of the tools."""
        return self.path / "home"

    def engine(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `python -m accelerator_engine` in the output folder; a traceback is a failure."""
        completed = self.run("python", "-m", "accelerator_engine", *arguments, PYTHONPATH=str(ROOT))
        assert "Traceback" not in completed.stderr
        return completed

    def engine_here(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run the same in this process, which is faster; return exit status, stdout and stderr."""
        with contextlib.chdir(self.output):
            result = CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False)
        return result.exit_code, result.stdout, result.stderr

    def run(self, *command: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this Python environment in the output folder."""
        program, *arguments = map(str, command)
        return subprocess.run(
            [Path(sys.executable).parent / program, *arguments],
            cwd=self.output,
            env={**self._environment(), **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        foreign = ("COOKIECUTTER", "GIT_", "PYTHON")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**inherited, "HOME": str(self.home), "COLUMNS": "200", "NO_COLOR": "1", "GIT_CONFIG_NOSYSTEM": "1"}

    def written(self) -> list[str]:
        """Return the files in and beside the output folder, without those of the fixture."""
        neighbours = self.output.parent
        paths = {str(path.relative_to(neighbours)) for path in neighbours.rglob("*")}
        return sorted(paths - {"output", "victim.txt"})

    def untouched(self) -> bool:
        """Return whether no file was written and the neighbour is unchanged."""
        return not self.written() and (self.output.parent / "victim.txt").read_text() == "precious"


@pytest.fixture(scope="session")
def scaffolder() -> Iterator[Scaffolder]:
    """Backstage's scaffolder, started once per session."""
    with Scaffolder() as running:
        yield running


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """An empty output folder and its neighbour."""
    sandbox = Sandbox(tmp_path)
    sandbox.output.mkdir(parents=True)
    sandbox.home.mkdir()
    (sandbox.output.parent / "victim.txt").write_text("precious")
    return sandbox


@pytest.fixture
def copied_template(tmp_path: Path) -> Path:
    """A copy of the template that a test may change."""
    copy = tmp_path / "copied-template"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis", ".local")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    return copy
