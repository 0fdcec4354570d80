"""The hook after generation, on its own: it stays inside the project, whatever answers it gets."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BODY, ROOT
from cookiecutter.extensions import JsonifyExtension
from cookiecutter_runs import files, variants
from jinja2 import Environment


def run_hook(project: Path, answers: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Render the hook as cookiecutter does, without the template's extension, and run it in the project."""
    environment = Environment(extensions=[JsonifyExtension])  # noqa: S701, a script is no web page
    text = (ROOT / "hooks" / "post_gen_project.py").read_text(encoding="utf-8")
    script = project.parent / "hook.py"
    script.write_text(environment.from_string(text).render(cookiecutter=answers), encoding="utf-8")
    return subprocess.run(
        [sys.executable, script], cwd=project, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project before the hook, with variants, a link out of the project, and a file beside it."""
    folder = tmp_path / "abc"
    for name in (
        "common", "variants/a/part/file", "variants/b/part/file", "variants/b/only-b", "variants/a/variants/b/both",
        "variants/own/of-a-person", "../victim",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "link").symlink_to(tmp_path)
    return folder


def contents(project: Path) -> dict[str, str]:
    """Return the text per file, without links."""
    return {str(path.relative_to(project)): path.read_text() for path in files(project) if not path.is_symlink()}


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("1", {"part/file": "variants/a/part/file"}),
        ("2", {"part/file": "variants/b/part/file", "only-b": "variants/b/only-b"}),
        ("3", {}),
    ],
)
def test_the_hook_lays_variants_over_the_project(project: Path, x: str, expected: dict[str, str]) -> None:
    """A folder named variants that the user made stays."""
    completed = run_hook(project, {"x": x, "_variants": {"a": {"x": ["1"]}, "b": {"x": ["2"]}}})
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "cd abc && make demo\n", "")
    unchanged = {name: name for name in ("common", "variants/own/of-a-person")}
    assert contents(project) == unchanged | expected
    assert not [path for path in project.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_a_variant_within_a_variant_needs_both_answers(project: Path) -> None:
    completed = run_hook(project, {"x": "1", "y": True, "_variants": {"a": {"x": ["1"]}, "b": {"y": [True]}}})
    assert completed.returncode == 0, completed.stderr
    assert contents(project)["both"] == "variants/a/variants/b/both"
    assert contents(project)["only-b"] == "variants/b/only-b"


def test_files_of_earlier_answers_are_removed(project: Path) -> None:
    """A second generation with other answers keeps no file of the first."""
    (project / "only-b").write_text("generated before")
    assert run_hook(project, {"x": "1", "_variants": {"a": {"x": ["1"]}, "b": {"x": ["2"]}}}).returncode == 0
    assert not (project / "only-b").exists()


@pytest.mark.parametrize("name", ["../..", "../../..", "a/../../..", "../../link", "{absolute}"])
def test_the_hook_never_leaves_the_project(project: Path, name: str) -> None:
    name = name.format(absolute=project.parent)
    completed = run_hook(project, {"x": "", "_variants": {name: {"x": ["no"]}}})
    assert completed.returncode == 1
    assert completed.stderr.endswith(" is not inside the project, so the project is not complete.\n")
    assert (project.parent / "victim").read_text() == "../victim"
    assert (project / "common").exists()


@pytest.mark.parametrize("x", ["1", "2"])
def test_the_hook_follows_no_link_out_of_the_project(project: Path, x: str) -> None:
    """The project that is generated again may have a link in the place of a variant's folder."""
    (project / "variants" / "a" / "link").mkdir()
    (project / "variants" / "a" / "link" / "victim").write_text("of the template")
    completed = run_hook(project, {"x": x, "_variants": {"a": {"x": ["1"]}}})
    assert completed.returncode == 1
    assert "/abc/link/victim is not inside the project" in completed.stderr
    assert (project.parent / "victim").read_text() == "../victim"


@pytest.mark.parametrize("text", ['"""', "'''", "\\", '\\"""', '"', "\n", "\u2028", "\0", "\U0001f600", '""")\n1/0'])
def test_the_hook_reads_any_text_as_data(project: Path, text: str) -> None:
    completed = run_hook(project, {text: text, "_variants": {"a": {text: [text + "x"]}, "b": {text: [text]}}})
    assert (completed.returncode, completed.stderr) == (0, "")
    assert contents(project)["part/file"] == "variants/b/part/file"


def test_the_variants_are_the_folders_of_the_body() -> None:
    folders = {path.name for path in [*BODY.glob("variants/*"), *BODY.glob("variants/*/variants/*")]}
    assert folders == set(variants())
