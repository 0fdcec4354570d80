"""The options of accelerator.yaml: the answers that each accepts, and the message that refuses the others."""

import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import InvalidAnswer, Option, check, defaults, read_options

ORDER = [
    "projectName",
    "owner",
    "description",
    "dataset",
    "sourceSchema",
    "sourceTable",
    "labelColumn",
    "featureColumns",
    "epochs",
    "minimumAccuracy",
    "promotionStage",
    "trainingDatabase",
    "credentials",
    "gitRepository",
    "gitBranch",
    "namespace",
    "orchestrator",
    "appPlatform",
    "domain",
    "ci",
    "authentication",
]
# Options answered with true or false, with their defaults.
TOGGLES = {
    "includeUi": True,
    "includeMonitoring": True,
    "storeInputs": True,
    "includeNotebook": False,
    "includePgadmin": False,
    "includeDatahub": False,
}

OPTIONS = read_options(ROOT / "accelerator.yaml")

# Answers that every option refuses.
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
    "dataset": ["digits", "cifar10", "table"],
    "sourceSchema": ["public", "_a", "Sales", "x" * 63, "select", "null", "yes"],
    "sourceTable": ["breast_cancer", "T1", "_", "x" * 63, "table"],
    "labelColumn": ["diagnosis", "Class", "_y", "x" * 63, "user"],
    "featureColumns": ["*", "a", "a,b", "a, b, C_1", "x" * 63 + "," + "y" * 63, ",".join(["a"] * 200)],
    "epochs": ["1", "9", "10", "99", "100", "999", "1000"],
    "minimumAccuracy": ["0", "1", "0.5", "0.05", "0.85", "0.123456789012345"],
    "promotionStage": ["staging", "production"],
    "trainingDatabase": ["greenplum", "postgresql"],
    "credentials": ["service-binding", "external-secrets", "kubernetes-secret"],
    "gitRepository": [
        "https://a/b",
        "https://git.example.com:8443/Team_1/sub~x/a.b-c.git",
        "https://h/a/b/c/d/e/f/g/h",
    ],
    "gitBranch": ["main", "M", "release/1.x", "feature/a_b-c/D", "1/2/3/4/5", "no", "a.locks", "main_"],
    "namespace": ["a", "ml", "x" * 52, "kubernetes", "no"],
    "orchestrator": ["argo", "kubeflow"],
    "appPlatform": ["tap", "kubernetes"],
    "domain": ["a.b", "example.com", "x" * 63 + ".com", "1.2.3", "a-b.c--d.io"],
    "ci": ["none", "github", "gitlab"],
    "authentication": ["api-key", "oidc", "none"],
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
    "dataset": ["Digits", "digits ", "digits\n", "tables", "cifar", "digits|cifar10", "xdigits"],
    "sourceSchema": ["1a", "a-b", "a.b", "a b", "public\n", "x" * 64, "é", '"a"', "a'b", "*"],
    "sourceTable": ["1a", "a-b", "public.t", "a b", "t\n", "x" * 64, "é", '"a"', "t;", "*"],
    "labelColumn": ["1a", "a-b", "t.y", "a b", "y\n", "x" * 64, "é", '"y"', "*", "a,b"],
    "featureColumns": [
        "a,", ",a", "a,,b", "*,a", "a,*", "a;b", "a  b", "a,  b", "a\n", "x" * 64, "1a", "a-b", '"a"', "**",
        ",".join(["a"] * 201),
    ],
    "epochs": [
        "0", "-1", "+1", "01", "1001", "10000", "1.0", "1e2", " 1", "1 ", "1\n", "ten", "１", "1_0",
    ],
    "minimumAccuracy": [
        "00.5", ".5", "1.0", "0.50", "0.", "0.0", "1.1", "2", "-0.5", "-0", "0,5", "1e-1", "50%", "0.5\n",
        "nan", "inf", "0.1234567890123456", "٠.٥",
    ],
    "promotionStage": ["Production", "production\n", "stage", "none"],
    "trainingDatabase": ["Greenplum", "postgres", "mysql", "postgresql\n"],
    "credentials": ["none", "Service-binding", "vault", "kubernetes-secret\n"],
    "gitRepository": [
        "http://a/b", "git@github.com:a/b.git", "ssh://git@a/b", "https://user:secret@a/b", "https://user@a/b", "https://a",
        "https://a/", "https://a/b?x=1", "https://a/b#c", "https://a/b c", "https://a//b", "https://A/b", "https://a/b\n",
        "https://a:0/b", "https://a/'b", "https://a/" + "x" * 61, "https:///b", "https://a/é", "a/b", "file:///a/b",
    ],
    "gitBranch": [
        "-x", "a..b", "/a", "a/", "a//b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", ".a", "a/.b", "a.",
        "a./b", "x.lock", "x.lock/y", "main\n", "@", "a@{1}", "é", "a/b/c/d/e/f", "origin main", "x-", "'a'",
    ],
    "namespace": ["kube-system", "A", "1a", "-a", "a-", "a_b", "a.b", "x" * 53, "ml\n", "a b"],
    "orchestrator": ["Argo", "airflow", "kubeflow\n", "kfp"],
    "appPlatform": ["TAP", "knative", "tap\n", "k8s"],
    "domain": [
        "example", ".com", "a.", "a..b", "-a.b", "a-.b", "A.com", "a_b.com", "x" * 64 + ".com", "a.b\n", "https://a.b",
        "a.b:80", "a.b/", "*.a.b", ".".join(["x" * 60] * 4),
    ],
    "ci": ["None", "gitHub", "jenkins", "github\n"],
    "authentication": ["basic", "API-key", "api_key", "oidc\n"],
}  # fmt: skip


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return option and answer of every entry."""
    return [(name, answer) for name, answers in table.items() for answer in answers]


def refusal(option: Option, answer: object) -> str:
    """Return the message that refuses an answer."""
    with pytest.raises(InvalidAnswer) as raised:
        check([option], {option.name: answer})
    return str(raised.value)


def test_options_are_asked_in_this_order(options: dict[str, Option]) -> None:
    assert list(options) == [*ORDER, *TOGGLES]
    assert ORDER == list(GOOD) == list(BAD)


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


@pytest.mark.parametrize("name", BAD)
def test_the_pattern_refuses_bad_answers(options: dict[str, Option], name: str) -> None:
    """Other front doors check only the pattern: they do not enforce the choices of a select."""
    assert [answer for answer in BAD[name] if re.search(options[name].pattern, answer)] == []


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "null (nothing, not text)"),
        (10, '10 (a number, not text: write "10")'),
        (0.5, '0.5 (a number, not text: write "0.5")'),
        (True, 'true (true or false, not text: write "true")'),
        (b"abc", "\"b'abc'\" (no JSON, not text)"),
        (["abc"], '["abc"] (a list, not text)'),
        ({"abc": 1}, '{"abc": 1} (a mapping, not text)'),
        (list(range(1000)), f"{str(list(range(1000)))[:60]}… (a list, not text)"),
    ],
)
def test_an_answer_that_is_not_text_is_refused(
    options: dict[str, Option], name: str, answer: object, problem: str
) -> None:
    sentence = refusal(options[name], answer)
    assert sentence.startswith(f"{name} cannot be {problem}; allowed is ")
    assert sentence.endswith(f", for example {options[name].default}.")
    assert len(sentence) < 400


@pytest.mark.parametrize("name", TOGGLES)
def test_a_toggle_accepts_only_true_and_false(options: dict[str, Option], name: str) -> None:
    for answer in (True, False):
        check(options.values(), {**defaults(options.values()), name: answer})
    for answer in ("true", "yes", "", 1, 0, None, ["true"], {}):
        sentence = refusal(options[name], answer)
        assert sentence.startswith(f"{name} cannot be ")
        assert "; allowed is true for " in sentence
        assert sentence.endswith(f", for example {str(TOGGLES[name]).lower()}.")


def test_conditions_of_options(options: dict[str, Option]) -> None:
    """The options of a table depend on dataset, and storeInputs depends on includeMonitoring."""
    conditions = {
        name: (option.condition.name, option.condition.value) for name, option in options.items() if option.condition
    }
    table = dict.fromkeys(["sourceSchema", "sourceTable", "labelColumn", "featureColumns"], ("dataset", "table"))
    assert conditions == {**table, "storeInputs": ("includeMonitoring", True)}


def test_a_whole_message(options: dict[str, Option]) -> None:
    assert refusal(options["projectName"], "../evil") == (
        "projectName cannot be '../evil'; allowed is a name for folder, schema and model of 3 to 40 "
        "lower-case letters, digits and hyphens; it starts with a letter, ends with a letter or digit, does not start "
        "with pg- or gp-, and is not information-schema, for example image-classifier."
    )


def test_the_message_shortens_a_long_answer(options: dict[str, Option]) -> None:
    sentence = refusal(options["owner"], "x" * 5000)
    assert f"'{'x' * 60}'… (5000 characters)" in sentence


def test_a_missing_answer_is_refused_unless_answers_are_partial(options: dict[str, Option]) -> None:
    answers = defaults(options.values())
    del answers["owner"]
    check(options.values(), answers, partial=True)
    with pytest.raises(InvalidAnswer, match=r"^owner is missing; allowed is .*, for example ml-team\.$"):
        check(options.values(), answers)


@settings(deadline=None)  # the speed of the machine does not matter
@given(st.text() | st.text(alphabet="09.{}'\"\\ -az\n<>`:#", max_size=8))
@example("a: b")
@example("null")
def test_every_accepted_answer_can_be_quoted(answer: str) -> None:
    """Templates put answers between quotes in YAML, TOML and JSON without escapes."""
    for option in OPTIONS:
        try:
            check([option], {option.name: answer})
        except InvalidAnswer as error:
            assert "\n" not in str(error)
            continue
        assert yaml.safe_load(f"x: '{answer}'") == {"x": answer} == yaml.safe_load(f'x: "{answer}"')
        assert json.loads(f'"{answer}"') == answer


@pytest.mark.parametrize("name", [*ORDER, *TOGGLES])
def test_every_option_is_declared_completely(name: str) -> None:
    manifest = yaml.safe_load((ROOT / "accelerator.yaml").read_text(encoding="utf-8"))
    (fields,) = [fields for fields in manifest["accelerator"]["options"] if fields["name"] == name]
    keys = {"name", "label", "description", "dataType", "inputType", "defaultValue", "required"}
    keys |= {"x-group"}
    if name in TOGGLES:
        assert set(fields) - {"dependsOn"} == keys
        assert fields["defaultValue"] is TOGGLES[name]
        return
    keys |= {"validationRegex"}
    assert set(fields) - {"x-backstage", "dependsOn"} == (
        keys | {"choices"} if fields["inputType"] == "select" else keys
    )
    assert fields["validationRegex"].startswith("^")
    assert fields["validationRegex"].endswith(r"(?![\s\S])")


def test_the_pattern_of_a_select_is_its_choices(options: dict[str, Option]) -> None:
    selects = [option for option in options.values() if option.choices]
    assert [option.name for option in selects] == [
        "dataset",
        "promotionStage",
        "trainingDatabase",
        "credentials",
        "orchestrator",
        "appPlatform",
        "ci",
        "authentication",
    ]
    for option in selects:
        assert option.pattern == f"^({'|'.join(option.values)})(?![\\s\\S])"
        assert option.default == option.values[0]
        assert all(value in option.description for value in option.values)


BROKEN = {
    "not YAML": ("accelerator: [", "accelerator.yaml:1: not valid YAML: "),
    "not a mapping": ("- a", "accelerator.yaml:1: a manifest is a mapping with the keys accelerator and engine"),
    "empty": ("", "accelerator.yaml:1: a manifest is a mapping with the keys accelerator and engine"),
    "options that are no list": (
        "accelerator: {options: 1}",
        "accelerator.yaml:1: options of accelerator has to be a l",
    ),
    "no name": ("{}", "accelerator.yaml:4: an option has no name"),
    "no default": ("{name: a}", "accelerator.yaml:4: option a has no defaultValue"),
    "number as default": (
        "{**, defaultValue: 10}",
        "accelerator.yaml:4: the defaultValue is refused: size cannot be",
    ),
    "number as label": (
        "{**, label: 10}",
        "accelerator.yaml:4: label of option size has to be text, and is 10 (",
    ),
    "other type": ("{**, dataType: Task}", "accelerator.yaml:4: option size has the dataType 'Task'; known are string"),
    "bad pattern": (
        "{**, validationRegex: '('}",
        "accelerator.yaml:4: the validationRegex of option size is not a",
    ),
    "default refused": (
        "{**, defaultValue: xl}",
        "accelerator.yaml:4: the defaultValue is refused: size cannot",
    ),
    "bad input": ("{**, inputType: tag}", "accelerator.yaml:4: inputType of option size is 'tag'; allowed are text"),
    "refers to itself": ("{**, choices: &a [*a]}", "accelerator.yaml:4: an alias refers to its own parent"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_is_refused_with_one_sentence(tmp_path: Path, case: str) -> None:
    text, expected = BROKEN[case]
    complete = (
        "name: size, label: Size, description: A size, dataType: string, inputType: text, defaultValue: m, "
        "required: true, validationRegex: '^[sml]$'"
    )
    if text.startswith("{"):
        text = f"accelerator:\n  options:\n    # on line 4\n    - {text.replace('**', complete)}"
    manifest = tmp_path / "accelerator.yaml"
    # In PyYAML a later key wins, so a case is the complete option with one field changed.
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidManifest) as raised:
        read_options(manifest)
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)


def test_a_manifest_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    manifest = tmp_path / "accelerator.yaml"
    manifest.write_bytes(b"\xef\xbb\xbf---\n" + (ROOT / "accelerator.yaml").read_bytes())
    assert read_options(manifest) == read_options(ROOT / "accelerator.yaml")
