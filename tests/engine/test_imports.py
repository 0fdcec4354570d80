"""Rings of the engine: which modules may import which packages.

| ring | modules | used by |
|---|---|---|
| cookiecutter | `cookiecutter` and everything that it imports | a person who only runs cookiecutter |
| engine | all other modules except those below | every command and every test |
| derivation | `derive` | `make derive` in this repository |
| server | `server` | `serve` |
| command line | `__main__` | `python -m accelerator_engine` |
"""

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest
from conftest import ROOT

PACKAGE = "accelerator_engine"

# The packages that each ring may import, besides the standard library.
ALLOWED = {
    "cookiecutter": {"click", "cookiecutter", "jinja2", "yaml"},
    "engine": {"lark", "merge3", "pathspec", "regex", "yaml"},
    "derivation": {"ruamel", "yaml"},
    "server": {"flask", "waitress", "werkzeug"},
    "command line": {"click"},
}
# The rings of this package that each ring may import.
INWARD = {
    "cookiecutter": set(),
    "engine": {"cookiecutter"},
    "derivation": {"cookiecutter", "engine"},
    "server": {"cookiecutter", "engine"},
    "command line": {"cookiecutter", "engine", "derivation", "server"},
}
# The distribution of an imported package where the names differ; Flask brings Werkzeug.
DISTRIBUTIONS = {"yaml": "pyyaml", "ruamel": "ruamel.yaml", "werkzeug": "flask"}


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES = {
    module_name(str(path.relative_to(ROOT))): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}


def imported_names(source: str) -> Iterator[str]:
    """Return all absolute names that a module imports, also within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package uses absolute imports only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_module(name: str) -> str:
    """Return the module of this package that an imported name belongs to."""
    return name if name in SOURCES else name.rpartition(".")[0]


def own_imports(module: str) -> set[str]:
    return {own_module(name) for name in imported_names(SOURCES[module]) if name.split(".")[0] == PACKAGE}


def other_imports(module: str) -> set[str]:
    roots = {name.split(".")[0] for name in imported_names(SOURCES[module])}
    return roots - sys.stdlib_module_names - {PACKAGE}


def reachable(start: str) -> set[str]:
    """Return a module and all modules that it imports, directly or not."""
    modules, waiting = {start}, [start]
    while waiting:
        new = own_imports(waiting.pop()) - modules
        modules |= new
        waiting += new
    return modules


COOKIECUTTER_RING = reachable(f"{PACKAGE}.cookiecutter") | {PACKAGE}


def ring_of(module: str) -> str:
    first = module.removeprefix(f"{PACKAGE}.").split(".")[0]
    outer = {"__main__": "command line", "server": "server", "derive": "derivation"}
    return "cookiecutter" if module in COOKIECUTTER_RING else outer.get(first, "engine")


def declared(groups: list[str]) -> set[str]:
    """Return the names of the distributions in groups of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    requirements = [requirement for group in groups for requirement in lists[group]]
    return {re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


def test_a_cookiecutter_run_loads_three_modules() -> None:
    names = sorted(module.removeprefix(f"{PACKAGE}.") for module in COOKIECUTTER_RING)
    assert names == [PACKAGE, "cookiecutter", "manifest", "options"]


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_the_packages_of_its_ring(module: str) -> None:
    assert other_imports(module) <= ALLOWED[ring_of(module)]


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_its_own_ring_and_inner_rings(module: str) -> None:
    ring = ring_of(module)
    assert {ring_of(name) for name in own_imports(module)} <= {ring, *INWARD[ring]}


@pytest.mark.parametrize("module", SOURCES)
def test_pyproject_declares_every_imported_package(module: str) -> None:
    distributions = {DISTRIBUTIONS.get(name, name) for name in other_imports(module)}
    groups = ["dependencies"] if ring_of(module) == "cookiecutter" else ["dependencies", "engine"]
    assert distributions <= declared(groups)


def test_imports_go_in_one_direction() -> None:
    order = graphlib.TopologicalSorter({module: own_imports(module) for module in SOURCES})
    assert set(order.static_order()) == set(SOURCES)
