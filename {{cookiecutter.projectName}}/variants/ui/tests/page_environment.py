"""Python in the page's environment, which has Streamlit and Altair; the tests' own environment has neither."""

import functools
import json
import pathlib
import subprocess
from typing import Any

PROJECT = pathlib.Path(__file__).resolve().parent.parent


@functools.cache
def python() -> pathlib.Path:
    """Return the environment's Python; a missing environment is installed."""
    command = ["/usr/bin/python3", "-m", "local", "run", "--no-servers", "--environment", "ui", "--"]
    code = "import sys; print(sys.executable)"
    answer = subprocess.run([*command, "python", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    return pathlib.Path(answer.stdout.strip().splitlines()[-1])


def call(module: str, argument: object) -> Any:
    """Return what the function `main` of a module in this folder returns for the argument; both travel as JSON."""
    program = (
        f"import json, sys; sys.path.insert(0, 'tests'); import {module}; "
        f"print(json.dumps({module}.main(json.load(sys.stdin))))"
    )
    command = [str(python()), "-c", program]
    answer = subprocess.run(
        command, cwd=PROJECT, input=json.dumps(argument), capture_output=True, text=True, check=False
    )
    assert not answer.returncode, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])
