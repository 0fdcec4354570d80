"""What cookiecutter and cruft generate, and what they refuse before anything is written."""

import json
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BODY, FOLDER, ROOT, Sandbox, in_body, in_project
from cookiecutter.exceptions import FailedHookException
from cookiecutter.extensions import JsonifyExtension
from cookiecutter.generate import generate_files
from jinja2 import Environment
from pytest_cookies.plugin import Cookies

from accelerator_engine.derive import derived, variants_of
from accelerator_engine.options import Option

HOSTILE_NAMES = [
    "../evil", "/proc/evil", "..", ".", "a b", "1abc", "pg-x", "gp-x", "A", "", "x" * 200, "'abc'", '"abc"',
    "{abc}", "{{ 7*7 }}", "{{ 'abc' }}", "{{ undefined }}", "{{", "{%", "{#", "{% raw %}abc{% endraw %}",
    "{{cookiecutter.projectName}}", "abc\n", "a\nb", "abc\r\n", "$(touch evil)", "abc;touch evil", "~",
    "a\\b", "\U0001f600",
]  # fmt: skip
NASTY_NAMES = ["user-table", "select", "class", "null", "yes", "abc", "x" * 40]
SETTING = "{} is a setting of this template, not a question, and cannot be given; leave it out"
EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def files(folder: Path) -> Iterator[Path]:
    """Every file and link, less what tools that ran in the body left there (a clone has none of it)."""
    for path in folder.rglob("*"):
        left_over = any(part == "__pycache__" or part.endswith("_cache") for part in path.parts)
        if not left_over and (path.is_symlink() or not path.is_dir()):
            yield path


def variants() -> dict[str, Any]:
    return json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_variants"]


def expected_files(answers: dict[str, str]) -> dict[str, int]:
    """The paths of a project with these answers, and the executable bits that its files have in the body."""
    expected, table = {}, variants()
    for path in files(BODY):
        name = str(path.relative_to(BODY))
        needed = [table[variant] for variant in variants_of(name)]
        if all(answers[option] in values for when in needed for option, values in when.items()):
            expected[in_project(name)] = path.stat().st_mode & EXECUTABLE
    return expected


def refused_bake(cookies: Cookies, **answers: object) -> str:
    """Bake with the answers; return the sentence that refused them, given that nothing was written."""
    result = cookies.bake(extra_context=answers)
    assert type(result.exception) is FailedHookException, repr(result.exception)
    place = Path(cookies._output_factory.__self__)
    assert all(path.name.startswith("bake") and not any(path.iterdir()) for path in place.iterdir())
    assert not (place.parent / "evil").exists()
    return str(result.exception)


def the_sentence(name: str, answer: str, option: Option) -> str:
    start = f"{name} cannot be {answer[:60]!r}" + (f"… ({len(answer)} characters)" if len(answer) > 60 else "")
    description = option.description
    return f"{start}; allowed is {description[0].lower()}{description[1:]}, for example {option.default}."


def cookiecutter(sandbox: Sandbox, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return sandbox.run("cookiecutter", ROOT, *arguments, stdin=stdin)


# What is generated


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_the_body_is_generated_with_the_variants_that_fit(
    cookies: Cookies, options: dict[str, Option], dataset: str
) -> None:
    result = cookies.bake(extra_context={"dataset": dataset})
    assert result.exception is None
    project = result.project_path
    assert project.name == "image-classifier"
    answers = {name: option.default for name, option in options.items()} | {"dataset": dataset}
    generated = {str(path.relative_to(project)): path.lstat().st_mode & EXECUTABLE for path in files(project)}
    assert generated == expected_files(answers)
    assert (project / "dataset.py").read_text() == in_body("dataset.py", dataset).read_text()


def test_a_project_on_a_table_has_its_own_files_under_the_common_names(
    cookies: Cookies, options: dict[str, Option]
) -> None:
    result = cookies.bake(extra_context={"dataset": "table", "featureColumns": "a, b"})
    assert result.exception is None
    project = result.project_path
    answers = {name: option.default for name, option in options.items()} | {"dataset": "table"}
    generated = {str(path.relative_to(project)): path.lstat().st_mode & EXECUTABLE for path in files(project)}
    assert generated == expected_files(answers)
    assert not [name for name in generated if "dataset" in name and name != "pipeline/steps/upload_dataset.py"
                and not name.endswith("002-dataset.sql")]  # fmt: skip
    source = yaml.safe_load((project / "project.yaml").read_text())["source"]
    assert (source["table"], source["features"]) == ("breast_cancer", "a, b")


def test_no_placeholder_and_no_link_is_left(cookies: Cookies) -> None:
    project = cookies.bake().project_path
    for path in files(project):
        assert not path.is_symlink()
        assert path.name != "template"
        assert "cookiecutter" not in str(path.relative_to(project))
        left = re.search(rb"\{[{%#]-?\s*cookiecutter|\bcookiecutter\.[A-Za-z_]+", path.read_bytes())
        assert left is None, f"{path}: {left}"


def test_executable_files_stay_executable(cookies: Cookies, copied_template: Path) -> None:
    script = copied_template / FOLDER / "run-me"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    project = cookies.bake(template=str(copied_template)).project_path
    assert (project / "run-me").stat().st_mode & EXECUTABLE == EXECUTABLE
    assert (project / "project.yaml").stat().st_mode & EXECUTABLE == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NASTY_NAMES)
