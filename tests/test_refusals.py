"""Every front door refuses wrong answers, and every accepted answer is harmless.

Hypothesis generates the hostile answers, the same in every run.
"""

import contextlib
import io
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from cookiecutter.prompt import YesNoPrompt
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_options import BAD, NEVER, ORDER, pairs
from tools import doors
from tools.backstage.scaffolder import Scaffolder

from accelerator_engine.options import Option, completed, defaults, read_options

pytestmark = pytest.mark.slow

OPTIONS = read_options(ROOT / "accelerator.yaml")
HOSTILE = 650


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return doors.clone(ROOT, tmp_path_factory.mktemp("refusals") / "template")


def cookiecutter_refusal(template: Path, answers: Mapping[str, Any], output: Path) -> str:
    """Run cookiecutter in this process; return the message of its refusal, empty if it accepts the answers."""
    output.mkdir(parents=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            cookiecutter(
                str(template), no_input=True, default_config=True, output_dir=str(output), extra_context=dict(answers)
            )
    except (FailedHookException, ValueError) as error:
        assert list(output.iterdir()) == []
        return str(error)
    return ""


def own_refusals(template: Path, cases: Sequence[Mapping[str, Any]], place: Path) -> dict[str, list[str]]:
    """Return the refusals per case of the two doors other than Backstage."""
    return {
        "accelerator": [doors.accelerator(template, case, place / f"a{n}").refusal for n, case in enumerate(cases)],
        "cookiecutter": [cookiecutter_refusal(template, case, place / f"c{n}") for n, case in enumerate(cases)],
    }


def answers_that_ask(*names: str) -> dict[str, Any]:
    """Return answers that meet the conditions of these questions."""
    conditions = [option.condition for option in OPTIONS if option.name in names and option.condition]
    return {**defaults(OPTIONS), **{condition.name: condition.value for condition in conditions}}


def bad_cases() -> list[dict[str, Any]]:
    """Return answers with one wrong answer each."""
    wrong = [*pairs(BAD), *pairs(dict.fromkeys(ORDER, NEVER))]
    not_text = [(name, answer) for name in ORDER for answer in (None, 10, 0.5, True, ["abc"], {"abc": 1})]
    return [{**answers_that_ask(name), name: answer} for name, answer in [*wrong, *not_text]]


def test_every_door_refuses_wrong_answers(scaffolder: Scaffolder, template: Path, tmp_path: Path) -> None:
    cases = bad_cases()
    assert len(cases) > 200
    refusals = own_refusals(template, cases, tmp_path)
    results = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    for number, case in enumerate(cases):
        # cookiecutter's command line passes text only.
        is_text = all(isinstance(answer, str) for answer in case.values())
        assert refusals["accelerator"][number], case
        assert refusals["cookiecutter"][number] or not is_text, case
        assert results[number].refusal, case
        assert results[number].folder is None
    assert not list(tmp_path.glob("a*/*"))
    assert not list((tmp_path / "b").iterdir())


def test_backstage_may_name_the_owner_as_a_group(scaffolder: Scaffolder, template: Path, tmp_path: Path) -> None:
    """Backstage's picker answers with a reference; the project contains the name."""
    cases = [{**defaults(OPTIONS), "owner": owner} for owner in ("group:default/team-a", "team-a")]
    by_reference, by_name = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    assert by_reference.folder
    assert by_name.folder
    assert doors.tree(by_reference.folder) == doors.tree(by_name.folder)
    assert "owner: 'team-a'" in (by_reference.folder / "project.yaml").read_text()


def test_a_missing_answer_is_refused_by_backstage(scaffolder: Scaffolder, template: Path, tmp_path: Path) -> None:
    cases = [{key: value for key, value in answers_that_ask(name).items() if key != name} for name in ORDER]
    results = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    assert [name for name, result in zip(ORDER, results, strict=True) if name in result.refusal] == ORDER


# Hostile answers

WORDS = {*YesNoPrompt.yes_choices, *YesNoPrompt.no_choices}
FRAGMENTS = [
    "'", '"', "`", "''' + x + '''", "{", "}", "{{", "}}", "{{ 7*7 }}", "{{cookiecutter.owner}}", "{% raw %}", "{#",
    "#{T(java.lang.Runtime).getRuntime()}", "${{ parameters.owner }}", "${{ secrets.x }}", "${HOME}", "$(id)", ";id",
    "&a", "*a", "!!python/object/apply:os.system [id]", "<<: x", "- x", "? x", "| x", "> x", "# x", ": x", "a: b", "%",
    "@x", "---", "...", "\n", "\r\n", "\r", "\t", "\0", "\x1b[31m", "\u202e", "\u200f", "\u2028", "\u0085", "\ufeff",
    "\u200b", "\ud800", "\U0001f600", "../", "..", "/", "/etc/passwd", "~", "\\", "C:\\x", "x" * 10_000, " ", "",
    "class", "import", "None", "select", "user", "table", "null", "yes", "no", "true", "0x10", "1e3", "007", "-1",
    "<script>", "&amp;", "]]>", "--", "/*", "$$", "E'\\x'", "abc", "a-b", "10", "0.5", "digits", "staging", "é", "画像",
]  # fmt: skip


def hostile_texts(option: Option) -> st.SearchStrategy[str]:
    """Generate hostile texts, allowed texts, and allowed texts with a hostile part."""
    allowed = st.from_regex(option.pattern)
    bits = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4).map("".join)
    added = st.tuples(allowed, st.sampled_from(FRAGMENTS)).map("".join)
    texts = st.one_of(bits, added, st.text(max_size=30), allowed)
    # cookiecutter converts these words to a toggle itself; the other doors refuse them because they are text.
    return texts.filter(lambda text: text.strip().lower() not in WORDS) if option.data_type == "boolean" else texts


