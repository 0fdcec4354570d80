"""The options of accelerator.yaml: what each accepts, and the sentence that refuses the rest."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accelerator_engine.options import InvalidAnswer, InvalidManifest, Option, check, defaults, read_options

ORDER = [
    "projectName",
    "owner",
    "description",
    "dataset",
    "epochs",
    "minimumAccuracy",
    "promotionStage",
    "trainingDatabase",
]

OPTIONS = read_options(ROOT / "accelerator.yaml")

# Refused by every option, whatever it asks for.
NEVER = ["", " ", "\n", "\0", "\x7f", "{{ 7*7 }}", "{% raw %}", "{#", "${x}", "a\nb", "x" * 200, "\ud800"]

GOOD = {
    "projectName": [
        "abc",
        "a1b",
        "user-table",
        "select",
        "class",
        "null",
        "yes",
        "a--b",
        "pgx",
        "gpu",
        "x" * 40,
    ],
    "owner": ["a", "7", "ml-team", "yes", "pg-team", "x" * 63],
    "description": [
        "a",
        "x" * 120,
        "a: b #c, [d] & 100 %",
        "Ünïcödé — 画像分類…",
        "yes",
        "-",
        "@home",
        "$HOME | x",
    ],
    "dataset": ["digits", "cifar10"],
    "epochs": ["1", "9", "10", "99", "100", "999", "1000"],
    "minimumAccuracy": ["0", "1", "0.5", "0.05", "0.85", "0.123456789012345"],
    "promotionStage": ["staging", "production"],
    "trainingDatabase": ["greenplum", "postgresql"],
}

BAD = {
    "projectName": [
        "../evil", "a b", "1abc", "pg-x", "gp-x", "A", "aBc", "ab", "a", "-ab", "ab-", "a_b", "a.b", "a/b",
        "/abc", "x" * 41, "'abc'", '"abc"', "{abc}", "{{ 'abc' }}", "abc\n", "\nabc", "abc\r", "abc\u2028",
        "äbc", "ａｂｃ", "abc\0", "..", "~", "ab\\c", "$(id)", "abc;id",
        "information-schema",
    ],
    "owner": ["-a", "a-", "A", "a b", "a.b", "x" * 64, "ml-team\n", "user:guest", "../x"],
    "description": [
        "it's", 'say "x"', "`x`", "“x”", "«x»", "{x}", "a\\b", "<b>", " a", "a ", "a\n", "a\tb", "a\r\nb",
        "a\u2028b", "a\u2029b", "a\u0085b", "a\u200bb", "a\u202eb", "a\u2066b", "a\ufeffb", "a\u00adb",
        "a\u061cb", "a\u00a0", "\u3000", "a\u2800", "x" * 121, "\U0001f600", "a\ufffeb",
    ],
    "dataset": ["Digits", "digits ", "digits\n", "table", "cifar", "digits|cifar10", "xdigits"],
    "epochs": [
        "0", "-1", "+1", "01", "1001", "10000", "1.0", "1e2", " 1", "1 ", "1\n", "ten", "１", "1_0",
    ],
    "minimumAccuracy": [
        "00.5", ".5", "1.0", "0.50", "0.", "0.0", "1.1", "2", "-0.5", "-0", "0,5", "1e-1", "50%", "0.5\n",
        "nan", "inf", "0.1234567890123456", "٠.٥",
    ],
    "promotionStage": ["Production", "production\n", "stage", "none"],
    "trainingDatabase": ["Greenplum", "postgres", "mysql", "postgresql\n"],
}  # fmt: skip


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, answer) for name, answers in table.items() for answer in answers]


def refusal(option: Option, answer: object) -> str:
    with pytest.raises(InvalidAnswer) as raised:
        check([option], {option.name: answer})
    return str(raised.value)


def test_options_are_asked_in_this_order(options: dict[str, Option]) -> None:
    assert list(options) == ORDER == list(GOOD) == list(BAD)


@pytest.mark.parametrize(("name", "answer"), pairs(GOOD))
def test_a_good_answer_is_accepted(options: dict[str, Option], name: str, answer: str) -> None:
    check(options.values(), {**defaults(options.values()), name: answer})


@pytest.mark.parametrize(("name", "answer"), pairs(BAD) + pairs(dict.fromkeys(ORDER, NEVER)))
def test_a_bad_answer_is_refused_with_one_sentence(options: dict[str, Option], name: str, answer: str) -> None:
    option = options[name]
    sentence = refusal(option, answer)
    assert sentence.startswith(f"{name} cannot be {answer[:60]!r}")
    assert option.description[1:] in sentence
    assert sentence.endswith(f", for example {option.default}.")
    assert ". " not in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize(("name", "answer"), pairs(BAD))
def test_the_pattern_alone_refuses_it_too(options: dict[str, Option], name: str, answer: str) -> None:
    """Other front doors have nothing but the pattern: the choices of a select are not enforced there."""
    assert re.search(options[name].pattern, answer) is None


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("answer", [None, 10, 0.5, True, b"abc", ["abc"], {"abc": 1}, list(range(1000))])
def test_an_answer_that_is_not_text_is_refused(options: dict[str, Option], name: str, answer: object) -> None:
    sentence = refusal(options[name], answer)
    assert f"({type(answer).__name__}, not text)" in sentence
    assert sentence.endswith(f", for example {options[name].default}.")
    assert len(sentence) < 400


def test_the_sentence_as_people_read_it(options: dict[str, Option]) -> None:
    assert refusal(options["projectName"], "../evil") == (
        "projectName cannot be '../evil'; allowed is a name for folder, schema and model of 3 to 40 "
        "lower-case letters, digits and hyphens, which starts with a letter, ends with a letter or digit "
        "and does not start with pg- or gp-, nor is it information-schema, for example image-classifier."
    )


def test_a_long_answer_is_cut_in_the_sentence(options: dict[str, Option]) -> None:
    sentence = refusal(options["owner"], "x" * 5000)
    assert f"'{'x' * 60}'… (5000 characters)" in sentence


def test_a_choice_is_enforced_where_the_pattern_is_wider(options: dict[str, Option]) -> None:
    wide = replace(options["dataset"], pattern="^.*")
    assert refusal(wide, "table").startswith("dataset cannot be 'table'; allowed is ")


def test_a_missing_answer_is_refused_unless_answers_are_partial(options: dict[str, Option]) -> None:
    answers = defaults(options.values())
    del answers["owner"]
    check(options.values(), answers, partial=True)
    with pytest.raises(InvalidAnswer, match=r"^owner is missing; allowed is .*, for example ml-team\.$"):
        check(options.values(), answers)


@settings(deadline=None)  # how fast the machine is, is not the question here
@given(st.text() | st.text(alphabet="09.{}'\"\\ -az\n<>`:#", max_size=8))
@example("a: b")
@example("null")
def test_whatever_is_accepted_can_be_quoted_anywhere(answer: str) -> None:
    """Templates put answers between quotes in YAML, TOML and JSON and rely on nothing else."""
    for option in OPTIONS:
        try:
            check([option], {option.name: answer})
        except InvalidAnswer as error:
            assert "\n" not in str(error)
            continue
        assert yaml.safe_load(f"x: '{answer}'") == {"x": answer} == yaml.safe_load(f'x: "{answer}"')
        assert json.loads(f'"{answer}"') == answer


@pytest.mark.parametrize("name", ORDER)
def test_every_option_is_declared_in_full(name: str) -> None:
    manifest = yaml.safe_load((ROOT / "accelerator.yaml").read_text(encoding="utf-8"))
    (fields,) = [fields for fields in manifest["accelerator"]["options"] if fields["name"] == name]
    asked = {"name", "label", "description", "dataType", "inputType", "defaultValue", "required"}
    asked.add("validationRegex")
    assert set(fields) == (asked | {"choices"} if fields["inputType"] == "select" else asked)
    assert fields["validationRegex"].startswith("^")
    assert fields["validationRegex"].endswith(r"(?![\s\S])")


def test_the_pattern_of_a_select_is_its_choices(options: dict[str, Option]) -> None:
    selects = [option for option in options.values() if option.choices]
    assert [option.name for option in selects] == ["dataset", "promotionStage", "trainingDatabase"]
    for option in selects:
        assert option.pattern == f"^({'|'.join(option.values)})(?![\\s\\S])"
        assert option.default == option.values[0]
        assert all(value in option.description for value in option.values)


def test_cookiecutter_asks_the_same(options: dict[str, Option]) -> None:
    context = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    asked = {name: value for name, value in context.items() if not name.startswith("_")}
    assert list(asked) == ORDER
    assert asked == {
        option.name: list(option.values) if option.choices else option.default for option in options.values()
    }
    assert list(context["__prompts__"]) == ORDER
    for option in options.values():
        texts = {choice.value: choice.text for choice in option.choices}
        assert context["__prompts__"][option.name] == ({"__prompt__": option.label, **texts} if texts else option.label)


BROKEN = {
    "not YAML": ("accelerator: [", "while parsing"),
    "empty": ("", "NoneType"),
    "no options": ("accelerator: {}", "options is missing"),
    "no name": ("{}", "name is missing"),
    "number as default": (
        "{**, defaultValue: 10}",
        r"defaultValue has to be text, and is 10 \(quotes make it text\)",
    ),
    "other type": ("{**, dataType: number}", "size has the dataType 'number', and only string is known"),
    "bad pattern": ("{**, validationRegex: '('}", "the validationRegex of size is not a pattern"),
    "default refused": ("{**, defaultValue: xl}", "size cannot be 'xl'; allowed is"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_is_refused_with_one_sentence(tmp_path: Path, case: str) -> None:
    text, expected = BROKEN[case]
    complete = (
        "name: size, label: Size, description: A size, dataType: string, inputType: text, defaultValue: m, "
        "required: true, validationRegex: '^[sml]$'"
    )
    if text.startswith("{"):
        text = f"accelerator: {{options: [{text.replace('**', complete)}]}}"
    manifest = tmp_path / "accelerator.yaml"
    # A later key wins in PyYAML, so a case is the complete option with one field changed.
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidManifest, match=expected) as raised:
        read_options(manifest)
    assert str(raised.value).startswith("accelerator.yaml cannot be used: ")
    assert "\n" not in str(raised.value)


def test_a_manifest_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    manifest = tmp_path / "accelerator.yaml"
    manifest.write_bytes(b"\xef\xbb\xbf---\n" + (ROOT / "accelerator.yaml").read_bytes())
    assert read_options(manifest) == read_options(ROOT / "accelerator.yaml")
