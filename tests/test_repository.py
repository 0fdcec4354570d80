"""Conventions of the repository and of a project: one line length, local hooks, forms, and links that work."""

import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from conftest import BODY, ROOT, overlays

LINE_LENGTH = 120
BOTH = pytest.mark.parametrize("folder", [ROOT, BODY], ids=["repository", "project"])
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/how-to/upgrade.md")
FORMS = ("bug_report", "feature_request")


def read_yaml(file: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def line_lengths(folder: Path) -> dict[str, int]:
    """Return the line length per file that sets one."""
    lengths = {}
    for name in (".editorconfig", ".sqlfluff"):
        if (folder / name).exists():
            text = (folder / name).read_text(encoding="utf-8")
            (lengths[name],) = map(int, re.findall(r"^max_line_length = (\d+)$", text, re.MULTILINE))
    lengths[".yamllint"] = read_yaml(folder / ".yamllint")["rules"]["line-length"]["max"]
    settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    lengths["pyproject.toml"] = settings["tool"]["ruff"]["line-length"]
    return lengths


@BOTH
def test_editor_and_linters_agree_on_the_line_length(folder: Path) -> None:
    lengths = line_lengths(folder)
    assert {".editorconfig", ".yamllint", "pyproject.toml"} <= lengths.keys()
    assert set(lengths.values()) == {LINE_LENGTH}, lengths


@BOTH
def test_hooks_run_the_commands_of_make_lint_and_download_nothing(folder: Path) -> None:
    repositories = read_yaml(folder / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    makefile = (folder / "Makefile").read_text(encoding="utf-8")
    lint = makefile.partition("\nlint:")[2].partition("\n.PHONY")[0]
    commands = lint.replace("$(BIN)", ".venv/bin").replace("$(LOCAL)", "/usr/bin/python3 -m local")
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system", hook["id"]
        assert hook["entry"].partition(" --force-exclude")[0] in commands, hook["id"]


def test_hooks_of_the_repository_call_programs_of_the_environment() -> None:
    for hook in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        program = Path(shlex.split(hook["entry"])[0])
        assert program.parent == Path(".venv/bin")
        assert (Path(sys.executable).parent / program.name).exists(), program


@pytest.mark.parametrize("name", FORMS)
def test_a_form_asks_in_terms_that_the_platform_knows(name: str) -> None:
    form = read_yaml(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"checkboxes", "dropdown", "input", "textarea"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [link for link in links if ":" not in link and not ((ROOT / page).parent / unquote(link)).exists()]
    assert not missing


def is_in_a_project(path: str) -> bool:
    """Return whether the template body or a variant has a file for this path of a project."""
    return any((folder / path).exists() for folder in (BODY, *overlays(path)))


def test_files_moved_as_the_upgrade_page_says() -> None:
    page = (ROOT / "docs" / "how-to" / "upgrade.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| (`.+?) \|$", page, re.M)
    assert len(rows) > 30
    for old, new in rows:
        former, present = re.findall(r"`(.+?)`", old), re.findall(r"`(.+?)`", new)
        assert not [path for path in former if is_in_a_project(path)], old
        assert all(is_in_a_project(path) for path in present), new


def test_the_changelog_describes_the_version() -> None:
    """The newest release is that of pyproject.toml; releases have a date and stand below `Unreleased`, newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    versions = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", release) for release in releases]
    assert all(versions), releases
    order = [(tuple(map(int, match.groups()[:3])), match[4]) for match in versions if match]
    assert order == sorted(order, reverse=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ".".join(map(str, order[0][0])) == project["version"]
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
