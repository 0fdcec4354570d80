"""`make lock`: which lock files are written, from which requirements and which registry."""

import pathlib

import pytest

from local import installers, lock_files
from local.errors import LocalError

INPUTS = {
    "app": "numpy\n",
    "pipeline": "# Programs.\n-r app.in\nmlflow==3.1\n",
    "notebook": "-r pipeline.in\n",
    "db": "",
}


@pytest.fixture(name="requirements")
def _requirements(tmp_path, monkeypatch) -> pathlib.Path:
    """Requirements and lock files of a project; what uv would run is recorded by the test."""
    for role, text in INPUTS.items():
        (tmp_path / f"{role}.in").write_text(text)
        (tmp_path / f"{role}.txt").write_text("old==1 \\\n")
    monkeypatch.setattr(lock_files, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(lock_files.startup, "install", lambda *roles, **parts: None)
    return tmp_path


@pytest.mark.parametrize(
    ("packages", "text"),
    [
        (["pandas"], "# A.\n-r app.in\nmlflow==3.1\npandas\n"),
        (["opencv-python-headless>=4", "pandas[excel]==2.3"],
         "# A.\n-r app.in\nmlflow==3.1\nopencv-python-headless>=4\npandas[excel]==2.3\n"),
        (["MLflow==3.2"], "# A.\n-r app.in\nMLflow==3.2\n"),
        ([], "# A.\n-r app.in\nmlflow==3.1\n"),
    ],
)  # fmt: skip
def test_requirements_with_packages(packages, text) -> None:
    assert lock_files.added("# A.\n-r app.in\nmlflow==3.1\n", packages) == text


@pytest.mark.parametrize("package", ["-r", "--index-url=x", "./folder", "https://a/b.whl", "a @ b", "a\nb", "a;b", ""])
def test_anything_but_a_package_is_refused(package) -> None:
    with pytest.raises(LocalError, match="is not a package: write its name"):
        lock_files.added("", [package])


def test_each_role_follows_those_that_it_includes(requirements) -> None:
    assert lock_files.including("pipeline", requirements) == ["pipeline", "notebook"]
    assert lock_files.including("app", requirements) == ["app", "pipeline", "notebook"]
    assert set(lock_files.including("", requirements)) == {*INPUTS}


def test_the_lock_files_of_the_roles_are_written(requirements, monkeypatch, capsys) -> None:
    def compile_role(role: str, folder: pathlib.Path) -> None:
        inputs = (folder / "pipeline.in").read_text()
        (folder / f"{role}.txt").write_text(f"{inputs.split()[-1]}==2 \\\n")

    monkeypatch.setattr(lock_files, "_compile", compile_role)
    lock_files.lock(["pandas"], "pipeline")
    assert (requirements / "pipeline.in").read_text() == INPUTS["pipeline"] + "pandas\n"
    locks = {role: (requirements / f"{role}.txt").read_text() for role in INPUTS}
    assert locks == {
        **dict.fromkeys(INPUTS, "old==1 \\\n"),
        **dict.fromkeys(["pipeline", "notebook"], "pandas==2 \\\n"),
    }
    assert "requirements/pipeline.txt: pandas 2, without old\n" in capsys.readouterr().err


def test_a_failure_changes_nothing(requirements, monkeypatch) -> None:
    def fail(role: str, folder: pathlib.Path) -> None:
        (folder / f"{role}.txt").write_text("")
        if role == "notebook":
            raise LocalError("no solution")

    monkeypatch.setattr(lock_files, "_compile", fail)
    before = {path.name: path.read_text() for path in requirements.iterdir()}
    with pytest.raises(LocalError, match="no solution"):
        lock_files.lock(["pandas"], "pipeline")
    assert {path.name: path.read_text() for path in requirements.iterdir()} == before


def test_an_unknown_role_is_refused(requirements) -> None:
    with pytest.raises(LocalError, match="there is no role pipelin; allowed are app, db, notebook, pipeline"):
        lock_files.lock(["pandas"], "pipelin")


def test_uv_gets_pips_settings(tmp_path) -> None:
    shown = "\n".join(
        [
            ":env:.index-url='https://variable/simple'",
            f"global.find-links='{tmp_path} /nowhere https://wheels.example'",
            "global.index-url='https://file/simple'",
            "install.extra-index-url='https://a/simple\\nhttps://b/simple'",
            "global.cert='/etc/ca.crt'",
            "global.no-index='false'",
        ]
    )
    settings = lock_files.pip_settings(shown)
    assert lock_files.uv_variables(settings) == {
        "UV_DEFAULT_INDEX": "https://variable/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "SSL_CERT_FILE": "/etc/ca.crt",
    }
    assert lock_files.uv_options(settings) == [f"--find-links={tmp_path}", "--find-links=https://wheels.example"]
    assert lock_files.uv_options({"no-index": "1"}) == ["--no-index"]


def test_the_callers_variables_take_precedence(monkeypatch, tmp_path) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], failure: str, environment: dict[str, str], folder: object = None) -> str:
        calls.append((command, environment))
        return "global.index-url='https://file/simple'\n"

    monkeypatch.setattr(installers, "run", run)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine/simple")
    lock_files._compile("pipeline", tmp_path)
    assert calls[1][1]["UV_DEFAULT_INDEX"] == "https://mine/simple"
    assert calls[1][0][-3:] == ["--output-file", "pipeline.txt", "pipeline.in"]
