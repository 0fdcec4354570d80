"""The Python of database/python and its copies in the change sets."""

import pathlib

import pytest

from local import sql_bodies
from local.__main__ import main
from local.errors import LocalError

ROOT = pathlib.Path(__file__).parent.parent
MARK = "# begin database/python/{0}.py (make sql writes this; edit that file)\n# end database/python/{0}.py\n"
MODULE = '''"""Adds."""

import json
from typing import TYPE_CHECKING

from database.python.base import ONE

if TYPE_CHECKING:
    from typing import Any


def add(number: "Any") -> str:
    """Return one more."""
    return json.dumps(number + ONE)
'''
COPIED = '''import json


def add(number: "Any") -> str:
    """Return one more."""
    return json.dumps(number + ONE)
'''


def change(name: str, *modules: str, arguments: str = "number int") -> str:
    """Return a change set that creates a function with copies of modules."""
    body = "".join(map(MARK.format, modules))
    head = (
        f'CREATE OR REPLACE FUNCTION "${{schema}}".{name}({arguments})\nRETURNS text LANGUAGE plpython3u AS $python$\n'
    )
    return f"--changeset project:{name}\n{head}{body}return add(number)\n$python$;\n"


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with two modules and one change set, whose copies are still empty."""
    for folder in ("python", "training"):
        (tmp_path / "database" / folder).mkdir(parents=True)
    (tmp_path / "database" / "python" / "base.py").write_text('"""A number."""\n\nONE = 1\n', encoding="utf-8")
    (tmp_path / "database" / "python" / "add.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "database" / "training" / "001-add.sql").write_text(change("add", "base", "add"), encoding="utf-8")
    return tmp_path


def test_every_copy_is_its_module() -> None:
    assert sql_bodies.stale_files([ROOT]) == {}


def test_every_module_is_copied_somewhere() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "database").rglob("*.sql"))
    for path in (ROOT / "database" / "python").glob("[a-z]*.py"):
        assert f"# begin database/python/{path.name} " in text


def test_a_copy_holds_what_runs(project: pathlib.Path, capsys) -> None:
    assert main(["sql", str(project)]) == 0
    assert "wrote database/training/001-add.sql" in "".join(capsys.readouterr())
    text = (project / "database" / "training" / "001-add.sql").read_text(encoding="utf-8")
    assert "edit that file)\nONE = 1\n# end database/python/base.py\n" in text
    assert f"edit that file)\n{COPIED}# end database/python/add.py\nreturn add(number)\n$python$;" in text
    assert main(["sql", "--check", str(project)]) == 0


def test_a_stale_copy_is_refused(project: pathlib.Path, capsys) -> None:
    main(["sql", str(project)])
    path = project / "database" / "python" / "base.py"
    path.write_text("ONE = 2\n", encoding="utf-8")
    before = (project / "database" / "training" / "001-add.sql").read_bytes()
    assert main(["sql", "--check", str(project)]) == 1
    assert "database/training/001-add.sql: a copy of database/python is stale; fix: make sql" in capsys.readouterr().err
    assert (project / "database" / "training" / "001-add.sql").read_bytes() == before


@pytest.mark.parametrize("name", ["python/base.py", "training/001-add.sql"])
def test_a_file_that_is_not_utf_8_is_named(project: pathlib.Path, capsys, name: str) -> None:
    path = project / "database" / name
    path.write_bytes(b"# \xff\n" + path.read_bytes())
    assert main(["sql", str(project)]) == 1
    assert capsys.readouterr().err == f"local: {path}: byte 2 is not UTF-8; save the file as UTF-8\n"


def test_a_form_feed_stays_in_a_copy(project: pathlib.Path) -> None:
    """It divides no lines of Python, so the lines of an import are counted without it."""
    module = "TEXT = 'a\f\x1cb'\n\nfrom typing import Any\n\nONE: Any = 1\n"
    (project / "database" / "python" / "base.py").write_text(module, encoding="utf-8")
    assert main(["sql", str(project)]) == 0
    text = (project / "database" / "training" / "001-add.sql").read_text(encoding="utf-8")
    assert "edit that file)\nTEXT = 'a\f\x1cb'\n\n\nONE: Any = 1\n# end" in text


def test_a_function_that_is_created_again_keeps_what_was_deployed(project: pathlib.Path) -> None:
    main(["sql", str(project)])
    folder = project / "database" / "training"
    deployed = (folder / "001-add.sql").read_bytes()
    (folder / "002-add-again.sql").write_text(change("add", "base", "add"), encoding="utf-8")
    (folder / "003-other.sql").write_text(change("add", "base", "add", arguments="number float8"), encoding="utf-8")
    (project / "database" / "python" / "base.py").write_text("ONE = 2\n", encoding="utf-8")
    assert main(["sql", str(project)]) == 0
    assert (folder / "001-add.sql").read_bytes() == deployed
    assert "ONE = 2" in (folder / "002-add-again.sql").read_text(encoding="utf-8")
    assert "ONE = 2" in (folder / "003-other.sql").read_text(encoding="utf-8")


def test_the_first_folder_with_a_module_has_it(project: pathlib.Path, tmp_path: pathlib.Path) -> None:
    overlay = tmp_path / "variants" / "other"
    (overlay / "database" / "training").mkdir(parents=True)
    (overlay / "database" / "training" / "002-more.sql").write_text(change("more", "base"), encoding="utf-8")
    (text,) = sql_bodies.stale_files([overlay, project]).values()
    assert "ONE = 1" in text


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("python/base.py", "ONE = (\n", r"base\.py:1: '\(' was never closed"),
        ("python/base.py", "ONE = '$python$'\n", r"base\.py: '\$python\$' cannot stand in a change set"),
        ("python/base.py", "ONE = '${schema}'\n", r"base\.py: '\$\{' cannot stand in a change set"),
        ("training/001-add.sql", change("add", "add"), "add.py uses base.py, so a copy of that must precede it"),
        ("training/001-add.sql", change("add", "nothing"), "database/python/nothing.py is missing"),
        ("training/001-add.sql", MARK.format("add")[:-5], "must come in pairs"),
        ("training/001-add.sql", MARK.format("base").partition("\n")[2], "must come in pairs"),
        ("training/001-add.sql", "  " + MARK.format("base"), "must come in pairs"),
        ("python/base.py", "ONE = 1\n# end database/python/base.py\n", "would begin or end a copy"),
        ("python/base.py", "ONE = 1\0\n", r"base\.py:1: source code string cannot contain null bytes"),
    ],
)
def test_what_cannot_be_copied_is_refused(project: pathlib.Path, file, text, message) -> None:
    (project / "database" / file).write_text(text, encoding="utf-8")
    with pytest.raises(LocalError, match=message):
        sql_bodies.stale_files([project])