def test_nasty_names_stay_the_text_they_are(cookies: Cookies, name: str) -> None:
    result = cookies.bake(extra_context={"projectName": name, "owner": "null", "description": "yes: no #1"})
    assert result.exception is None
    assert result.project_path.name == name
    answers = yaml.safe_load((result.project_path / "project.yaml").read_text(encoding="utf-8"))
    assert (answers["projectName"], answers["owner"], answers["description"]) == (name, "null", "yes: no #1")


def test_numbers_may_be_given_as_numbers(cookies: Cookies) -> None:
    assert cookies.bake(extra_context={"epochs": 3, "minimumAccuracy": 0.25}).exception is None


def test_the_last_line_says_what_to_do_next(sandbox: Sandbox) -> None:
    done = cookiecutter(sandbox, "--no-input", "projectName=abc")
    assert (done.returncode, done.stdout, done.stderr) == (0, "cd abc && make demo\n", "")


@pytest.mark.slow
def test_generating_again_keeps_what_people_added(sandbox: Sandbox) -> None:
    assert cookiecutter(sandbox, "--no-input").returncode == 0
    state = sandbox.output / "image-classifier" / ".local" / "state"
    state.parent.mkdir(exist_ok=True)
    state.write_text("kept")
    assert cookiecutter(sandbox, "--no-input", "--overwrite-if-exists", "dataset=cifar10").returncode == 0
    assert state.read_text() == "kept"
    data_set = (sandbox.output / "image-classifier" / "dataset.py").read_text()
    assert data_set == in_body("dataset.py", "cifar10").read_text()


def test_questions_can_be_answered(sandbox: Sandbox) -> None:
    done = cookiecutter(sandbox, stdin="abc\n\n\n2\n" + "\n" * 22)
    assert done.returncode == 0, done.stdout
    assert "Handwritten digits (bundled, works offline)" in done.stdout
    data_set = (sandbox.output / "abc" / "dataset.py").read_text()
    assert data_set == in_body("dataset.py", "cifar10").read_text()


@pytest.mark.slow
def test_a_project_without_a_page(cookies: Cookies) -> None:
    """Nothing that serves the page alone is left where it is not wanted."""
    projects = [cookies.bake(extra_context={"includeUi": answer}).project_path for answer in (True, False)]
    with_page, without = ({str(path.relative_to(project)) for path in files(project)} for project in projects)
    assert with_page - without == {
        "app/.streamlit/config.toml",
        "app/charts.py",
        "app/ui.py",
        "app/ui_input.py",
        "app/ui_state.py",
        "catalog-ui.yaml",
        "deploy/app/workload-ui.yaml",
        "requirements/ui.in",
        "requirements/ui.txt",
    }
    assert "app/api.py" in without
    assert not without - with_page


@pytest.mark.slow
def test_a_project_with_a_notebook(cookies: Cookies) -> None:
    """It has these files more, and no other differs but in telling the answer."""
    projects = [cookies.bake(extra_context={"includeNotebook": answer}).project_path for answer in (True, False)]
    with_notebook, without = (
        {str(path.relative_to(project)): path.read_bytes() for path in files(project)} for project in projects
    )
    assert with_notebook.keys() - without.keys() == {
        "deploy/images/notebook.Dockerfile",
        "deploy/jupyterhub/values.yaml",
        "docs/notebook.md",
        "notebooks/explore.ipynb",
        "requirements/notebook.in",
        "requirements/notebook.txt",
        "tests/test_notebooks.py",
    }
    assert {name for name in without if without[name] != with_notebook[name]} <= {".provenance.yaml"}


