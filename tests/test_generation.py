"""Projects that cookiecutter and cruft generate, also in an environment with cookiecutter only."""

import functools
import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import BODY, FOLDER, ROOT, Sandbox, in_body, in_project
from cookiecutter_runs import FLAVOUR, cookiecutter, files, refusal, variants
from pytest_cookies.plugin import Cookies

from accelerator_engine.derive import derived, variants_of
from accelerator_engine.options import Option

AMBIGUOUS_NAMES = ["user-table", "select", "class", "null", "yes", "abc", "x" * 40]
EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def expected_files(answers: dict[str, str]) -> dict[str, int]:
    """Return the paths of a project with these answers, and the executable bits of the files in the body."""
    expected, table = {}, variants()
    for path in files(BODY):
        name = str(path.relative_to(BODY))
        needed = [table[variant] for variant in variants_of(name)]
        if all(answers[option] in values for when in needed for option, values in when.items()):
            expected[in_project(name)] = path.stat().st_mode & EXECUTABLE
    return expected


# cookiecutter


@pytest.fixture(scope="module")
def baked(cookies_session: Cookies) -> Callable[..., Path]:
    """Return the project with these answers, generated on the first call; no test changes it."""

    @functools.cache
    def bake(**answers: object) -> Path:
        result = cookies_session.bake(extra_context=answers)
        assert result.exception is None
        return result.project_path

    return bake


@pytest.mark.parametrize(
    "answers",
    [pytest.param({}, id="digits"), pytest.param({"dataset": "cifar10"}, id="cifar10", marks=pytest.mark.slow)],
)
def test_a_project_has_the_variants_of_its_answers(
    baked: Callable[..., Path], options: dict[str, Option], answers: dict[str, str]
) -> None:
    project = baked(**answers)
    assert project.name == "image-classifier"
    all_answers = {name: option.default for name, option in options.items()} | answers
    generated = {str(path.relative_to(project)): path.lstat().st_mode & EXECUTABLE for path in files(project)}
    assert generated == expected_files(all_answers)
    assert (project / "dataset.py").read_text() == in_body("dataset.py", all_answers["dataset"]).read_text()


def test_a_table_project_has_its_own_files_under_the_common_names(
    baked: Callable[..., Path], options: dict[str, Option]
) -> None:
    project = baked(dataset="table", featureColumns="a, b")
    answers = {name: option.default for name, option in options.items()} | {"dataset": "table"}
    generated = {str(path.relative_to(project)): path.lstat().st_mode & EXECUTABLE for path in files(project)}
    assert generated == expected_files(answers)
    assert not [name for name in generated if "dataset" in name and name != "pipeline/steps/upload_dataset.py"
                and not name.endswith("002-dataset.sql")]  # fmt: skip
    source = yaml.safe_load((project / "project.yaml").read_text())["source"]
    assert (source["table"], source["features"]) == ("breast_cancer", "a, b")


def test_no_placeholder_and_no_link_remains(baked: Callable[..., Path]) -> None:
    project = baked()
    for path in files(project):
        assert not path.is_symlink()
        assert path.name != "template"
        assert "cookiecutter" not in str(path.relative_to(project))
        match = re.search(rb"\{[{%#]-?\s*cookiecutter|\bcookiecutter\.[A-Za-z_]+", path.read_bytes())
        assert match is None, f"{path}: {match}"


@pytest.mark.slow
def test_executable_files_stay_executable(cookies: Cookies, copied_template: Path) -> None:
    script = copied_template / FOLDER / "run-me"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    project = cookies.bake(template=str(copied_template)).project_path
    assert (project / "run-me").stat().st_mode & EXECUTABLE == EXECUTABLE
    assert (project / "project.yaml").stat().st_mode & EXECUTABLE == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", AMBIGUOUS_NAMES)
def test_names_that_yaml_could_misread_stay_text(cookies: Cookies, name: str) -> None:
    result = cookies.bake(extra_context={"projectName": name, "owner": "null", "description": "yes: no #1"})
    assert result.exception is None
    assert result.project_path.name == name
    answers = yaml.safe_load((result.project_path / "project.yaml").read_text(encoding="utf-8"))
    assert (answers["projectName"], answers["owner"], answers["description"]) == (name, "null", "yes: no #1")


def test_answers_may_be_numbers(cookies: Cookies) -> None:
    assert cookies.bake(extra_context={"epochs": 3, "minimumAccuracy": 0.25}).exception is None


def test_the_last_line_is_the_next_command(sandbox: Sandbox) -> None:
    completed = cookiecutter(sandbox, "--no-input", "projectName=abc")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "cd abc && make demo\n", "")


@pytest.mark.slow
def test_a_second_generation_keeps_files_of_the_user(sandbox: Sandbox) -> None:
    assert cookiecutter(sandbox, "--no-input").returncode == 0
    state = sandbox.output / "image-classifier" / ".local" / "state"
    state.parent.mkdir(exist_ok=True)
    state.write_text("kept")
    assert cookiecutter(sandbox, "--no-input", "--overwrite-if-exists", "dataset=cifar10").returncode == 0
    assert state.read_text() == "kept"
    data_set = (sandbox.output / "image-classifier" / "dataset.py").read_text()
    assert data_set == in_body("dataset.py", "cifar10").read_text()


