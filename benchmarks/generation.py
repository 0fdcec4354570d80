"""How long it takes to make a project with the default answers."""

import contextlib
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.figures import Figure, interleave, seconds

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOT_IN_A_CLONE = (".git", ".venv", "build", ".*_cache", ".hypothesis", "__pycache__")


@contextlib.contextmanager
def template() -> Iterator[pathlib.Path]:
    """Give a copy of this repository as a clone would have it: tools leave caches, also in the body."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, ROOT.name)
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE))
        yield copy


def generate(source: pathlib.Path, folder: pathlib.Path, **answers: str) -> None:
    """Make a project in `folder` with this environment's cookiecutter; what is not answered has its default."""
    command = [pathlib.Path(sys.executable).with_name("cookiecutter"), "--no-input", "--default-config"]
    given = [f"{name}={value}" for name, value in answers.items()]
    subprocess.run([*command, "--output-dir", folder, source, *given], check=True, stdout=subprocess.DEVNULL)


def measure(rounds: int) -> list[Figure]:
    """Return the median seconds of the command `cookiecutter`, start of Python included."""
    with template() as source:
        taken = interleave(rounds, {"cookiecutter": lambda: _one(source)})["cookiecutter"]
    return [
        Figure(
            "Generation with the default answers",
            f"{statistics.median(taken):.2f} s",
            rounds=rounds,
            detail=f"the whole command `cookiecutter`; {min(taken):.2f} to {max(taken):.2f} s",
        )
    ]


def _one(source: pathlib.Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds(lambda: generate(source, pathlib.Path(folder)))
