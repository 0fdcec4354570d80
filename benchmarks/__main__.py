"""Command line: `python -m benchmarks [--only NAME …] [--rounds N]`, from the repository's own environment."""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import generation, report
from benchmarks.figures import Figure, say

PROJECT = generation.ROOT / "build" / "benchmarks" / "bench"
RESULTS = pathlib.Path(__file__).with_name("RESULTS.md")
SYSTEM_PYTHON = "/usr/bin/python3"
# Measurements in the project's databases, in this order; `generation` needs none, `packing` a project on a table.
IN_PROJECT = ("training", "serving", "app", "scoring", "upload", "memory")
IN_TABLE_PROJECT = ("packing",)
IMAGES = {"dataset": "digits", "epochs": "2", "minimumAccuracy": "0"}
TABLE = {"dataset": "table", "sourceTable": "benchmark_rows"}
ROUNDS = 7
FEWEST, MOST = 1, 100


def main() -> None:
    """Measure and print the table; a run of all measurements also writes benchmarks/RESULTS.md."""
    chosen = _arguments()
    names = chosen.only or ["generation", *IN_PROJECT, *IN_TABLE_PROJECT]
    before, started = report.load(), time.monotonic()
    try:
        figures, versions = _measure(names, chosen.rounds)
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(map(str, error.cmd))} ended with status {error.returncode}, see above")
    sys.stdout.write(report.table(figures) + "\n")
    say(f"{time.monotonic() - started:.0f} s in all")
    if not chosen.only:
        command = f"python -m benchmarks --rounds {chosen.rounds}"
        text = report.document(figures, versions, command, before, report.load())
        RESULTS.write_text(text, encoding="utf-8")
        say(f"written: {RESULTS}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=("generation", *IN_PROJECT, *IN_TABLE_PROJECT), metavar="NAME",
        help=f"run only this measurement and write no file: generation, {', '.join((*IN_PROJECT, *IN_TABLE_PROJECT))}; "
        "may be repeated",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds per measurement (default: %(default)s)")
    chosen = parser.parse_args()
    if not FEWEST <= chosen.rounds <= MOST:
        parser.error(f"--rounds is {chosen.rounds}; allowed is {FEWEST} to {MOST}")
    return chosen


def _measure(names: list[str], rounds: int) -> tuple[list[Figure], dict[str, str]]:
    figures: list[Figure] = []
    if "generation" in names:
        say("generation …")
        figures += generation.measure(rounds)
        say(f"  {figures[0].name}: {figures[0].value}")
    measured = []
    for answers, of_project in ((IMAGES, IN_PROJECT), (TABLE, IN_TABLE_PROJECT)):
        inside = [name for name in of_project if name in names]
        if inside:
            with _project(answers):
                measured += [_measure_in_project(name, rounds) for name in inside]
    if not measured:
        return figures, {}
    return figures + [Figure(**values) for measurement in measured for values in measurement["figures"]], measured[0][
        "versions"
    ]


@contextlib.contextmanager
def _project(answers: dict[str, str]) -> Iterator[None]:
    """Generate a project and run its pipeline; at the end stop its servers and remove it."""
    if (PROJECT / "local" / "__main__.py").exists():
        _local("stop")
    shutil.rmtree(PROJECT, ignore_errors=True)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, PROJECT, ignore_errors=True)
        with generation.template() as source:
            generation.generate(source, PROJECT.parent, projectName=PROJECT.name, **answers)
        cleanup.callback(_local, "stop")
        if answers is IMAGES:
            say("the project's pipeline …")
            _local("run", "--", "python", "-m", "pipeline", "all")
        yield


def _measure_in_project(name: str, rounds: int) -> dict[str, Any]:
    """Run one measurement in a new process: TensorFlow and the system's libpq conflict in one process."""
    script, output = pathlib.Path(__file__).with_name("measure.py"), PROJECT / "figures.json"
    _local("run", "--", "python", str(script), str(output), str(rounds), name)
    measurement: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return measurement


def _local(*arguments: str) -> None:
    """Run `python -m local` in the project, without variables that name other servers."""
    foreign = ("SERVICE_BINDING_ROOT", "MLFLOW_TRACKING_URI", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    # Locust is in this repository's environment, not in the project's.
    environment["BENCHMARKS_PYTHON"] = sys.executable
    subprocess.run(
        [SYSTEM_PYTHON, "-m", "local", *arguments], cwd=PROJECT, env=environment, check=True, stdout=sys.stderr
    )


if __name__ == "__main__":
    main()
