"""Expressions: recorded results of Spring, idioms of published accelerators, and laws."""

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerator_engine.expressions import EvaluationFailed, Expression, InvalidExpression, parse
from accelerator_engine.java_types import Character, Helper, as_integer, class_name, text_of
from accelerator_engine.java_uri import Uri

RECORDS = json.loads((Path(__file__).parent / "recorded" / "spel.json").read_text(encoding="utf-8"))

Outcome = tuple[str, Any, str]

# Expressions that Java evaluates and the engine refuses on purpose: a pattern and the number of records.
REFUSED = {
    "constructors": (r"(?i)^new ", 23),
    "assignment": (r"[^=!<>]=[^=]", 5),
    "++ and --": (r"\+\+|--", 4),
    "reflection": (r"\bclass\b|getClass\(", 7),
    "classes as values": (r"^T\([\w.\[\]]+\)$", 6),
    "classes that are not on the list": (r"^T\(java\.(util\.(Collections|Locale)|net\.URI)\)", 3),
    "methods that change a value": (r"\.(add|remove|clear|set|put)\(", 8),
    "String.format and its like": (r"\.format(ted)?\(", 15),
    "methods that no accelerator needs": (
        r"[.\[](hashCode|bytes|chars|toCharArray|intern|lines|stripIndent|translateEscapes|regionMatches|indent|stream"
        r"|iterator|toArray|entrySet|codePointAt|codePointCount|CASE_INSENSITIVE_ORDER)\b|T\(java\.util\.Map\)\.of",
        21,
    ),
    "static methods called on a value": (r"^'abc'\.(valueOf|join)\(", 3),
    "arguments that Java converts to characters or locales": (r"(replace|indexOf)\([^)]*\b\d+\)|toLowerCase\('x'\)", 4),
    "numbers in place of characters": (r"replace\(1, 'x'\)|'c' - 1", 2),
    "a list as a condition or a number": (r"^(\{(true|'true'|true,false|1)\}|#bools)$", 5),
    "expressions that only an error in Spring's parser accepts or refuses": (r"^(\?:|T)$", 2),
}
# Expressions with another result.
DIFFERENT = {
    "whole numbers do not overflow below 64 bits": (r"2147483647|#maxint", 5),
    "only its size makes a number a Long": (r"\d+L\b", 2),
    "a Float is a Double": (r"\d+f\b", 3),
    "positions count characters, not UTF-16 units": (r"^(#emoji|'😀')", 7),
    "digits of Double.toString() before Java 19": (r"\d+e", 3),
    "helpers that are the accelerator engine's, not Spring's": (r"^#camel2Kebab", 1),
}
# Spring's error codes that the engine's messages contain.
CODES = {
    f"EL10{code:02}E" for code in (1, 4, 6, 7, 8, 11, 12, 13, 15, 16, 17, 18, 19, 22, 25, 26, 28, 30, 37, 38, 76, 78)
}
# Java has more types of numbers.
NUMBERS = {"java.lang.Long": "java.lang.Integer", "java.lang.Float": "java.lang.Double"}


def plain(value: Any) -> Any:
    """Return a value in the form of the records."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {text_of(key): plain(item) for key, item in value.items()} if isinstance(value, dict) else value


CONVERSIONS: dict[str | None, Callable[[Expression, dict[str, Any]], Any]] = {
    None: lambda expression, variables: expression.value(variables),
    "String": lambda expression, variables: expression.text(variables),
    "Boolean": lambda expression, variables: expression.condition(variables),
    "Integer": lambda expression, variables: as_integer(expression.value(variables)),
}


def outcome(record: dict[str, Any]) -> Outcome:
    """Return the class, value and text of the engine's result, or the phase, None and the error."""
    try:
        expression = parse(record["expression"])
        value = CONVERSIONS[record.get("target")](expression, record["variables"])
    except InvalidExpression as error:
        return "parse", None, str(error)
    except ValueError as error:
        assert isinstance(error, EvaluationFailed) or record.get("target") == "Integer"
        return "evaluate", None, str(error)
    return class_name(value), plain(value), text_of(value)


def agrees(actual: Outcome, recorded: dict[str, Any], target: str | None) -> bool:
    """Return whether the engine's outcome agrees with the record."""
    phase, value, text = actual
    if "error" in recorded:
        code = str(recorded["error"]["message"])[:7]
        return phase == recorded["phase"] and (phase == "parse" or code not in CODES or code in text)
    if target is not None and recorded["class"] is None:
        # Where a value is needed, null is an error.
        return phase == "evaluate"
    same = json.dumps(value) == json.dumps(recorded["result"]) and recorded.get("string", text) == text
    kind = str(recorded["class"] or "null")
    return same and (isinstance(value, list | dict) or NUMBERS.get(kind, kind) == NUMBERS.get(phase, phase))