@pytest.mark.slow
def test_a_second_generation_removes_no_file_that_a_person_wrote(sandbox: Sandbox) -> None:
    """A project without the template's CI has one of its own, and keeps it with the same answers."""
    assert cookiecutter(sandbox, "--no-input").returncode == 0
    checks = sandbox.output / "image-classifier" / ".github" / "workflows" / "checks.yml"
    checks.parent.mkdir(parents=True)
    checks.write_text("of a person")
    completed = cookiecutter(sandbox, "--no-input", "--overwrite-if-exists")
    assert completed.stderr.endswith(": .github/workflows/checks.yml\n")
    assert (completed.returncode, checks.read_text()) == (0, "of a person")


@pytest.mark.slow
def test_skipped_files_stay(sandbox: Sandbox) -> None:
    """Files of variants too, which the hook lays over the project."""
    assert cookiecutter(sandbox, "--no-input").returncode == 0
    data_set = sandbox.output / "image-classifier" / "dataset.py"
    data_set.write_text("of a person")
    options = ("--no-input", "--overwrite-if-exists", "--skip-if-file-exists")
    for answer in ("dataset=digits", "dataset=cifar10", "dataset=table"):
        assert cookiecutter(sandbox, *options, answer).returncode == 0
        assert data_set.read_text() == "of a person"


def test_questions_can_be_answered(sandbox: Sandbox) -> None:
    completed = cookiecutter(sandbox, stdin="abc\n\n\n2\n" + "\n" * 23)
    assert completed.returncode == 0, completed.stdout
    assert "Handwritten digits (bundled, works offline)" in completed.stdout
    data_set = (sandbox.output / "abc" / "dataset.py").read_text()
    assert data_set == in_body("dataset.py", "cifar10").read_text()


@pytest.mark.slow
def test_a_project_without_a_page(baked: Callable[..., Path]) -> None:
    """A project without the page has no file that only the page needs."""
    projects = [baked(), baked(includeUi=False)]
    with_page, without = ({str(path.relative_to(project)) for path in files(project)} for project in projects)
    assert with_page - without == {
        "app/.streamlit/config.toml",
        "app/charts.py",
        "app/oidc_login.py",
        "app/page.py",
        "app/page_protection.py",
        "app/sign_in.py",
        "app/ui.py",
        "app/ui_input.py",
        "app/ui_state.py",
        "catalog-ui.yaml",
        "deploy/app/workload-ui.yaml",
        "requirements/ui.in",
        "requirements/ui.txt",
        "tests/chart_specifications.py",
        "tests/page_environment.py",
        "tests/page_sign_in.py",
        "tests/page_visit.py",
        "tests/test_charts.py",
        "tests/test_sign_in.py",
        "tests/test_ui_input.py",
    }
    assert "app/api.py" in without
    assert not without - with_page


@pytest.mark.slow
def test_a_project_with_a_notebook(baked: Callable[..., Path]) -> None:
    """The notebook adds these files; of the others only .provenance.yaml differs."""
    projects = [baked(includeNotebook=True), baked()]
    with_notebook, without = (
        {str(path.relative_to(project)): path.read_bytes() for path in files(project)} for project in projects
    )
    assert with_notebook.keys() - without.keys() == {
        "deploy/images/notebook.Dockerfile",
        "deploy/jupyterhub/values.yaml",
        "docs/how-to/notebook.md",
        "notebooks/explore.ipynb",
        "requirements/notebook.in",
        "requirements/notebook.txt",
        "tests/test_notebooks.py",
    }
    assert {name for name in without if without[name] != with_notebook[name]} <= {".provenance.yaml"}


@pytest.mark.slow
def test_projects_on_images_and_on_tables_share_no_special_file(baked: Callable[..., Path]) -> None:
    """A project has no file of the other kind of data; files that both have carry the same name."""
    images, table = baked(), baked(dataset="table", featureColumns="a, b")
    names = [{str(path.relative_to(project)) for path in files(project)} for project in (images, table)]
    served = [{name for name in own if name.startswith(("app/", "database/"))} for own in names]
    assert served[0] - served[1] == {
        "app/decoders.py",
        "app/images.py",
        "database/inference/006-pixels.sql",
    }
    assert served[1] - served[0] == {
        "app/rows.py",
        "database/inference/006-row.sql",
        "database/inference/007-inputs.sql",
        "database/inference/010-row-subjects.sql",
        "database/python/encode.py",
        "database/training/006-table.sql",
    }
    for name in ("app/inputs.py", "app/ui_input.py", "app/openapi.json", "docs/reference/data.md", "project.yaml"):
        assert (images / name).read_bytes() != (table / name).read_bytes()


# cruft


