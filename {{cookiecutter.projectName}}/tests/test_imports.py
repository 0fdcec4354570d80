"""The rooms of the project and the arrows between them: which module may import which."""

import ast
import pathlib
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIDDLE_ROOMS = ("data", "training", "registry")
# pipeline.__main__ → steps, commands → data, training, registry → ground; a room may import those in its row.
# The Python that the databases run serves the ground, the training in memory and the check of ONNX files as well. The
# room `data` sends rows through the app's decoding and the databases' encoding, to check both against the training.
ALLOWED = {
    "__main__": {"steps", "commands", "ground"},
    "steps": {*MIDDLE_ROOMS, "ground"},
    "commands": {*MIDDLE_ROOMS, "ground"},
    **{room: {room, "ground"} for room in MIDDLE_ROOMS},
    "data": {"data", "ground", "app", "database.python"},
    "registry": {"registry", "ground", "database.python"},
    "training": {"training", "ground", "database.python"},
    "ground": {"ground", "database.python"},
}
WALLED = ("pipeline", "database", "app", "local")


def module_name(path: pathlib.Path, root: pathlib.Path) -> str:
    """Return the dotted name of a module below the project's root; a package's is that of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: pathlib.Path, root: pathlib.Path) -> set[str]:
    """Return the dotted names that a module imports, wherever the statement stands.

    `from package import name` imports package.name where that is a module, and package otherwise.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            if node.level:
                package = ".".join([*path.parent.relative_to(root).parts, *filter(None, [node.module])])
            for alias in node.names:
                below = root / package.replace(".", "/") / alias.name
                is_module = below.with_suffix(".py").exists() or (below / "__init__.py").exists()
                names.add(f"{package}.{alias.name}" if is_module else package)
    return names


def room(module: str) -> str:
    """Return the room of a module of the pipeline; a module of `database` is in the package that holds it."""
    parts = module.split(".")
    if parts[0] in ("app", "local"):
        return parts[0]
    if parts[0] == "database":
        return ".".join(parts[:2])
    first = parts[1] if len(parts) > 1 else ""
    return first if first in ALLOWED else "ground"


def modules(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the modules below a folder."""
    yield from sorted(folder.rglob("*.py"))


def violations(root: pathlib.Path) -> list[str]:
    """Return the imports of the pipeline, the app and the local servers that cross a wall."""
    wrong: list[str] = []
    for path in modules(root / "pipeline"):
        module = module_name(path, root)
        for name in sorted(imports(path, root) - {module}):
            top = name.split(".")[0]
            if top in WALLED and room(name) not in ALLOWED[room(module)]:
                wrong.append(f"{module} imports {name}")
    for path in modules(root / "app"):
        forbidden = {name for name in imports(path, root) if name.split(".")[0] in ("pipeline", "database", "local")}
        wrong += [f"{module_name(path, root)} imports {name}" for name in sorted(forbidden)]
    for path in modules(root / "local"):
        tops = {name: name.split(".")[0] for name in imports(path, root)}
        foreign = {name for name, top in tops.items() if top != "local" and top not in sys.stdlib_module_names}
        wrong += [f"{module_name(path, root)} imports {name}" for name in sorted(foreign)]
    return wrong


def test_every_import_stays_within_its_rooms() -> None:
    assert violations(ROOT) == []


def test_every_room_has_modules() -> None:
    for name in ("pipeline", "pipeline/steps", *(f"pipeline/{room}" for room in MIDDLE_ROOMS), "app", "local"):
        assert len(list(modules(ROOT / name))) > 1, name


@pytest.mark.parametrize(
    ("path", "statement", "wrong"),
    [
        ("pipeline/__main__.py", "from pipeline.training import b", "pipeline.__main__ imports pipeline.training.b"),
        ("pipeline/steps/a.py", "from pipeline.steps import b", "pipeline.steps.a imports pipeline.steps.b"),
        ("pipeline/steps/a.py", "from . import b", "pipeline.steps.a imports pipeline.steps.b"),
        ("pipeline/steps/a.py", "import pipeline.__main__", "pipeline.steps.a imports pipeline.__main__"),
        ("pipeline/commands/a.py", "from pipeline.steps.b import run", "pipeline.commands.a imports pipeline.steps.b"),
        ("pipeline/training/a.py", "from pipeline import data", "pipeline.training.a imports pipeline.data"),
        ("pipeline/data/a.py", "import pipeline.registry", "pipeline.data.a imports pipeline.registry"),
        ("pipeline/registry/a.py", "if a:\n    import pipeline.data", "pipeline.registry.a imports pipeline.data"),
        ("pipeline/registry/a.py", "from pipeline.steps import b", "pipeline.registry.a imports pipeline.steps.b"),
        ("pipeline/ground.py", "from pipeline.data import x", "pipeline.ground imports pipeline.data"),
        ("pipeline/ground.py", "from .training.b import x", "pipeline.ground imports pipeline.training.b"),
        ("pipeline/ground.py", "from pipeline import commands", "pipeline.ground imports pipeline.commands"),
        ("pipeline/ground.py", "import app", "pipeline.ground imports app"),
        ("pipeline/ground.py", "import database.inference", "pipeline.ground imports database.inference"),
        ("pipeline/steps/a.py", "from database.python import b", "pipeline.steps.a imports database.python.b"),
        ("pipeline/registry/a.py", "from app import main", "pipeline.registry.a imports app"),
        ("pipeline/data/a.py", "import local.state", "pipeline.data.a imports local.state"),
        ("pipeline/training/a.py", "from app import main", "pipeline.training.a imports app"),
        ("pipeline/steps/a.py", "from local import state", "pipeline.steps.a imports local"),
        ("app/main.py", "from pipeline.settings import settings", "app.main imports pipeline.settings"),
        ("app/main.py", "import database.python.b", "app.main imports database.python.b"),
        ("app/main.py", "import local", "app.main imports local"),
        ("local/state.py", "import yaml", "local.state imports yaml"),
        ("local/state.py", "from pipeline import settings", "local.state imports pipeline"),
    ],
)
def test_a_wrong_import_is_reported(tmp_path, path, statement, wrong) -> None:
    packages = [f"pipeline/{room}/__init__.py" for room in (*MIDDLE_ROOMS, "steps", "commands")]
    for name in ("pipeline/steps/b.py", "pipeline/training/b.py", "database/python/b.py", *packages):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import os\n\nfrom pipeline import errors\n", encoding="utf-8")
    for folder in ("app", "local"):
        (tmp_path / folder).mkdir()
    (tmp_path / path).write_text(f"{statement}\n", encoding="utf-8")
    assert violations(tmp_path) == [wrong]