def disagreements() -> list[dict[str, Any]]:
    """Return the records of both versions of Spring that the engine disagrees with."""
    return [
        record
        for record in RECORDS
        if record.get("target") != "Iterable"  # Only Loop needs one, and it accepts lists only.
        and not any(
            agrees(outcome(record), version, record.get("target"))
            for version in (record, record.get("spring6", record))
        )
    ]


def reason(record: dict[str, Any]) -> str:
    """Return the first listed difference that covers a record."""
    named = {**REFUSED, **DIFFERENT}
    return next((name for name, (pattern, _) in named.items() if re.search(pattern, record["expression"])), "none")


def test_values_agree_with_the_records() -> None:
    """All records agree, except the listed differences."""
    wrong = sorted(disagreements(), key=reason)
    counted = {name: len(list(group)) for name, group in itertools.groupby(wrong, reason)}
    assert len(RECORDS) > 1400
    assert [record for record in wrong if reason(record) == "none"] == []
    assert counted == {name: count for name, (_, count) in {**REFUSED, **DIFFERENT}.items()}


def test_refused_expressions_cause_an_error_message() -> None:
    """The engine refuses these expressions with an error message."""
    refused = [record for record in disagreements() if reason(record) in REFUSED]
    assert {outcome(record)[0] for record in refused} == {"evaluate", "parse"}
    assert [record["expression"] for record in refused if outcome(record)[0] == "parse"] == ["?:"]


# Idioms


@pytest.mark.parametrize(
    ("expression", "variables", "expected"),
    [
        ("'https://' + #absent", {}, "https://null"),
        ("(#folder != null ? #folder : '') + #filename", {"folder": None, "filename": "a.txt"}, "a.txt"),
        ("(#folder != null ? #folder : '') + #filename", {"folder": "x/", "filename": "a.txt"}, "x/a.txt"),
        ("#name.toLowerCase().replace(' ', '-')", {"name": "My App"}, "my-app"),
        ("T(java.lang.String).join(', ', #tags)", {"tags": ["a", "b"]}, "a, b"),
        ("#updateBoot3 == true ? '3' : #boot", {"boot": "2"}, "2"),
        ("#bsGitRepository != null", {}, False),
        ("#buildTool == 'maven' && !#slim || #all", {"buildTool": "maven", "slim": False}, True),
        ("#tasks[1]['done']", {"tasks": [{"done": False}, {"done": True}]}, True),
        ("#name.matches('[a-z]+')", {"name": "abc"}, True),
        ("#kind eq 'web' and not #secure", {"kind": "web", "secure": False}, True),
        ("#pkg.replace('.', '/')\n", {"pkg": "com.example"}, "com/example"),
        ("#camel2Kebab(#name)", {"name": "myGreatApp"}, "my-great-app"),
        ("#kebab2Pascal('my-great-app') + 'Application'", {}, "MyGreatAppApplication"),
        ("#files.contentsOf('a.txt')", {"files": Helper({"contentsOf": lambda path: f"<{path}>"})}, "<a.txt>"),
    ],
)
def test_idioms(expression: str, variables: dict[str, Any], expected: Any) -> None:
    """These expressions occur in published accelerators."""
    value = parse(expression).value(variables)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("property_", "expected"),
    [
        (".scheme", "https"),
        (".host", "github.com"),
        (".port", -1),
        (".query", "owner=x&repo=y"),
        (".queryParams['owner'][0]", "x"),
        (".queryParams['repo'][0]", "y"),
        (".queryParams['none']", None),
        (".path", ""),
        (".toUriString()", "https://github.com?owner=x&repo=y"),
    ],
)
def test_parts_of_an_address(property_: str, expected: Any) -> None:
    """A portal passes the repository in this form."""
    builder = "T(org.springframework.web.util.UriComponentsBuilder)"
    uri = parse(f"{builder}.fromUriString('https://' + #repository).build(true)").value(
        {"repository": "github.com?owner=x&repo=y"}
    )
    assert parse(f"#url{property_}").value({"url": uri}) == expected
    assert parse("#url").text({"url": uri}) == "https://github.com?owner=x&repo=y"


def test_all_parts_of_an_address() -> None:
    """Encoded parts stay encoded, and case stays as it is."""
    uri = Uri("http://me@Example.org:8080/a/b?x=1&x=%20&y&z=#end")
    read = lambda name: parse(f"#u.{name}").value({"u": uri})  # noqa: E731
    assert [read(name) for name in ("userInfo", "host", "port", "path", "fragment")] == [
        "me",
        "Example.org",
        8080,
        "/a/b",
        "end",
    ]
    assert read("queryParams") == {"x": ["1", "%20"], "y": [None], "z": [""]}
    assert read("pathSegments") == ["a", "b"]
    for wrong in ("http://", "http://[x", "http://h:99999999"):
        with pytest.raises(ValueError, match="is not an address"):
            Uri(wrong)