@pytest.fixture
def repository(copied_template: Path) -> Path:
    """A git repository with the template, because cruft clones it."""
    commit(copied_template, "init", "--quiet")
    return copied_template


def commit(repository: Path, *before: str) -> None:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    if before:
        subprocess.run(["git", *before], cwd=repository, check=True)
    subprocess.run(["git", "add", "--all"], cwd=repository, check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "x"], cwd=repository, check=True)


def cruft_create(sandbox: Sandbox, repository: Path, answers: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return sandbox.run("cruft", "create", repository, "--no-input", "--extra-context", json.dumps(answers))


@pytest.mark.slow
def test_cruft_creates_and_updates(sandbox: Sandbox, repository: Path) -> None:
    """An update reaches a project and keeps the changes of its owner."""
    completed = cruft_create(sandbox, repository, {"projectName": "abc", "dataset": "cifar10"})
    assert completed.returncode == 0, completed.stdout + completed.stderr
    project = sandbox.output / "abc"
    assert (project / "dataset.py").read_text() == in_body("dataset.py", "cifar10").read_text()
    commit(project, "init", "--quiet")
    own = (project / "model.py").read_text() + "\n\nLAYERS = 3\n"
    (project / "model.py").write_text(own)
    commit(project)

    change_template(repository)
    completed = sandbox.run("cruft", "update", "--project-dir", project, "--skip-apply-ask")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert (project / "model.py").read_text() == own
    assert (project / "added.txt").read_text() == "for abc, plain\n"
    assert "# A new line of the template." in (project / "Makefile").read_text()
    assert not (project / "variants").exists()
    assert not list(project.rglob("*.rej"))
    assert json.loads((project / ".cruft.json").read_text())["context"]["cookiecutter"]["flavour"] == "plain"


def change_template(repository: Path) -> None:
    """Commit a new version: one more question, one more file of a variant, a changed file, a changed hook."""
    added = repository / FOLDER / "variants" / "ui" / "added.txt"
    added.write_text("for {{ cookiecutter.projectName }}, {{ cookiecutter.flavour }}\n")
    with (repository / FOLDER / "Makefile").open("a") as file:
        file.write("# A new line of the template.\n")
    manifest = (repository / "accelerator.yaml").read_text(encoding="utf-8")
    manifest = manifest.replace("# `make derive` turns", f"{FLAVOUR}# `make derive` turns")
    manifest = manifest.replace("- applyTo:\n", "- applyTo:\n        - added.txt\n").rstrip("\n")
    manifest += "\n            - {text: '{{ cookiecutter.flavour }}', with: '#flavour'}\n"
    (repository / "accelerator.yaml").write_text(manifest, encoding="utf-8")
    for path, text in derived(repository).items():
        path.write_text(text, encoding="utf-8")
    hook = repository / "hooks" / "post_gen_project.py"
    hook.write_text(hook.read_text() + "# another version\n")
    commit(repository)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../evil", "{{ 'abc' }}", "abc\n"])
def test_cruft_is_refused_too(sandbox: Sandbox, repository: Path, options: dict[str, Option], name: str) -> None:
    completed = cruft_create(sandbox, repository, {"projectName": name})
    assert completed.returncode == 1
    # cruft wraps the message and draws a box around it.
    shown = re.sub(r"[\s│]+", " ", completed.stdout + completed.stderr)
    assert f"FailedHookException: {refusal('projectName', name, options['projectName'])}" in shown
    assert sandbox.untouched()


# An environment with cookiecutter only

OFFLINE = """\
import socket


class Refused(socket.socket):
    def connect(self, address):
        raise OSError("this environment is offline")


socket.socket = Refused
"""


@pytest.fixture(scope="session")
def bare_cookiecutter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cookiecutter in an environment without other packages, in which no connection can be opened."""
    folder = tmp_path_factory.mktemp("bare")
    pinned = folder / "constraints.txt"
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned.write_text("\n".join(re.findall(r"^[a-z0-9.-]+==[^\\\n]+", lock, re.MULTILINE)))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", pinned, "cookiecutter"], check=True)
    completed = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (Path(completed.stdout.strip()) / "sitecustomize.py").write_text(OFFLINE)
    return python.with_name("cookiecutter")


@pytest.mark.slow
def test_cookiecutter_alone_generates(bare_cookiecutter: Path, sandbox: Sandbox) -> None:
    completed = sandbox.run(bare_cookiecutter, ROOT, "--no-input", "projectName=abc")
    assert (completed.returncode, completed.stdout) == (0, "cd abc && make demo\n"), completed.stderr
    assert (sandbox.output / "abc" / "dataset.py").is_file()


@pytest.mark.slow
def test_cookiecutter_alone_refuses(bare_cookiecutter: Path, sandbox: Sandbox, options: dict[str, Option]) -> None:
    completed = sandbox.run(bare_cookiecutter, ROOT, "--no-input", "projectName=../evil")
    assert completed.stdout == refusal("projectName", "../evil", options["projectName"]) + "\n"
    assert (completed.returncode, completed.stderr) == (1, "")
    assert sandbox.untouched()