@pytest.mark.slow
def test_images_and_tables_leave_no_trace_of_each_other(cookies: Cookies) -> None:
    """What serves one of them is not there for the other; what both have has one name."""
    images, table = (
        cookies.bake(extra_context={"dataset": answer, "projectName": f"a-{answer}"}).project_path
        for answer in ("digits", "table")
    )
    names = [{str(path.relative_to(project)) for path in files(project)} for project in (images, table)]
    served = [{name for name in own if name.startswith(("app/", "database/"))} for own in names]
    assert served[0] - served[1] == {"app/images.py"}
    assert served[1] - served[0] == {
        "app/rows.py",
        "database/inference/006-row.sql",
        "database/python/encode.py",
        "database/training/006-table.sql",
    }
    for name in ("app/inputs.py", "app/ui_input.py", "app/openapi.json", "docs/data.md", "project.yaml"):
        assert (images / name).read_bytes() != (table / name).read_bytes()


# What is refused


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "abc\0", "\ud800"])
def test_a_hostile_name_is_refused(cookies: Cookies, options: dict[str, Option], name: str) -> None:
    assert refused_bake(cookies, projectName=name) == the_sentence("projectName", name, options["projectName"])


@pytest.mark.parametrize("option", ["owner", "description", "epochs", "minimumAccuracy"])
@pytest.mark.parametrize("code", ["{{ 7*7 }}", "{{cookiecutter.projectName}}", "{% raw %}5{% endraw %}", "{{", "5\n"])
def test_an_answer_is_never_a_template(cookies: Cookies, options: dict[str, Option], option: str, code: str) -> None:
    """Rendered, most of them would be valid: 49, image-classifier, 5."""
    assert refused_bake(cookies, **{option: code}) == the_sentence(option, code, options[option])


@pytest.mark.parametrize("hook", ["pre_gen_project.py", "post_gen_project.py"])
def test_an_answer_that_is_the_text_of_a_hook_is_refused(cookies: Cookies, hook: str) -> None:
    text = (ROOT / "hooks" / hook).read_text(encoding="utf-8")
    assert refused_bake(cookies, description=text).startswith("description cannot be ")


@pytest.mark.parametrize(
    ("answer", "kind"), [(None, "nothing"), (True, "true or false"), ({"a": "b"}, "a mapping"), ({}, "a mapping")]
)
def test_an_answer_that_is_not_text_is_refused(cookies: Cookies, answer: object, kind: str) -> None:
    assert re.match(rf"projectName cannot be .* \({kind}, not text", refused_bake(cookies, projectName=answer))


def test_a_question_that_was_not_derived_is_named(sandbox: Sandbox, copied_template: Path) -> None:
    manifest = copied_template / "accelerator.yaml"
    manifest.write_text(manifest.read_text().replace("# `make derive` turns", f"{FLAVOUR}# `make derive` turns"))
    done = sandbox.run("cookiecutter", copied_template, "--no-input")
    assert done.stdout == "cookiecutter.json does not ask for flavour: run make derive in the template.\n"
    assert done.returncode == 1
    assert sandbox.untouched()


@pytest.mark.parametrize("answer", HOSTILE_NAMES)
def test_the_command_line_prints_one_sentence(sandbox: Sandbox, options: dict[str, Option], answer: str) -> None:
    done = cookiecutter(sandbox, "--no-input", f"projectName={answer}")
    assert done.stdout == the_sentence("projectName", answer, options["projectName"]) + "\n"
    assert (done.returncode, done.stderr) == (1, "")
    assert sandbox.untouched()


def test_a_value_that_claims_to_be_checked_changes_nothing(sandbox: Sandbox, options: dict[str, Option]) -> None:
    done = cookiecutter(sandbox, "--no-input", "__checked=x", "__prompts__=x", "projectName=../evil")
    assert done.stdout == the_sentence("projectName", "../evil", options["projectName"]) + "\n"
    assert done.returncode == 1
    assert sandbox.untouched()


@pytest.mark.parametrize("option", ["owner", "description", "epochs", "minimumAccuracy"])
def test_the_last_text_answer_is_checked_as_the_first(
    sandbox: Sandbox, options: dict[str, Option], option: str
) -> None:
    done = cookiecutter(sandbox, "--no-input", f"{option}={{{{ 1 }}}}")
    assert done.stdout == the_sentence(option, "{{ 1 }}", options[option]) + "\n"
    assert sandbox.untouched()


