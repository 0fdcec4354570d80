"""cookiecutter's refusals: wrong answers and replayed answers, before a file is written."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Sandbox, in_body
from cookiecutter.exceptions import FailedHookException
from cookiecutter.generate import generate_files
from cookiecutter_runs import FLAVOUR, cookiecutter, files, refusal, variants
from pytest_cookies.plugin import Cookies

from accelerator_engine.cookiecutter import REPLAY_HINT
from accelerator_engine.options import Option

HOSTILE_NAMES = [
    "../evil", "/proc/evil", "..", ".", "a b", "1abc", "pg-x", "gp-x", "A", "", "x" * 200, "'abc'", '"abc"',
    "{abc}", "{{ 7*7 }}", "{{ 'abc' }}", "{{ undefined }}", "{{", "{%", "{#", "{% raw %}abc{% endraw %}",
    "{{cookiecutter.projectName}}", "abc\n", "a\nb", "abc\r\n", "$(touch evil)", "abc;touch evil", "~",
    "a\\b", "\U0001f600",
]  # fmt: skip
SETTING = "{} is a setting of this template, not a question, and cannot be given; leave it out"


def failed_bake(cookies: Cookies, **answers: object) -> str:
    """Bake with the answers, check that no file was written, and return the message of the refusal."""
    result = cookies.bake(extra_context=answers)
    assert type(result.exception) is FailedHookException, repr(result.exception)
    place = Path(cookies._output_factory.__self__)
    assert all(path.name.startswith("bake") and not any(path.iterdir()) for path in place.iterdir())
    assert not (place.parent / "evil").exists()
    return str(result.exception)


# Answers


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "abc\0", "\ud800"])
def test_a_hostile_name_is_refused(cookies: Cookies, options: dict[str, Option], name: str) -> None:
    assert failed_bake(cookies, projectName=name) == refusal("projectName", name, options["projectName"])


@pytest.mark.parametrize("option", ["owner", "description", "epochs", "minimumAccuracy"])
@pytest.mark.parametrize(
    "code", ["{{ 1 }}", "{{ 7*7 }}", "{{cookiecutter.projectName}}", "{% raw %}5{% endraw %}", "{{", "5\n"]
)
def test_an_answer_is_never_a_template(cookies: Cookies, options: dict[str, Option], option: str, code: str) -> None:
    """Most of these would be valid answers once rendered: 1, 49, image-classifier, 5."""
    assert failed_bake(cookies, **{option: code}) == refusal(option, code, options[option])


@pytest.mark.parametrize("hook", ["pre_gen_project.py", "post_gen_project.py"])
def test_an_answer_that_is_the_text_of_a_hook_is_refused(cookies: Cookies, hook: str) -> None:
    text = (ROOT / "hooks" / hook).read_text(encoding="utf-8")
    assert failed_bake(cookies, description=text).startswith("description cannot be ")


@pytest.mark.parametrize(
    ("answer", "kind"), [(None, "nothing"), (True, "true or false"), ({"a": "b"}, "a mapping"), ({}, "a mapping")]
)
def test_an_answer_that_is_not_text_is_refused(cookies: Cookies, answer: object, kind: str) -> None:
    assert re.match(rf"projectName cannot be .* \({kind}, not text", failed_bake(cookies, projectName=answer))


def test_a_question_missing_in_cookiecutter_json_is_named(sandbox: Sandbox, copied_template: Path) -> None:
    manifest = copied_template / "accelerator.yaml"
    manifest.write_text(manifest.read_text().replace("# `make derive` turns", f"{FLAVOUR}# `make derive` turns"))
    completed = sandbox.run("cookiecutter", copied_template, "--no-input")
    assert completed.stdout == "cookiecutter.json does not ask for flavour: run make derive in the template.\n"
    assert completed.returncode == 1
    assert sandbox.untouched()


@pytest.mark.parametrize("answer", ["../evil", "{{ 7*7 }}", "abc\n", ""])
def test_the_command_line_prints_one_sentence(sandbox: Sandbox, options: dict[str, Option], answer: str) -> None:
    """It asks the same check as test_a_hostile_name_is_refused, which knows more names; these differ in transport."""
    completed = cookiecutter(sandbox, "--no-input", f"projectName={answer}")
    assert completed.stdout == refusal("projectName", answer, options["projectName"]) + "\n"
    assert (completed.returncode, completed.stderr) == (1, "")
    assert sandbox.untouched()


def test_an_answer_cannot_claim_to_be_checked(sandbox: Sandbox, options: dict[str, Option]) -> None:
    completed = cookiecutter(sandbox, "--no-input", "__checked=x", "__prompts__=x", "projectName=../evil")
    assert completed.stdout == refusal("projectName", "../evil", options["projectName"]) + "\n"
    assert completed.returncode == 1
    assert sandbox.untouched()


def test_all_wrong_answers_are_listed(cookies: Cookies, options: dict[str, Option]) -> None:
    wrong = {"projectName": "../evil", "epochs": "0", "domain": "x"}
    assert failed_bake(cookies, **wrong).splitlines() == [
        refusal(name, answer, options[name]) for name, answer in wrong.items()
    ]


def test_wrong_answers_are_asked_for_again(sandbox: Sandbox, options: dict[str, Option]) -> None:
    """After the last question all of them are listed; a replay keeps the other answers."""
    given = {"projectName": "../evil", "owner": "us", "epochs": "0"}
    questions = "".join(f"{given.get(name, '')}\n" for name in options)
    completed = cookiecutter(sandbox, stdin=questions)
    name, epochs = (refusal(name, given[name], options[name]) for name in ("projectName", "epochs"))
    assert completed.stdout.endswith(f"{name}\n{epochs}\n{REPLAY_HINT}\n")
    assert (completed.returncode, completed.stderr) == (1, "")
    assert sandbox.untouched()
    again = cookiecutter(sandbox, "--replay", stdin="abc\n0\n")
    assert "[1/2] Project name" in again.stdout
    assert again.stdout.endswith(f"{epochs}\n{REPLAY_HINT}\n")
    assert sandbox.untouched()
    last = cookiecutter(sandbox, "--replay", stdin="7\n")
    assert "[1/1] Epochs" in last.stdout
    assert (last.returncode, last.stderr) == (0, "")
    answers = yaml.safe_load((sandbox.output / "abc" / ".provenance.yaml").read_text())["answers"]
    assert (answers["owner"], answers["epochs"]) == ("us", "7")


def test_the_replay_file_is_kept_where_the_users_settings_say(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"replay_dir: {tmp_path / 'replays'}\n")
    completed = cookiecutter(sandbox, "--config-file", settings, "epochs=0", stdin="\n" * 30)
    assert completed.stdout.endswith(f"{REPLAY_HINT}\n")
    (file,) = (tmp_path / "replays").iterdir()
    answers = json.loads(file.read_text())["cookiecutter"]
    assert "epochs" not in answers
    assert answers["projectName"] == "image-classifier"
    assert not [name for name in answers if name.startswith("_")]


def test_a_refusal_without_questions_has_no_advice_about_them(sandbox: Sandbox, options: dict[str, Option]) -> None:
    completed = cookiecutter(sandbox, "--no-input", "epochs=0", "owner=-")
    lines = [refusal("owner", "-", options["owner"]), refusal("epochs", "0", options["epochs"])]
    assert completed.stdout.splitlines() == lines


def test_a_wrong_default_in_the_users_settings_is_refused(sandbox: Sandbox, options: dict[str, Option]) -> None:
    (sandbox.home / ".cookiecutterrc").write_text("default_context: {projectName: ../evil}\n")
    completed = cookiecutter(sandbox, "--no-input")
    assert completed.stdout == refusal("projectName", "../evil", options["projectName"]) + "\n"
    assert sandbox.untouched()


@pytest.mark.parametrize("value", ["x", [], {"../../victim.txt": {"dataset": ["none"]}}])
def test_the_variants_cannot_be_given(cookies: Cookies, value: object) -> None:
    assert failed_bake(cookies, _variants=value).startswith(SETTING.format("_variants"))


def test_the_variants_cannot_be_given_on_the_command_line(sandbox: Sandbox) -> None:
    completed = cookiecutter(sandbox, "--no-input", "_variants=../victim.txt")
    assert completed.stdout.startswith(SETTING.format("_variants"))
    assert (completed.returncode, completed.stdout.count("\n"), completed.stderr) == (1, 1, "")
    assert sandbox.untouched()


@pytest.mark.parametrize("argument", ["_extensions=x", "_copy_without_render=*", "dataset=mnist"])
def test_cookiecutter_itself_refuses_a_choice_that_is_not_in_the_list(sandbox: Sandbox, argument: str) -> None:
    completed = cookiecutter(sandbox, "--no-input", argument)
    name, _, value = argument.partition("=")
    assert f"ValueError: {value} provided for choice variable {name}, but the choices are [" in completed.stderr
    assert completed.returncode == 1
    assert sandbox.untouched()


@pytest.mark.parametrize("name", ["abc", "../evil", "../../evil"])
def test_generation_stops_when_the_check_is_switched_off(
    cookies: Cookies, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """The extension is not loaded, so a hook refuses, and the empty folder is removed."""
    assert "Hook script failed" in failed_bake(cookies, _extensions=[], projectName=name)
    assert capfd.readouterr().err.startswith(SETTING.format("_extensions"))


def test_a_tool_that_leaves_an_option_out_is_refused(sandbox: Sandbox, options: dict[str, Option]) -> None:
    answers = {name: option.default for name, option in options.items() if name != "owner"}
    settings = {"_template": "x", "_extensions": ["accelerator_engine.cookiecutter.AnswersExtension"]}
    context = {"cookiecutter": {**answers, **settings, "_variants": variants()}}
    with pytest.raises(FailedHookException, match=r"^owner is missing; allowed is the name of the team"):
        generate_files(ROOT, context, sandbox.output)
    assert sandbox.untouched()


# Replay


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The replay file that cookiecutter leaves after a project with the default answers."""
    place = Sandbox(tmp_path_factory.mktemp("recorded"))
    for folder in (place.output, place.home):
        folder.mkdir(parents=True)
    assert cookiecutter(place, "--no-input").returncode == 0
    (file,) = (place.home / ".cookiecutter_replay").glob("*.json")
    return file.read_text()


