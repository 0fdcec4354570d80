"""What is not allowed is refused by every front door, and whatever is accepted is harmless.

Hostile answers come from hypothesis, the same in every run.
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
HOSTILE = 600


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return doors.clone(ROOT, tmp_path_factory.mktemp("refusals") / "template")


def cookiecutter_refusal(template: Path, answers: Mapping[str, Any], output: Path) -> str:
    """Run cookiecutter in this process, which a refusal does not outlive; return its sentence, or nothing."""
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


def sentences(template: Path, cases: Sequence[Mapping[str, Any]], place: Path) -> dict[str, list[str]]:
    """Return what each of our own doors has against each case."""
    return {
        "accelerator": [doors.accelerator(template, case, place / f"a{n}").refusal for n, case in enumerate(cases)],
        "cookiecutter": [cookiecutter_refusal(template, case, place / f"c{n}") for n, case in enumerate(cases)],
    }


def asked(*names: str) -> dict[str, Any]:
    """Return answers with which all questions of these names are asked."""
    conditions = [option.condition for option in OPTIONS if option.name in names and option.condition]
    return {**defaults(OPTIONS), **{condition.name: condition.value for condition in conditions}}


def bad_cases() -> list[dict[str, Any]]:
    wrong = [*pairs(BAD), *pairs(dict.fromkeys(ORDER, NEVER))]
    other = [(name, answer) for name in ORDER for answer in (None, 10, 0.5, True, ["abc"], {"abc": 1})]
    return [{**asked(name), name: answer} for name, answer in [*wrong, *other]]


def test_what_accelerator_yaml_refuses_is_refused_by_all(
    scaffolder: Scaffolder, template: Path, tmp_path: Path
) -> None:
    cases = bad_cases()
    assert len(cases) > 200
    found = sentences(template, cases, tmp_path)
    results = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    for number, case in enumerate(cases):
        # On cookiecutter's command line everything is text.
        is_text = all(isinstance(answer, str) for answer in case.values())
        assert found["accelerator"][number], case
        assert found["cookiecutter"][number] or not is_text, case
        assert results[number].refusal, case
        assert results[number].folder is None
    assert not list(tmp_path.glob("a*/*"))
    assert not list((tmp_path / "b").iterdir())


def test_backstage_may_name_the_owner_as_a_group(scaffolder: Scaffolder, template: Path, tmp_path: Path) -> None:
    """Its picker answers with a reference; in the project stands the name."""
    cases = [{**defaults(OPTIONS), "owner": owner} for owner in ("group:default/team-a", "team-a")]
    one, other = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    assert one.folder
    assert other.folder
    assert doors.tree(one.folder) == doors.tree(other.folder)
    assert "owner: 'team-a'" in (one.folder / "project.yaml").read_text()


def test_a_missing_answer_is_refused_by_backstage(scaffolder: Scaffolder, template: Path, tmp_path: Path) -> None:
    cases = [{key: value for key, value in asked(name).items() if key != name} for name in ORDER]
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
    """Texts that were made to break something, and allowed ones with something added."""
    allowed = st.from_regex(option.pattern)
    bits = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4).map("".join)
    added = st.tuples(allowed, st.sampled_from(FRAGMENTS)).map("".join)
    texts = st.one_of(bits, added, st.text(max_size=30), allowed)
    # cookiecutter's own reading of a toggle, which it keeps: words that the others refuse because they are text.
    return texts.filter(lambda text: text.strip().lower() not in WORDS) if option.data_type == "boolean" else texts


def hostile_cases() -> list[dict[str, Any]]:
    """Return answers with one to three hostile ones among them; the same in every run."""
    found: list[dict[str, Any]] = []
    some = st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique_by=lambda option: option.name)
    answers = some.flatmap(
        lambda chosen: st.fixed_dictionaries({option.name: hostile_texts(option) for option in chosen})
    )

    @settings(
        max_examples=HOSTILE, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(answers)
    def collect(answers: dict[str, str]) -> None:
        found.append({**asked(*answers), **answers})

    collect()
    return found


def test_hostile_answers_are_refused_or_harmless_in_all_doors_alike(
    scaffolder: Scaffolder, template: Path, tmp_path: Path
) -> None:
    cases = hostile_cases()
    assert len(cases) >= 500
    found = sentences(template, cases, tmp_path)
    results = doors.backstage(scaffolder, template, cases, tmp_path / "b")
    accepted = 0
    for number, case in enumerate(cases):
        refused = {
            "accelerator": found["accelerator"][number],
            "cookiecutter": found["cookiecutter"][number],
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
        parses_and_says(ours, case)
    # Without either kind this would prove nothing.
    assert 30 < accepted < len(cases) / 2
    assert not (tmp_path.parent / "etc").exists()


def parses_and_says(project: Path, case: Mapping[str, Any]) -> None:
    """Every file that an answer stands in parses, and holds the answer as it was given."""
    settings = yaml.safe_load((project / "project.yaml").read_text(encoding="utf-8"))
    for name in ("projectName", "owner", "description", "promotionStage", "trainingDatabase"):
        assert settings[name] == case[name]
    assert settings["minimumAccuracy"] == float(case["minimumAccuracy"])
    told = yaml.safe_load((project / ".provenance.yaml").read_text(encoding="utf-8"))
    # A question that is not asked has its default, whatever was given.
    assert told["answers"] == completed(OPTIONS, case)
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