def test_a_wrong_answer_ends_the_questions(sandbox: Sandbox, options: dict[str, Option]) -> None:
    done = cookiecutter(sandbox, stdin="../evil\n")
    assert done.stdout.endswith(the_sentence("projectName", "../evil", options["projectName"]) + "\n")
    assert "[2/8]" not in done.stdout
    assert (done.returncode, done.stderr) == (1, "")
    assert sandbox.untouched()


def test_a_wrong_default_of_the_user_is_refused(sandbox: Sandbox, options: dict[str, Option]) -> None:
    (sandbox.home / ".cookiecutterrc").write_text("default_context: {projectName: ../evil}\n")
    done = cookiecutter(sandbox, "--no-input")
    assert done.stdout == the_sentence("projectName", "../evil", options["projectName"]) + "\n"
    assert sandbox.untouched()


@pytest.mark.parametrize("value", ["x", [], {"../../victim.txt": {"dataset": ["none"]}}])
def test_the_variants_cannot_be_given(cookies: Cookies, value: object) -> None:
    assert refused_bake(cookies, _variants=value).startswith(SETTING.format("_variants"))


def test_the_variants_cannot_be_given_on_the_command_line(sandbox: Sandbox) -> None:
    done = cookiecutter(sandbox, "--no-input", "_variants=../victim.txt")
    assert done.stdout.startswith(SETTING.format("_variants"))
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")
    assert sandbox.untouched()


@pytest.mark.parametrize("given", ["_extensions=x", "_copy_without_render=*", "dataset=mnist"])
def test_cookiecutter_refuses_what_is_not_in_a_list_itself(sandbox: Sandbox, given: str) -> None:
    done = cookiecutter(sandbox, "--no-input", given)
    name, _, value = given.partition("=")
    assert f"ValueError: {value} provided for choice variable {name}, but the choices are [" in done.stderr
    assert done.returncode == 1
    assert sandbox.untouched()


@pytest.mark.parametrize("name", ["abc", "../evil", "../../evil"])
def test_generation_stops_when_the_check_was_switched_off(
    cookies: Cookies, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """The extension cannot refuse this, as it is not loaded; a hook does, and the empty folder goes again."""
    assert "Hook script failed" in refused_bake(cookies, _extensions=[], projectName=name)
    assert capfd.readouterr().err.startswith(SETTING.format("_extensions"))


def test_a_tool_that_leaves_an_option_out_is_refused(sandbox: Sandbox, options: dict[str, Option]) -> None:
    answers = {name: option.default for name, option in options.items() if name != "owner"}
    settings = {"_template": "x", "_extensions": ["accelerator_engine.cookiecutter.AnswersExtension"]}
    context = {"cookiecutter": {**answers, **settings, "_variants": variants()}}
    with pytest.raises(FailedHookException, match=r"^owner is missing; allowed is a name for the team"):
        generate_files(ROOT, context, sandbox.output)
    assert sandbox.untouched()


# Replay


def replay(sandbox: Sandbox, **changes: object) -> subprocess.CompletedProcess[str]:
    """Generate once, remove the result, and replay with a changed replay file."""
    assert cookiecutter(sandbox, "--no-input").returncode == 0
    shutil.rmtree(sandbox.output / "image-classifier")
    (recorded,) = (sandbox.home / ".cookiecutter_replay").glob("*.json")
    context = json.loads(recorded.read_text())
    context["cookiecutter"].update(changes)
    tampered = sandbox.home / "tampered.json"
    tampered.write_text(json.dumps(context))
    return cookiecutter(sandbox, "--replay-file", tampered)


def test_a_replay_file_generates_the_same(sandbox: Sandbox) -> None:
    done = replay(sandbox, dataset="cifar10")
    assert (done.returncode, done.stdout) == (0, "cd image-classifier && make demo\n")
    data_set = (sandbox.output / "image-classifier" / "dataset.py").read_text()
    assert data_set == in_body("dataset.py", "cifar10").read_text()


@pytest.mark.slow
def test_the_last_answers_can_be_replayed(sandbox: Sandbox) -> None:
    assert cookiecutter(sandbox, "--no-input", "projectName=abc", "dataset=cifar10").returncode == 0
    before = {path: path.read_bytes() for path in files(sandbox.output / "abc")}
    shutil.rmtree(sandbox.output / "abc")
    done = cookiecutter(sandbox, "--replay")
    assert (done.returncode, done.stdout) == (0, "cd abc && make demo\n"), done.stderr
    assert {path: path.read_bytes() for path in files(sandbox.output / "abc")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answer"),
    [("projectName", "../evil"), ("dataset", "mnist"), ("dataset", "digits\n"), ("epochs", "{{ 7*7 }}")],
)
def test_a_tampered_answer_is_refused(sandbox: Sandbox, options: dict[str, Option], name: str, answer: str) -> None:
    done = replay(sandbox, **{name: answer})
    assert done.stdout == the_sentence(name, answer, options[name]) + "\n"
    assert (done.returncode, done.stderr) == (1, "")
    assert sandbox.untouched()


@pytest.mark.slow
def test_a_tampered_list_is_refused(sandbox: Sandbox) -> None:
    done = replay(sandbox, dataset=["digits", "cifar10"])
    assert done.stdout.startswith('dataset cannot be ["digits", "cifar10"] (a list, not text); allowed is ')
    assert sandbox.untouched()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_variants", {"../../victim.txt": {"dataset": ["none"]}}),
        ("_copy_without_render", ["*"]),
        ("_new_lines", "x"),
        ("_jinja2_env_vars", {"autoescape": True}),
        ("_extensions", ["accelerator_engine.cookiecutter.AnswersExtension"] * 2),
    ],
)
def test_a_tampered_setting_is_refused(sandbox: Sandbox, name: str, value: object) -> None:
    done = replay(sandbox, **{name: value})
    assert done.stdout.startswith(SETTING.format(name))
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")
    assert sandbox.untouched()


