"""Runs one measurement in the project's folder and its pipeline environment.

`python measure.py <output> <rounds> <name>` writes a JSON object: versions, and the figures.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import pathlib
import platform
import sys
import time

# Replace the script's folder on sys.path by the project and this package.
sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
sys.path.insert(0, str(pathlib.Path.cwd()))

from benchmarks.figures import say  # noqa: E402

PACKAGES = ("tensorflow", "keras", "onnxruntime", "psycopg2")


def versions() -> dict[str, str]:
    """Return the versions of PostgreSQL, Python and the measured packages."""
    from pipeline.databases import session

    number = session("trainer").info.server_version
    result = {"PostgreSQL": f"{number // 10000}.{number % 10000}", "Python": platform.python_version()}
    installed = {
        name.replace("-", "_"): version
        for name, version in ((d.metadata["Name"].lower(), d.version) for d in importlib.metadata.distributions())
    }
    for package in PACKAGES:
        names = (package, f"{package}_cpu", f"{package}_binary")
        result[package] = next((installed[name] for name in names if name in installed), "?")
    return result


def main() -> None:
    """Run the measurement, print its figures and write them to the file."""
    output, rounds, name = sys.argv[1:]
    say(f"{name} …")
    started = time.monotonic()
    figures = importlib.import_module(f"benchmarks.{name}").measure(int(rounds))
    for figure in figures:
        say(f"  {figure.name}: {figure.value} {figure.goal and f'(goal {figure.goal})'} {figure.detail}")
    say(f"{name}: {time.monotonic() - started:.0f} s")
    results = {"versions": versions(), "figures": [dataclasses.asdict(figure) for figure in figures]}
    pathlib.Path(output).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
