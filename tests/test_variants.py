"""Twins, the files that two variants have under the same path, offer the same functions to the shared code."""

import ast
import collections
import itertools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BODY = ROOT / "{{cookiecutter.projectName}}"


def path_in_project(file: Path) -> Path:
    """Return where a file of an overlay folder lies in the project: without each leading variants/<name>."""
    parts = file.relative_to(BODY).parts
    while parts[0] == "variants":
        parts = parts[2:]
    return Path(*parts)


def twins() -> dict[str, list[Path]]:
    """Return the modules that several variants have, by their path in the project; each test file is on its own."""
    files = collections.defaultdict(list)
    for file in sorted((BODY / "variants").rglob("*.py")):
        path = path_in_project(file)
        if path.parts[0] != "tests":
            files[str(path)].append(file)
    return {path: variants for path, variants in files.items() if len(variants) > 1}


def signatures(file: Path) -> dict[str, str]:
    """Return the public functions of a module: names and kinds of the parameters, and their annotations."""
    functions = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]
    return {function.name: ast.unparse(function.args) for function in functions}


def test_there_are_twins() -> None:
    assert {"app/inputs.py", "dataset.py", "pipeline/data/source.py"} <= set(twins())


@pytest.mark.parametrize("path", sorted(twins()))
def test_twins_have_the_same_public_functions(path: str) -> None:
    for first, second in itertools.pairwise(twins()[path]):
        assert signatures(first) == signatures(second), f"{first.relative_to(BODY)} and {second.relative_to(BODY)}"