def test_a_replay_with_the_check_switched_off_is_stopped(sandbox: Sandbox) -> None:
    done = replay(sandbox, _extensions=[], projectName="../evil")
    assert done.returncode == 1
    assert SETTING.format("_extensions") in done.stderr
    assert sandbox.untouched()


# cruft


@pytest.fixture
def repository(copied_template: Path) -> Path:
    """A git repository with the template: cruft clones."""
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
    """An update reaches a project whose owner has been at work in it."""
    done = cruft_create(sandbox, repository, {"projectName": "abc", "dataset": "cifar10"})
    assert done.returncode == 0, done.stdout + done.stderr
    project = sandbox.output / "abc"
    assert (project / "dataset.py").read_text() == in_body("dataset.py", "cifar10").read_text()
    commit(project, "init", "--quiet")
    own = (project / "model.py").read_text() + "\n\nLAYERS = 3\n"
    (project / "model.py").write_text(own)
    commit(project)

    change_template(repository)
    done = sandbox.run("cruft", "update", "--project-dir", project, "--skip-apply-ask")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "model.py").read_text() == own
    assert (project / "added.txt").read_text() == "for abc, plain\n"
    assert "# A new line of the template." in (project / "Makefile").read_text()
    assert not (project / "variants").exists()
    assert not list(project.rglob("*.rej"))
    assert json.loads((project / ".cruft.json").read_text())["context"]["cookiecutter"]["flavour"] == "plain"


FLAVOUR = """\
    - name: flavour
      x-group: Tools
      label: Flavour
      description: The flavour, plain or sweet
      dataType: string
      inputType: select
      choices: [{text: Plain, value: plain}, {text: Sweet, value: sweet}]
      defaultValue: plain
      required: true
      validationRegex: '^(plain|sweet)(?![\\s\\S])'

"""


def change_template(repository: Path) -> None:
    """A new version: another question, another file of a variant, a changed file, another hook."""
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
    done = cruft_create(sandbox, repository, {"projectName": name})
    assert done.returncode == 1
    # cruft draws a box around the sentence, and breaks its lines to fit.
    shown = re.sub(r"[\s│]+", " ", done.stdout + done.stderr)
    assert f"FailedHookException: {the_sentence('projectName', name, options['projectName'])}" in shown
    assert sandbox.untouched()


# The hook on its own: it must be harmless whatever it is given


