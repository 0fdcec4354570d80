"""Runs the three front doors; each generates a project from answers, or refuses them."""

import functools
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allpairspy import AllPairs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accelerator_engine.engine import Accelerator, generate, load_folder
from accelerator_engine.options import InvalidAnswer, Option, defaults
from accelerator_engine.tree import read_folder, write_folder
from tools.backstage.scaffolder import Scaffolder

Answers = Mapping[str, Any]
Tree = dict[str, tuple[int, bytes]]

# Files that record how a project was generated, so they differ between doors.
OWN = (".provenance.yaml", "accelerator-log.md")
REPOSITORY = "github.com?owner=example&repo=example"


@dataclass(frozen=True)
class Result:
    """A generated project's folder, or the message of the refusal."""

    folder: Path | None = None
    refusal: str = ""


def tree(folder: Path) -> Tree:
    """Return mode and content of each file by path; a symbolic link has mode 0, empty folders are ignored."""
    files: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            files[name] = (0, str(path.readlink()).encode())
        elif path.is_file():
            files[name] = (path.stat().st_mode & 0o777, path.read_bytes())
    return {name: content for name, content in files.items() if name not in OWN}


def clone(template: Path, target: Path) -> Path:
    """Copy a template without links and without the files that git ignores."""
    write_folder(read_folder(template), target)
    return target


def cookiecutter(template: Path, answers: Answers, output: Path) -> Result:
    """Run the command `cookiecutter`."""
    output.mkdir(parents=True)
    words = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in answers.items()]
    program = Path(sys.executable).parent / "cookiecutter"
    result = subprocess.run(
        [program, "--no-input", "--default-config", "--output-dir", output, template, *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    written = list(output.iterdir())
    if result.returncode != 0:
        assert not written, written
        return Result(refusal=result.stdout + result.stderr)
    (folder,) = written
    return Result(folder)


def cookiecutter_all(template: Path, cases: Sequence[Answers], output: Path) -> list[Result]:
    """Run `cookiecutter` for all cases, one process per CPU at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        folders = [output / str(number) for number in range(len(cases))]
        return list(pool.map(cookiecutter, itertools.repeat(template), cases, folders))


@functools.cache
def _loaded(template: Path) -> Accelerator:
    """Read a template once: reading is slower than generating, and no test changes a template after using it."""
    return load_folder(template)


def accelerator(template: Path, answers: Answers, output: Path) -> Result:
    """Run the engine of accelerator.yaml, as Tanzu Application Platform does."""
    try:
        project = generate(_loaded(template), answers)
    except InvalidAnswer as error:
        return Result(refusal=str(error))
    folder = output / project.name
    folder.mkdir(parents=True)
    project.write(folder)
    return Result(folder)


def backstage(scaffolder: Scaffolder, template: Path, cases: Sequence[Answers], output: Path) -> list[Result]:
    """Run Backstage's scaffolder for all cases."""
    values = [{"repoUrl": REPOSITORY, **case} for case in cases]
    outcomes = scaffolder.generate(template / "template.yaml", values, output)
    results = []
    for outcome in outcomes:
        assert outcome.error is None, outcome.error
        assert outcome.refused or not outcome.unrendered, outcome.unrendered
        results.append(Result(outcome.published, "\n".join(outcome.refused)))
    return results


# Cases


def samples(option: Option) -> list[Any]:
    """Return values that an option accepts: all its choices, or a few texts that match its pattern."""
    if option.data_type == "boolean":
        return [option.default, not option.default]
    return list(option.values) or list(_texts(option.pattern, option.default))


@functools.cache
def _texts(pattern: str, default: str) -> tuple[str, ...]:
    """Return the default, and the shortest matching text that is non-empty, long, not ASCII, and hyphenated."""
    allowed, texts = _examples(pattern), [default]
    for is_wanted in (bool, lambda text: len(text) >= 25, lambda text: not text.isascii(), lambda text: "-" in text):
        candidates = [text for text in allowed if is_wanted(text) and text not in texts]
        texts += sorted(candidates, key=lambda text: (len(text), text))[:1]
    return tuple(texts)


def _examples(pattern: str) -> list[str]:
    """Return texts that match a pattern, the same in every run."""
    texts: list[str] = []

    @settings(
        max_examples=300, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(st.from_regex(pattern).filter(lambda text: bool(re.search(pattern, text))))
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    return texts


def cases(options: Sequence[Option]) -> list[dict[str, Any]]:
    """Return the defaults, and a covering array of all pairs of values.

    The cases answer hidden questions too, because every door must ignore such an answer.
    """
    default_answers = defaults(options)
    values = {option.name: samples(option) for option in options}
    pairs = [dict(zip(values, row, strict=True)) for row in AllPairs(list(values.values()))]
    return list({json.dumps(case, sort_keys=True): case for case in [default_answers, *pairs]}.values())


def pairs_covered(options: Sequence[Option], answers: Sequence[Answers]) -> Iterator[tuple[Any, ...]]:
    """Yield each pair of values of two options that no case has."""
    for first, second in itertools.combinations(options, 2):
        for left, right in itertools.product(samples(first), samples(second)):
            if not any(case[first.name] == left and case[second.name] == right for case in answers):
                yield first.name, left, second.name, right
