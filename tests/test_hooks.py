"""The hooks on their own: they stay inside the project, whatever answers they get, and lose no file of a person."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BODY, ROOT
from cookiecutter.extensions import JsonifyExtension
from cookiecutter_runs import files, variants
from jinja2 import Environment

EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"
AB = {"a": {"x": ["1"]}, "b": {"x": ["2"]}}


def run_hook(
    project: Path, answers: dict[str, object], hook: str = "post_gen_project.py"
) -> subprocess.CompletedProcess[str]:
    """Render the hook as cookiecutter does, without the template's extension, and run it in the project."""
    environment = Environment(extensions=[JsonifyExtension])  # noqa: S701, a script is no web page
    text = (ROOT / "hooks" / hook).read_text(encoding="utf-8")
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
    (project / "only-b").write_text("variants/b/only-b")
    completed = run_hook(project, {"x": "1", "_variants": AB})
    assert (completed.returncode, completed.stderr) == (0, "")
    assert not (project / "only-b").exists()


def test_a_file_of_a_person_stays_where_a_variant_does_not_fit(project: Path) -> None:
    (project / "only-b").write_text("of a person")
    completed = run_hook(project, {"x": "1", "_variants": AB})
    notice = "kept, although the template has no such file for these answers: only-b\n"
    assert (completed.returncode, completed.stderr) == (0, notice)
    assert (project / "only-b").read_text() == "of a person"


@pytest.mark.parametrize("x", ["1", "2"])
def test_files_stay_when_cookiecutter_skips_them(project: Path, x: str) -> None:
    for name in ("part/file", "only-b"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("of a person")
    completed = run_hook(project, {"x": x, "_keepsFiles": True, "_variants": AB})
    assert completed.returncode == 0
    assert {contents(project)[name] for name in ("part/file", "only-b")} == {"of a person"}
    assert not (project / "variants" / "a").exists()


def test_a_folder_in_the_place_of_a_file_is_named(project: Path) -> None:
    """The variants leave the project, so that nobody takes it for complete and a next generation can start."""
    (project / "only-b").mkdir()
    completed = run_hook(project, {"x": "2", "_variants": AB})
    refusal = "/abc/only-b: Is a directory, so the project is not complete: correct that and generate again.\n"
    assert completed.returncode == 1
    assert completed.stderr.endswith(refusal)
    assert completed.stderr.count("\n") == 1
    assert not (project / "variants" / "a").exists()
    assert (project / "variants" / "own" / "of-a-person").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_generation_does_not_start_where_variants_would_lie(project: Path, kind: str) -> None:
    """The hook after generation could not tell a person's files there from the template's."""
    answers: dict[str, object] = {"_extensions": [EXTENSION], "_variants": AB}
    if kind != "folder":
        (project / "variants").rename(project / "mine")
    if kind == "file":
        (project / "variants").write_text("of a person")
    if kind == "link":
        (project / "variants").symlink_to("mine")
    before = contents(project)
    completed = run_hook(project, answers, "pre_gen_project.py")
    assert completed.returncode == 1
    assert completed.stderr.startswith(f"abc/variants{'/a' if kind == 'folder' else ''} is there already, and ")
    assert completed.stderr.count("\n") == 1
    assert contents(project) == before


def test_generation_starts_beside_other_folders_of_variants(project: Path) -> None:
    answers: dict[str, object] = {"_extensions": [EXTENSION], "_variants": {"c": {"x": ["1"]}}}
    completed = run_hook(project, answers, "pre_gen_project.py")
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.parametrize("name", ["../..", "../../..", "a/../../..", "../../link", "{absolute}"])
def test_the_hook_never_leaves_the_project(project: Path, name: str) -> None:
    name = name.format(absolute=project.parent)
    completed = run_hook(project, {"x": "", "_variants": {name: {"x": ["no"]}}})
    assert completed.returncode == 1
    assert completed.stderr.endswith(
        " is not inside the project, so the project is not complete: correct that and generate again.\n"
    )
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
