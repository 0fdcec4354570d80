"""The benchmarks call a generated project's functions, and no test else does it from there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tools import doors

# Of what mypy says: a module, a name or a parameter that is not there. How strictly they are annotated is no matter.
MISSING = re.compile(r'module named "(pipeline|benchmarks)|\[(attr-defined|call-arg|name-defined)\]$')


@pytest.mark.slow
def test_benchmarks_name_what_the_project_has(tmp_path: Path) -> None:
    project = doors.cookiecutter(ROOT, {}, tmp_path / "output").folder
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", tmp_path / "cache"),
            *("--follow-imports", "silent", "--package", "benchmarks"),
        ],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(project)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "source files)" in done.stdout, done.stderr
    assert [line for line in done.stdout.splitlines() if MISSING.search(line)] == []
