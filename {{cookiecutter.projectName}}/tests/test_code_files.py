"""model.py and dataset.py are read without being run; a mistake in them is one sentence."""

import pathlib

import pytest

from pipeline import code_files, doctor
from pipeline.errors import StepError
from pipeline.steps import deploy_training_code

LOAD = "def load(): return 1\n"


@pytest.fixture(name="project")
def _project(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setattr(code_files, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        LOAD,
        "load = print\n",
        "from os import path as load\n",
        "try:\n    from x import load\nexcept ImportError:\n    load = None\n",
        "from x import *\n",
        "def __getattr__(name): return print\n",
        f"# coding: latin-1\nname = '\xe9'\n{LOAD}",
        f"'\\d'\n{LOAD}",
        f"raise SystemExit\n{LOAD}",
    ],
)
def test_code_with_the_function_is_accepted_and_not_run(project, recwarn, text) -> None:
    (project / "dataset.py").write_bytes(text.encode("latin-1"))
    code_files.require("dataset")
    assert not recwarn.list


@pytest.mark.parametrize("module", ["model", "dataset"])
def test_the_first_step_reads_the_code_before_it_asks_a_server(project, monkeypatch, module) -> None:
    monkeypatch.setattr(doctor, "require", lambda *checks: pytest.fail("a server was asked"))
    for name, text in (("model", "def build_model(): pass\nbuild_optimizer = 1\n"), ("dataset", LOAD)):
        (project / f"{name}.py").write_text("def (" if name == module else text)
    with pytest.raises(StepError, match=rf"{module}\.py cannot be imported: SyntaxError"):
        deploy_training_code.run()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"def oops(:\n", "dataset.py cannot be imported: SyntaxError: invalid syntax (dataset.py, line 1)"),
        (b"\nreturn 1\n", "dataset.py cannot be imported: SyntaxError: 'return' outside function (dataset.py, line 2)"),
        (b"'\xff'\n", "dataset.py cannot be imported: SyntaxError: (unicode error) 'utf-8' codec can't decode byte"),
        (b"a\0\n", "dataset.py cannot be imported: SyntaxError: source code string cannot contain null bytes"),
        (b"", "dataset.py has no function load"),
        (b"class A:\n    def load(self): pass\n", "dataset.py has no function load"),
        (b"print(load)\n", "dataset.py has no function load"),
    ],
)
def test_a_mistake_is_refused(project, text, message) -> None:
    (project / "dataset.py").write_bytes(text)
    with pytest.raises(StepError) as refused:
        code_files.require("dataset")
    assert str(refused.value).startswith(message)


def test_a_missing_file_is_refused(project) -> None:
    with pytest.raises(StepError, match=r"model\.py cannot be read: No such file"):
        code_files.require("model")
    assert not code_files.exists("model")


def test_a_package_is_left_to_its_import(project) -> None:
    (project / "dataset").mkdir()
    (project / "dataset" / "__init__.py").touch()
    assert code_files.exists("dataset")
    code_files.require("dataset")
    code_files.require_imports("dataset")


@pytest.mark.parametrize("statement", ["import numpy, nowhere.at.all", "from nowhere.at import all"])
def test_a_missing_package_is_reported_with_the_command_that_adds_it(project, statement) -> None:
    (project / "dataset.py").write_text(f'"""Data."""\n\n{statement}\n')
    with pytest.raises(StepError) as refused:
        code_files.require_imports("dataset")
    assert str(refused.value) == (
        "dataset.py cannot be imported: ModuleNotFoundError: No module named 'nowhere' (dataset.py, line 3); "
        "add the package of nowhere with `make lock ADD=NAME`, NAME as in `pip install NAME`"
    )


@pytest.mark.parametrize(
    "text",
    [
        "import os.path, numpy\nfrom . import x\nfrom pipeline import errors\nimport __main__\n",
        "try:\n    import nowhere\nexcept ImportError:\n    pass\n",
        "import sys\nsys.path.append('lib')\nimport nowhere\n",
        "def load():\n    import nowhere\n",
    ],
)
def test_other_imports_are_left_to_python(project, text) -> None:
    (project / "dataset.py").write_text(text)
    code_files.require_imports("dataset")
