"""The benchmarks call functions of a generated project, which mypy finds there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tools import doors

# Errors about a missing module, name or parameter; how strictly the benchmarks are annotated does not matter.
MISSING = re.compile(r'module named "(pipeline|benchmarks)|\[(attr-defined|call-arg|name-defined)\]$')


@pytest.mark.slow
def test_benchmarks_use_only_names_that_the_project_has(tmp_path: Path) -> None:
    project = doors.accelerator(ROOT, {}, tmp_path / "output").folder
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", tmp_path / "cache"),
            *("--follow-imports", "silent", "--package", "benchmarks"),
        ],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(project)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "source files)" in completed.stdout, completed.stderr
    assert [line for line in completed.stdout.splitlines() if MISSING.search(line)] == []