def run_hook(project: Path, answers: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Render the hook as cookiecutter does, without our extension, and run it in the project."""
    environment = Environment(extensions=[JsonifyExtension])  # noqa: S701, a script is no web page
    text = (ROOT / "hooks" / "post_gen_project.py").read_text(encoding="utf-8")
    script = project.parent / "hook.py"
    script.write_text(environment.from_string(text).render(cookiecutter=answers), encoding="utf-8")
    return subprocess.run(
        [sys.executable, script], cwd=project, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
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
    """What a person keeps in a folder of that name stays."""
    done = run_hook(project, {"x": x, "_variants": {"a": {"x": ["1"]}, "b": {"x": ["2"]}}})
    assert (done.returncode, done.stdout, done.stderr) == (0, "cd abc && make demo\n", "")
    kept = {name: name for name in ("common", "variants/own/of-a-person")}
    assert contents(project) == kept | expected
    assert not [path for path in project.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_a_variant_within_a_variant_needs_both_answers(project: Path) -> None:
    done = run_hook(project, {"x": "1", "y": True, "_variants": {"a": {"x": ["1"]}, "b": {"y": [True]}}})
    assert done.returncode == 0, done.stderr
    assert contents(project)["both"] == "variants/a/variants/b/both"
    assert contents(project)["only-b"] == "variants/b/only-b"


def test_files_of_earlier_answers_go(project: Path) -> None:
    """A project that is generated again for other answers keeps no file of the earlier ones."""
    (project / "only-b").write_text("generated before")
    assert run_hook(project, {"x": "1", "_variants": {"a": {"x": ["1"]}, "b": {"x": ["2"]}}}).returncode == 0
    assert not (project / "only-b").exists()


@pytest.mark.parametrize("name", ["../..", "../../..", "a/../../..", "../../link", "{absolute}"])
def test_the_hook_never_leaves_the_project(project: Path, name: str) -> None:
    name = name.format(absolute=project.parent)
    done = run_hook(project, {"x": "", "_variants": {name: {"x": ["no"]}}})
    assert done.returncode == 1
    assert done.stderr.endswith(" is not inside the project, so the project is not complete.\n")
    assert (project.parent / "victim").read_text() == "../victim"
    assert (project / "common").exists()


@pytest.mark.parametrize("x", ["1", "2"])
def test_the_hook_follows_no_link_out_of_the_project(project: Path, x: str) -> None:
    """Whoever generates over a project may have a link where a variant has a folder."""
    (project / "variants" / "a" / "link").mkdir()
    (project / "variants" / "a" / "link" / "victim").write_text("of the template")
    done = run_hook(project, {"x": x, "_variants": {"a": {"x": ["1"]}}})
    assert done.returncode == 1
    assert "/abc/link/victim is not inside the project" in done.stderr
    assert (project.parent / "victim").read_text() == "../victim"


@pytest.mark.parametrize("text", ['"""', "'''", "\\", '\\"""', '"', "\n", "\u2028", "\0", "\U0001f600", '""")\n1/0'])
def test_the_hook_reads_any_text_as_data(project: Path, text: str) -> None:
    done = run_hook(project, {text: text, "_variants": {"a": {text: [text + "x"]}, "b": {text: [text]}}})
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(project)["part/file"] == "variants/b/part/file"


def test_the_variants_are_the_folders_of_the_body() -> None:
    folders = {path.name for path in [*BODY.glob("variants/*"), *BODY.glob("variants/*/variants/*")]}
    assert folders == set(variants())


# Nothing but cookiecutter

OFFLINE = """\
import socket


class Refused(socket.socket):
    def connect(self, address):
        raise OSError("this environment is offline")


socket.socket = Refused
"""


@pytest.fixture(scope="session")
def bare_cookiecutter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cookiecutter in an environment that holds nothing else and cannot open a connection."""
    folder = tmp_path_factory.mktemp("bare")
    pinned = folder / "constraints.txt"
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned.write_text("\n".join(re.findall(r"^[a-z0-9.-]+==[^\\\n]+", lock, re.MULTILINE)))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", pinned, "cookiecutter"], check=True)
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (Path(found.stdout.strip()) / "sitecustomize.py").write_text(OFFLINE)
    return python.with_name("cookiecutter")


@pytest.mark.slow
def test_cookiecutter_alone_generates(bare_cookiecutter: Path, sandbox: Sandbox) -> None:
    done = sandbox.run(bare_cookiecutter, ROOT, "--no-input", "projectName=abc")
    assert (done.returncode, done.stdout) == (0, "cd abc && make demo\n"), done.stderr
    assert (sandbox.output / "abc" / "dataset.py").is_file()


@pytest.mark.slow
def test_cookiecutter_alone_refuses(bare_cookiecutter: Path, sandbox: Sandbox, options: dict[str, Option]) -> None:
    done = sandbox.run(bare_cookiecutter, ROOT, "--no-input", "projectName=../evil")
    assert done.stdout == the_sentence("projectName", "../evil", options["projectName"]) + "\n"
    assert (done.returncode, done.stderr) == (1, "")
    assert sandbox.untouched()
