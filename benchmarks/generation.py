"""The time to generate a project with the default answers."""

import contextlib
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from benchmarks.figures import Figure, interleave, seconds

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOT_IN_A_CLONE = (".git", ".venv", "build", ".*_cache", ".hypothesis", "__pycache__")


@contextlib.contextmanager
def template() -> Iterator[pathlib.Path]:
    """Yield a copy of this repository without the caches of tools, like a clone."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, ROOT.name)
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE))
        yield copy


def generate(source: pathlib.Path, folder: pathlib.Path, **answers: str) -> None:
    """Generate a project in `folder` with cookiecutter; other questions have their defaults."""
    command = [pathlib.Path(sys.executable).with_name("cookiecutter"), "--no-input", "--default-config"]
    arguments = [f"{name}={value}" for name, value in answers.items()]
    subprocess.run([*command, "--output-dir", folder, source, *arguments], check=True, stdout=subprocess.DEVNULL)


def measure(rounds: int) -> list[Figure]:
    """Return the median seconds of both commands, with the start of Python, and of a large tree."""
    with template() as source, large_accelerator() as large:
        durations = interleave(
            rounds,
            {
                "cookiecutter": lambda: _timed(lambda folder: generate(source, folder)),
                "engine": lambda: _timed(lambda folder: run_engine(source, folder)),
                "large": lambda: _timed(lambda folder: run_engine(large, folder)),
            },
        )
    return [
        _figure(
            "Generation with the default answers", "the whole command `cookiecutter`", durations["cookiecutter"], rounds
        ),
        _figure("The same by the engine of accelerator.yaml", "the whole command", durations["engine"], rounds, 0.5),
        _figure(
            f"The engine over a tree of {LARGE} files",
            "four transforms that read every file",
            durations["large"],
            rounds,
            3,
        ),
    ]


def _figure(name: str, detail: str, durations: list[float], rounds: int, most: float | None = None) -> Figure:
    median = statistics.median(durations)
    goal, reached = ("", "") if most is None else (f"≤ {most:g} s", "yes" if median <= most else "no")
    text = f"{detail}; {min(durations):.2f} to {max(durations):.2f} s"
    return Figure(name, f"{median:.2f} s", goal=goal, reached=reached, rounds=rounds, detail=text)


def _timed(work: Callable[[pathlib.Path], None]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds(lambda: work(pathlib.Path(folder)))


def run_engine(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Generate a project with the engine's command."""
    command = [sys.executable, "-m", "accelerator_engine", "generate", "--accelerator-path", source, "-o", folder]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


LARGE = 1000
_LARGE_MANIFEST = """\
accelerator: {}
engine:
  merge:
    - include: ['**']
      exclude: ['**/none.txt']
    - include: ['**/*7.txt']
      chain:
        - type: ReplaceText
          substitutions: [{text: line, with: "'row'"}, {text: seven, with: "'7'"}]
        - type: ReplaceText
          regex: {pattern: '(?<word>row)s?', with: "'${word}'"}
        - {type: RewritePath}
"""


@contextlib.contextmanager
def large_accelerator() -> Iterator[pathlib.Path]:
    """Yield an accelerator with many files of 4 kB."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "large")
        for number in range(LARGE):
            file = folder / f"part{number % 10}" / f"{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("a line of a file\n" * 240)
        (folder / "accelerator.yaml").write_text(_LARGE_MANIFEST)
        yield folder
