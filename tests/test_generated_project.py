"""A project passes its own checks on the first day, and its code is the code of the template."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import BODY, FOLDER, ROOT, Sandbox, in_body, in_project

# What may hold placeholders; everything else is the same file in every project.
WITH_PLACEHOLDERS = {
    ".provenance.yaml",
    "MLproject",
    "README.md",
    "app/openapi.json",
    "catalog-info.yaml",
    "catalog-pipeline.yaml",
    "catalog-ui.yaml",
    "deploy/jupyterhub/values.yaml",
    "deploy/values-production.yaml",
    "deploy/values.yaml",
    "mkdocs.yml",
    "project.yaml",
    "pyproject.toml",
}


def body_files() -> list[Path]:
    """The files of the body that belong to it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", FOLDER],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_placeholders_stand_in_data_files_alone() -> None:
    """Choices are data: linters and editors work on the code as it stands. Argo's braces are its own."""
    placeholder = "{{ cookiecutter."
    holding = [path for path in body_files() if placeholder in path.read_text(encoding="utf-8")]
    assert {in_project(str(path.relative_to(BODY))) for path in holding} == WITH_PLACEHOLDERS


def test_no_file_of_the_body_holds_a_block() -> None:
    """An optional feature is a file, never a condition inside one."""
    for path in body_files():
        assert not re.search(r"\{%|\{#", path.read_text(encoding="utf-8")), path


def test_both_forms_of_project_yaml_say_the_same_but_for_the_source() -> None:
    """A table has a section more; a change of one file alone would be a difference that nobody wanted."""
    usual, table = (in_body("project.yaml", kind).read_text(encoding="utf-8") for kind in ("images", "table"))
    source = re.search(r"# The table that is trained on.*?  key: ''\n", table, re.DOTALL)
    assert source
    assert table.replace(source[0], "") == usual


def test_every_option_is_read_by_something() -> None:
    """Each option reaches a file other than its provenance, or decides on a variant."""
    manifest = yaml.safe_load((ROOT / "accelerator.yaml").read_text(encoding="utf-8"))
    variants = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_variants"]
    deciding = {name for when in variants.values() for name in when}
    bodies = "".join(path.read_text(encoding="utf-8") for path in body_files() if path.name != ".provenance.yaml")
    for option in manifest["accelerator"]["options"]:
        name = option["name"]
        assert f"cookiecutter.{name} " in bodies or name in deciding, name


@pytest.fixture(name="project", scope="module")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A default project; what its servers kept is removed at the end."""
    place = Sandbox(tmp_path_factory.mktemp("project"))
    for folder in (place.output, place.home):
        folder.mkdir(parents=True)
    done = place.run("cookiecutter", "--no-input", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    yield place.output / "image-classifier"
    make(place.output / "image-classifier", "down")


def make(project: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run a target of a generated project as a person would, outside of this run's make."""
    foreign = ("MAKE", "MFLAGS", "PYTEST", "SERVICE_BINDING_ROOT", "MLFLOW", "LOCAL_STATE", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return subprocess.run(
        ["make", target],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
    )


def test_what_is_generated_is_good_yaml(project: Path) -> None:
    """YAML with placeholders can be linted only once it is generated."""
    yamllint = shutil.which("yamllint", path=str(ROOT / ".venv" / "bin")) or "yamllint"
    files = [*(path.relative_to(project) for path in project.rglob("*.yaml")), "MLproject"]
    assert len(files) >= 4
    done = subprocess.run(
        [yamllint, "--strict", *files],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_it_passes_its_own_tests(project: Path) -> None:
    """A minute: lint and the project's tests, on servers that are started for them and gone afterwards."""
    done = make(project, "test")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"=+ \d+ passed in .* =+", done.stdout)
    assert "skipped" not in done.stdout.splitlines()[-2]
    assert "stopped: training, inference, mlflow" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_doctor_names_what_is_missing(project: Path) -> None:
    """Nothing has been started in this project: the doctor says so, how it is mended, and exits non-zero."""
    done = make(project, "doctor")
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert "make start" in told
    assert "Traceback" not in told
