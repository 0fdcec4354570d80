"""A generated project passes its own checks, and its code is identical to the template's."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import BODY, ROOT, Sandbox, body_files, in_body, in_project

# Files that may hold placeholders; all others are the same in every project.
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


def test_only_data_files_hold_placeholders() -> None:
    """Choices are data, so linters and editors can process the code of the template. Argo's braces do not count."""
    placeholder = "{{ cookiecutter."
    holding = [path for path in body_files() if placeholder in path.read_text(encoding="utf-8")]
    assert {in_project(str(path.relative_to(BODY))) for path in holding} == WITH_PLACEHOLDERS


def test_no_file_of_the_body_holds_a_block() -> None:
    """An optional feature is a file, never a condition inside a file."""
    for path in body_files():
        assert not re.search(r"\{%|\{#", path.read_text(encoding="utf-8")), path


def test_both_variants_of_project_yaml_differ_only_in_the_source() -> None:
    """The variant of tables has one section more; a change to one file alone is a mistake."""
    images, table = (in_body("project.yaml", kind).read_text(encoding="utf-8") for kind in ("images", "table"))
    source = re.search(r"# The table that is trained on.*?  key: ''\n", table, re.DOTALL)
    assert source
    assert table.replace(source[0], "") == images


def test_every_option_has_an_effect() -> None:
    """Each option fills a placeholder outside .provenance.yaml or decides on a variant."""
    manifest = yaml.safe_load((ROOT / "accelerator.yaml").read_text(encoding="utf-8"))
    variants = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_variants"]
    deciding = {name for when in variants.values() for name in when}
    bodies = "".join(path.read_text(encoding="utf-8") for path in body_files() if path.name != ".provenance.yaml")
    for option in manifest["accelerator"]["options"]:
        name = option["name"]
        assert f"cookiecutter.{name} " in bodies or name in deciding, name


@pytest.fixture(name="project", scope="module")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A default project; its servers' files are removed at the end."""
    place = Sandbox(tmp_path_factory.mktemp("project"))
    for folder in (place.output, place.home):
        folder.mkdir(parents=True)
    completed = place.run("cookiecutter", "--no-input", ROOT)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    yield place.output / "image-classifier"
    make(place.output / "image-classifier", "down")


def make(project: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run a make target of a generated project, without the environment of the current make."""
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


def test_generated_yaml_passes_yamllint(project: Path) -> None:
    """YAML with placeholders can be linted only after generation."""
    yamllint = shutil.which("yamllint", path=str(ROOT / ".venv" / "bin")) or "yamllint"
    files = [*(path.relative_to(project) for path in project.rglob("*.yaml")), "MLproject"]
    assert len(files) >= 4
    completed = subprocess.run(
        [yamllint, "--strict", *files],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout


@pytest.mark.slow
def test_it_passes_its_own_tests(project: Path) -> None:
    """This takes a minute: lint and the project's tests, on servers that `make test` starts and stops."""
    completed = make(project, "test")
    assert completed.returncode == 0, completed.stdout[-5000:] + completed.stderr[-2000:]
    assert re.search(r"=+ \d+ passed in .* =+", completed.stdout)
    assert "skipped" not in completed.stdout.splitlines()[-2]
    assert "stopped: training, inference, mlflow" in completed.stdout + completed.stderr


@pytest.mark.slow
def test_the_doctor_names_the_fix(project: Path) -> None:
    """No server of this project runs: the doctor reports it with the fix and exits with a status other than 0."""
    completed = make(project, "doctor")
    output = completed.stdout + completed.stderr
    assert completed.returncode != 0
    assert "make start" in output
    assert "Traceback" not in output