def replay(sandbox: Sandbox, recorded: str, **changes: object) -> subprocess.CompletedProcess[str]:
    """Replay with a changed replay file."""
    context = json.loads(recorded)
    context["cookiecutter"].update(changes)
    tampered = sandbox.home / "tampered.json"
    tampered.write_text(json.dumps(context))
    return cookiecutter(sandbox, "--replay-file", tampered)


def test_a_replay_file_generates_the_same(sandbox: Sandbox, recorded: str) -> None:
    completed = replay(sandbox, recorded, dataset="cifar10")
    assert (completed.returncode, completed.stdout) == (0, "cd image-classifier && make demo\n")
    data_set = (sandbox.output / "image-classifier" / "dataset.py").read_text()
    assert data_set == in_body("dataset.py", "cifar10").read_text()


@pytest.mark.slow
def test_the_last_answers_can_be_replayed(sandbox: Sandbox) -> None:
    assert cookiecutter(sandbox, "--no-input", "projectName=abc", "dataset=cifar10").returncode == 0
    before = {path: path.read_bytes() for path in files(sandbox.output / "abc")}
    shutil.rmtree(sandbox.output / "abc")
    completed = cookiecutter(sandbox, "--replay")
    assert (completed.returncode, completed.stdout) == (0, "cd abc && make demo\n"), completed.stderr
    assert {path: path.read_bytes() for path in files(sandbox.output / "abc")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answer"),
    [("projectName", "../evil"), ("dataset", "mnist"), ("dataset", "digits\n"), ("epochs", "{{ 7*7 }}")],
)
def test_a_tampered_answer_is_refused(
    sandbox: Sandbox, recorded: str, options: dict[str, Option], name: str, answer: str
) -> None:
    completed = replay(sandbox, recorded, **{name: answer})
    assert completed.stdout == refusal(name, answer, options[name]) + "\n"
    assert (completed.returncode, completed.stderr) == (1, "")
    assert sandbox.untouched()


@pytest.mark.slow
def test_a_tampered_list_is_refused(sandbox: Sandbox, recorded: str) -> None:
    completed = replay(sandbox, recorded, dataset=["digits", "cifar10"])
    assert completed.stdout.startswith('dataset cannot be ["digits", "cifar10"] (a list, not text); allowed is ')
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
def test_a_tampered_setting_is_refused(sandbox: Sandbox, recorded: str, name: str, value: object) -> None:
    completed = replay(sandbox, recorded, **{name: value})
    assert completed.stdout.startswith(SETTING.format(name))
    assert (completed.returncode, completed.stdout.count("\n"), completed.stderr) == (1, 1, "")
    assert sandbox.untouched()


def test_a_replay_with_the_check_switched_off_stops(sandbox: Sandbox, recorded: str) -> None:
    completed = replay(sandbox, recorded, _extensions=[], projectName="../evil")
    assert completed.returncode == 1
    assert SETTING.format("_extensions") in completed.stderr
    assert sandbox.untouched()
