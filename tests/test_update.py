"""cruft updates a project of version 0.1.0 to this version of the template."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Sandbox, change
from tools import doors

pytestmark = pytest.mark.slow
# Version 0.1.0 of the template, before the body had overlay folders.
OLD = "80d3c66"
EDITS = {
    "model.py": ("import keras\n", "import keras\n\n# A person's own line.\n"),
    "dataset.py": ('"""\n', '"""\n\n# A person\'s own line.\n'),
    "project.yaml": ("minimumAccuracy: 0.5\n", "minimumAccuracy: 0.75\n"),
}
EDITS_OF_A_TABLE = {name: edit for name, edit in EDITS.items() if name != "dataset.py"}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder with a test's author; return its output."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *author, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The template's history up to version 0.1.0, and the working tree as one commit after it."""
    known = subprocess.run(["git", "cat-file", "-e", f"{OLD}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"commit {OLD} (version 0.1.0) is not in this clone: fetch the whole history")
    folder = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", "--no-checkout", str(ROOT), str(folder))
    git(folder, "checkout", "--quiet", "-b", "release", OLD)
    git(folder, "rm", "-r", "--quiet", ".")
    doors.clone(ROOT, tmp_path / "new")
    subprocess.run(["cp", "-a", f"{tmp_path / 'new'}/.", folder], check=True)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "0.2.0")
    return folder


@pytest.mark.parametrize(
    ("answers", "edits"),
    [({}, EDITS), ({"dataset": "table"}, EDITS_OF_A_TABLE)],
    ids=["images", "table"],
)
def test_an_edited_project_is_updated_without_a_conflict(
    sandbox: Sandbox, repository: Path, answers: dict[str, str], edits: dict[str, tuple[str, str]]
) -> None:
    create = sandbox.run(
        "cruft", "create", repository, "--no-input", "--checkout", OLD, "--extra-context", json.dumps(answers)
    )
    assert create.returncode == 0, create.stdout + create.stderr
    project = sandbox.output / "image-classifier"
    git(project, "init", "--quiet")
    for name, (old, new) in edits.items():
        change(project / name, old, new)
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "a person's work")

    update = sandbox.run("cruft", "update", "--project-dir", project, "--skip-apply-ask", "--checkout", "release")
    assert update.returncode == 0, update.stdout + update.stderr
    assert not list(project.rglob("*.rej"))
    assert "<<<<<<<" not in "".join((project / name).read_text(encoding="utf-8") for name in edits)
    expected = doors.cookiecutter(repository, answers, sandbox.path / "expected").folder
    assert expected is not None
    for name, (_, new) in edits.items():
        assert new in (project / name).read_text(encoding="utf-8")
    updated, expected_tree = doors.tree(project), doors.tree(expected)
    assert {name for name, content in expected_tree.items() if updated.get(name) != content} <= set(edits)
    # No file of the old layout remains.
    assert set(git(project, "ls-files", "--cached", "--others").splitlines()) - {".cruft.json", *doors.OWN} == set(
        expected_tree
    )