def test_null_is_an_error_where_a_value_is_needed() -> None:
    """The message is that of TAP's engine."""
    for read in (Expression.required, Expression.text, Expression.condition):
        with pytest.raises(EvaluationFailed, match=r"^Expression '#x' evaluated to null$"):
            read(parse("#x"), {})


def test_a_parse_error_has_a_position() -> None:
    """The message has the expression and the position."""
    with pytest.raises(InvalidExpression, match=r"^could not parse SpEL expression '#a ==' at position 7$"):
        parse("#a == ")
    with pytest.raises(InvalidExpression, match=r"at position 4$"):
        parse("#a ;")


def test_names_of_the_variables_of_an_expression() -> None:
    """These are the variables at any depth, without functions and keys."""
    source = "#a + #b.c[#d] ?: #camel2Kebab(#e).?[#this == #f and #root == null] + {#g: #h}"
    assert parse(source).names == frozenset("abdefgh")


def test_a_character_is_not_a_text() -> None:
    """As in Java, it concatenates with a text but equals no text."""
    assert parse("'abc'.charAt(0) == 'a'").value({}) is False
    assert parse("'abc'.charAt(0) + 'x'").value({}) == "ax"
    assert parse("'abc'.charAt(0)").text({}) == "a"
    assert isinstance(parse("'abc'.charAt(0)").value({}), Character)


def test_a_hundred_texts_are_added() -> None:
    """A sequence of operators is not nested."""
    assert parse(" + ".join(["'ab'"] * 1400)).value({}) == "ab" * 1400


# Laws

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.text("ab'\"", max_size=4))


@given(st.booleans(), SCALARS, SCALARS)
def test_a_ternary_evaluates_one_branch_only(question: bool, yes: object, no: object) -> None:
    """The operator `?:` tests for null and the empty text."""
    variables = {"q": question, "y": yes, "n": no}
    assert parse("#q ? #y : #n").value(variables) == (yes if question else no)
    assert parse("!#q ? #n : #y").value(variables) == (yes if question else no)
    assert parse("#q ? #y : 1/0").value({"q": True, "y": yes}) == yes
    assert parse("#y ?: #n").value(variables) == (no if yes is None or yes == "" else yes)


@given(st.text(max_size=20))
def test_a_literal_is_the_text_with_its_quotes_doubled(text: str) -> None:
    """Both kinds of quotes work, and no other character is special."""
    for mark in "'\"":
        assert parse(mark + text.replace(mark, mark * 2) + mark).value({}) == text


@given(SCALARS, SCALARS)
def test_equality_is_symmetric_and_the_opposite_of_inequality(left: object, right: object) -> None:
    """A value equals itself."""
    both, swapped = {"a": left, "b": right}, {"a": right, "b": left}
    equal = parse("#a == #b").value(both)
    assert equal is parse("#a == #b").value(swapped) is (not parse("#a != #b").value(both))
    assert equal is (type(left) is type(right) and left == right)
    assert parse("#a == #a").value(both) is True


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_arithmetic_of_whole_numbers(left: int, right: int) -> None:
    """Division truncates, and the remainder has the sign of the dividend."""
    variables = {"a": left, "b": right}
    assert parse("#a + #b - #b * 2").value(variables) == left - right
    if right:
        quotient, remainder = parse("{#a / #b, #a % #b}").value(variables)
        assert quotient * right + remainder == left
        assert abs(remainder) < abs(right)
        assert remainder == 0 or (remainder < 0) == (left < 0)


@given(st.lists(st.integers(-9, 9), max_size=6))
def test_selections_and_projections(items: list[int]) -> None:
    """Selections return all, the first or the last; projections map each element."""
    variables = {"l": items}
    selected = [item for item in items if item > 2]
    assert parse("#l.?[#this > 2]").value(variables) == selected
    assert parse("#l.^[#this > 2]").value(variables) == (selected[0] if selected else None)
    assert parse("#l.$[#this > 2]").value(variables) == (selected[-1] if selected else None)
    assert parse("#l.![#this * 2]").value(variables) == [item * 2 for item in items]


WORDS = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), min_size=1, max_size=4)
SPELLINGS: dict[str, Callable[[list[str]], str]] = {
    "kebab": "-".join,
    "snake": "_".join,
    "pascal": lambda words: "".join(word[0].upper() + word[1:] for word in words),
    "camel": lambda words: words[0] + "".join(word[0].upper() + word[1:] for word in words[1:]),
}


@given(WORDS)
def test_case_functions_spell_the_same_words(words: list[str]) -> None:
    """Each spelling converts to each other one."""
    for source, target in itertools.permutations(SPELLINGS, 2):
        converted = parse(f"#{source}2{target.capitalize()}(#x)").value({"x": SPELLINGS[source](words)})
        assert converted == SPELLINGS[target](words)