def hostile_cases() -> list[dict[str, Any]]:
    """Return sets of answers with one to three hostile answers each, the same in every run."""
    cases: list[dict[str, Any]] = []
    some = st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique_by=lambda option: option.name)
    # Backstage does not ask, and so does not check, what another answer makes superfluous.
    some = some.filter(
        lambda chosen: (
            not {option.condition.name for option in chosen if option.condition} & {option.name for option in chosen}
        )
    )
    answers = some.flatmap(
        lambda chosen: st.fixed_dictionaries({option.name: hostile_texts(option) for option in chosen})
    )

    @settings(
        max_examples=HOSTILE, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(answers)
    def collect(answers: dict[str, str]) -> None:
        cases.append({**answers_that_ask(*answers), **answers})

    collect()
    return cases


def test_all_doors_agree_on_hostile_answers(scaffolder: Scaffolder, template: Path, tmp_path: Path) -> None:
    cases = hostile_cases()
    assert len(cases) >= 500
    refusals = own_refusals(template, cases, tmp_path)
    results = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    accepted = 0
    for number, case in enumerate(cases):
        refused = {
            "accelerator": refusals["accelerator"][number],
            "cookiecutter": refusals["cookiecutter"][number],
            "backstage": results[number].refusal,
        }
        assert len({bool(sentence) for sentence in refused.values()}) == 1, (case, refused)
        if refused["accelerator"]:
            assert not list(tmp_path.glob(f"a{number}/*"))
            assert re.match(r"\w+ cannot be [^\n]+; allowed is [^\n]+\.$", refused["accelerator"]), refused
            continue
        accepted += 1
        folder = results[number].folder
        assert folder is not None
        (ours,), (theirs,) = (list((tmp_path / f"{door}{number}").iterdir()) for door in "ac")
        assert doors.tree(ours) == doors.tree(theirs) == doors.tree(folder), case
        check_answers(ours, case)
    # The test needs both kinds.
    assert 30 < accepted < len(cases) / 2
    assert not (tmp_path.parent / "etc").exists()


def check_answers(project: Path, case: Mapping[str, Any]) -> None:
    """Check that every file with an answer parses and contains the answer unchanged."""
    settings = yaml.safe_load((project / "project.yaml").read_text(encoding="utf-8"))
    for name in ("projectName", "owner", "description", "promotionStage", "trainingDatabase"):
        assert settings[name] == case[name]
    assert settings["minimumAccuracy"] == float(case["minimumAccuracy"])
    provenance = yaml.safe_load((project / ".provenance.yaml").read_text(encoding="utf-8"))
    # A question whose condition is not met has its default.
    assert provenance["answers"] == completed(OPTIONS, case)
    entry = yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))
    assert entry["entry_points"]["train_model"]["parameters"]["epochs"]["default"] == int(case["epochs"])
    assert (
        tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"]
        == case["description"]
    )
    entities = yaml.safe_load_all((project / "catalog-info.yaml").read_text(encoding="utf-8"))
    assert {entity["spec"]["owner"] for entity in entities if entity["kind"] != "Location"} == {case["owner"]}
    values = yaml.safe_load((project / "deploy" / "values.yaml").read_text(encoding="utf-8"))
    assert (values["git"]["url"], values["git"]["branch"]) == (case["gitRepository"], case["gitBranch"])
    assert (values["namespace"], values["credentials"]) == (case["namespace"], case["credentials"])
