"""The three front doors: each turns answers into a project, or refuses them."""

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

# What tells how a project came to be, and so differs from door to door.
OWN = (".provenance.yaml", "accelerator-log.md")
REPOSITORY = "github.com?owner=example&repo=example"


@dataclass(frozen=True)
class Result:
    """A project's folder, or the reason why there is none."""

    folder: Path | None = None
    refusal: str = ""


def tree(folder: Path) -> Tree:
    """Return mode and content of every file by path; a link is a difference too, an empty folder is none."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = (0, str(path.readlink()).encode())
        elif path.is_file():
            found[name] = (path.stat().st_mode & 0o777, path.read_bytes())
    return {name: what for name, what in found.items() if name not in OWN}


def clone(template: Path, target: Path) -> Path:
    """Copy a template as a clone of it would be: nothing that git ignores, and no link."""
    write_folder(read_folder(template), target)
    return target


def cookiecutter(template: Path, answers: Answers, output: Path) -> Result:
    """Run the command as a person does."""
    output.mkdir(parents=True)
    given = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in answers.items()]
    program = Path(sys.executable).parent / "cookiecutter"
    done = subprocess.run(
        [program, "--no-input", "--default-config", "--output-dir", output, template, *given],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    written = list(output.iterdir())
    if done.returncode != 0:
        assert not written, written
        return Result(refusal=done.stdout + done.stderr)
    (folder,) = written
    return Result(folder)


def cookiecutter_all(template: Path, cases: Sequence[Answers], output: Path) -> list[Result]:
    """Run the command for all cases, a few at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        folders = [output / str(number) for number in range(len(cases))]
        return list(pool.map(cookiecutter, itertools.repeat(template), cases, folders))


@functools.cache
def _loaded(template: Path) -> Accelerator:
    """Read a template once: it takes longer than to generate a project, and no test changes one that it has used."""
    return load_folder(template)


def accelerator(template: Path, answers: Answers, output: Path) -> Result:
    """Run the engine of accelerator.yaml, as TAP's front doors do."""
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
        results.append(Result(outcome.folder, "\n".join(outcome.refused)))
    return results


# Cases


def samples(option: Option) -> list[Any]:
    """Return values that an option accepts: all of its choices, or a few texts that its pattern allows."""
    if option.data_type == "boolean":
        return [option.default, not option.default]
    return list(option.values) or list(_texts(option.pattern, option.default))


@functools.cache
def _texts(pattern: str, default: str) -> tuple[str, ...]:
    """Return the default and the shortest of some texts that are others, long, not English, or hyphenated."""
    allowed, found = _examples(pattern), [default]
    for is_wanted in (bool, lambda text: len(text) >= 25, lambda text: not text.isascii(), lambda text: "-" in text):
        wanted = [text for text in allowed if is_wanted(text) and text not in found]
        found += sorted(wanted, key=lambda text: (len(text), text))[:1]
    return tuple(found)


def _examples(pattern: str) -> list[str]:
    """Return texts that the pattern allows; the same in every run."""
    found: list[str] = []

    @settings(
        max_examples=300, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(st.from_regex(pattern).filter(lambda text: bool(re.search(pattern, text))))
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return found


def cases(options: Sequence[Option]) -> list[dict[str, Any]]:
    """Return the defaults, each option's values alone, and a covering array of all pairs of values.

    Questions that are not asked are answered all the same: every door has to leave that answer alone.
    """
    usual = defaults(options)
    values = {option.name: samples(option) for option in options}
    alone = [{**usual, name: value} for name in values for value in values[name]]
    pairs = [dict(zip(values, row, strict=True)) for row in AllPairs(list(values.values()))]
    return list({json.dumps(case, sort_keys=True): case for case in [usual, *alone, *pairs]}.values())


def pairs_covered(options: Sequence[Option], found: Sequence[Answers]) -> Iterator[tuple[Any, ...]]:
    """Return each pair of values of two options that no case has."""
    for one, other in itertools.combinations(options, 2):
        for left, right in itertools.product(samples(one), samples(other)):
            if not any(case[one.name] == left and case[other.name] == right for case in found):
                yield one.name, left, other.name, right
