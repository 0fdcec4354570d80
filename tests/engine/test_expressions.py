"""Expressions: what Spring was recorded to evaluate, the samples' idioms, and what must not happen."""

import itertools
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accelerator_engine import expressions, java_regex
from accelerator_engine.expressions import EvaluationFailed, Expression, InvalidExpression, parse
from accelerator_engine.java_types import Character, Helper, as_integer, class_name, text_of
from accelerator_engine.java_uri import Uri

RECORDS = json.loads((Path(__file__).parent / "recorded" / "spel.json").read_text(encoding="utf-8"))

Outcome = tuple[str, Any, str]

# What is refused on purpose, though Java does it: expressions, and how many records.
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
    "arguments of which Java makes characters or locales": (r"(replace|indexOf)\([^)]*\b\d+\)|toLowerCase\('x'\)", 4),
    "numbers where a character is meant": (r"replace\(1, 'x'\)|'c' - 1", 2),
    "a list as a condition or a number": (r"^(\{(true|'true'|true,false|1)\}|#bools)$", 5),
    "an expression that a slip of Spring's parser lets through, or one that it does not": (r"^(\?:|T)$", 2),
}
# What comes out differently.
DIFFERENT = {
    "whole numbers know no overflow below 64 bits": (r"2147483647|#maxint", 5),
    "a Long is told from an Integer by its size only": (r"\d+L\b", 2),
    "a Float is a Double": (r"\d+f\b", 3),
    "positions count characters, not UTF-16 units": (r"^(#emoji|'😀')", 7),
    "digits of Double.toString() before Java 19": (r"\d+e", 3),
    "helpers that are the accelerator engine's, not Spring's": (r"^#camel2Kebab", 1),
}
# Spring's codes that a failure repeats.
CODES = {
    f"EL10{code:02}E" for code in (1, 4, 6, 7, 8, 11, 12, 13, 15, 16, 17, 18, 19, 22, 25, 26, 28, 30, 37, 38, 76, 78)
}
# Java has more kinds of numbers.
NUMBERS = {"java.lang.Long": "java.lang.Integer", "java.lang.Float": "java.lang.Double"}


def plain(value: Any) -> Any:
    """Return a value as the recorder wrote it."""
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
    """Return the class, the value and the text that the engine finds, or the phase, None and the failure."""
    try:
        expression = parse(record["expression"])
        value = CONVERSIONS[record.get("target")](expression, record["variables"])
    except InvalidExpression as error:
        return "parse", None, str(error)
    except ValueError as error:
        assert isinstance(error, EvaluationFailed) or record.get("target") == "Integer"
        return "evaluate", None, str(error)
    return class_name(value), plain(value), text_of(value)


def agrees(found: Outcome, recorded: dict[str, Any], target: str | None) -> bool:
    """Return whether the engine found what was recorded."""
    phase, value, text = found
    if "error" in recorded:
        code = str(recorded["error"]["message"])[:7]
        return phase == recorded["phase"] and (phase == "parse" or code not in CODES or code in text)
    if target is not None and recorded["class"] is None:
        # Nothing to convert: where a value is needed null is a failure.
        return phase == "evaluate"
    same = json.dumps(value) == json.dumps(recorded["result"]) and recorded.get("string", text) == text
    kind = str(recorded["class"] or "null")
    return same and (isinstance(value, list | dict) or NUMBERS.get(kind, kind) == NUMBERS.get(phase, phase))


def disagreements() -> list[dict[str, Any]]:
    """Return the records that the engine does not agree with, in either version of Spring."""
    return [
        record
        for record in RECORDS
        if record.get("target") != "Iterable"  # Only Loop wants one, and it takes nothing but lists.
        and not any(
            agrees(outcome(record), version, record.get("target"))
            for version in (record, record.get("spring6", record))
        )
    ]


def reason(record: dict[str, Any]) -> str:
    """Return the first exception that a record falls under."""
    named = {**REFUSED, **DIFFERENT}
    return next((why for why, (pattern, _) in named.items() if re.search(pattern, record["expression"])), "none")


def test_values_agree_with_the_records() -> None:
    """Every record but the named exceptions, and those are as many as they were."""
    wrong = sorted(disagreements(), key=reason)
    counted = {why: len(list(group)) for why, group in itertools.groupby(wrong, reason)}
    assert len(RECORDS) > 1400
    assert [record for record in wrong if reason(record) == "none"] == []
    assert counted == {why: count for why, (_, count) in {**REFUSED, **DIFFERENT}.items()}


def test_what_is_refused_fails_in_a_sentence() -> None:
    """Whatever Java makes of it."""
    refused = [record for record in disagreements() if reason(record) in REFUSED]
    assert {outcome(record)[0] for record in refused} == {"evaluate", "parse"}
    assert [record["expression"] for record in refused if outcome(record)[0] == "parse"] == ["?:"]


# The samples' idioms


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
    """What published accelerators write."""
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
def test_an_address_is_taken_apart(property_: str, expected: Any) -> None:
    """The repository that a portal hands over."""
    builder = "T(org.springframework.web.util.UriComponentsBuilder)"
    made = parse(f"{builder}.fromUriString('https://' + #repository).build(true)").value(
        {"repository": "github.com?owner=x&repo=y"}
    )
    assert parse(f"#url{property_}").value({"url": made}) == expected
    assert parse("#url").text({"url": made}) == "https://github.com?owner=x&repo=y"


def test_all_parts_of_an_address() -> None:
    """What is encoded stays so, and case counts."""
    found = Uri("http://me@Example.org:8080/a/b?x=1&x=%20&y&z=#end")
    read = lambda name: parse(f"#u.{name}").value({"u": found})  # noqa: E731
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


def test_null_is_a_failure_where_a_value_is_needed() -> None:
    """The sentence is the real engine's."""
    for read in (Expression.required, Expression.text, Expression.condition):
        with pytest.raises(EvaluationFailed, match=r"^Expression '#x' evaluated to null$"):
            read(parse("#x"), {})


def test_a_parse_error_says_where() -> None:
    """By position, and with the expression."""
    with pytest.raises(InvalidExpression, match=r"^could not parse SpEL expression '#a ==' at position 7$"):
        parse("#a == ")
    with pytest.raises(InvalidExpression, match=r"at position 4$"):
        parse("#a ;")


def test_the_names_that_an_expression_refers_to() -> None:
    """All variables, wherever they stand, and neither functions nor elements."""
    source = "#a + #b.c[#d] ?: #camel2Kebab(#e).?[#this == #f and #root == null] + {#g: #h}"
    assert parse(source).names == frozenset("abdefgh")


def test_a_character_is_no_text() -> None:
    """It joins with one, and is equal to none, as in Java."""
    assert parse("'abc'.charAt(0) == 'a'").value({}) is False
    assert parse("'abc'.charAt(0) + 'x'").value({}) == "ax"
    assert parse("'abc'.charAt(0)").text({}) == "a"
    assert isinstance(parse("'abc'.charAt(0)").value({}), Character)


def test_a_hundred_texts_are_added() -> None:
    """Operators side by side are no nesting."""
    assert parse(" + ".join(["'ab'"] * 1400)).value({}) == "ab" * 1400


# Laws

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.text("ab'\"", max_size=4))


@given(st.booleans(), SCALARS, SCALARS)
def test_a_question_takes_one_branch_only(question: bool, yes: object, no: object) -> None:
    """And `?:` is a question for null and the empty text."""
    variables = {"q": question, "y": yes, "n": no}
    assert parse("#q ? #y : #n").value(variables) == (yes if question else no)
    assert parse("!#q ? #n : #y").value(variables) == (yes if question else no)
    assert parse("#q ? #y : 1/0").value({"q": True, "y": yes}) == yes
    assert parse("#y ?: #n").value(variables) == (no if yes is None or yes == "" else yes)


@given(st.text(max_size=20))
def test_a_literal_is_the_text_with_its_quotes_doubled(text: str) -> None:
    """In quotes of either kind, and nothing else is special."""
    for mark in "'\"":
        assert parse(mark + text.replace(mark, mark * 2) + mark).value({}) == text


@given(SCALARS, SCALARS)
def test_equality_is_symmetric_and_the_opposite_of_inequality(left: object, right: object) -> None:
    """And a value is equal to itself."""
    both, swapped = {"a": left, "b": right}, {"a": right, "b": left}
    equal = parse("#a == #b").value(both)
    assert equal is parse("#a == #b").value(swapped) is (not parse("#a != #b").value(both))
    assert equal is (type(left) is type(right) and left == right)
    assert parse("#a == #a").value(both) is True


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_arithmetic_of_whole_numbers(left: int, right: int) -> None:
    """Division goes towards zero, and the rest has the sign of the dividend."""
    variables = {"a": left, "b": right}
    assert parse("#a + #b - #b * 2").value(variables) == left - right
    if right:
        quotient, rest = parse("{#a / #b, #a % #b}").value(variables)
        assert quotient * right + rest == left
        assert abs(rest) < abs(right)
        assert rest == 0 or (rest < 0) == (left < 0)


@given(st.lists(st.integers(-9, 9), max_size=6))
def test_selections_and_projections(items: list[int]) -> None:
    """All, the first, the last; and one new element for each."""
    variables = {"l": items}
    chosen = [item for item in items if item > 2]
    assert parse("#l.?[#this > 2]").value(variables) == chosen
    assert parse("#l.^[#this > 2]").value(variables) == (chosen[0] if chosen else None)
    assert parse("#l.$[#this > 2]").value(variables) == (chosen[-1] if chosen else None)
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
    """Each spelling from each other one."""
    for source, target in itertools.permutations(SPELLINGS, 2):
        converted = parse(f"#{source}2{target.capitalize()}(#x)").value({"x": SPELLINGS[source](words)})
        assert converted == SPELLINGS[target](words)


# What must not happen

VARIABLES: dict[str, Any] = {
    "s": "hello",
    "l": [0, 1, 2, 3],
    "L": list(range(1000)),
    "m": {"k": "v"},
    "big": "a" * 1_000_000,
    "huge": 10**400,
    "inf": math.inf,
    "nan": math.nan,
    "files": Helper({"contentsOf": lambda path: path}),
}

FORBIDDEN = [
    "T(java.lang.Runtime).getRuntime().exec('id')",
    "T(java.lang.System).getenv()",
    "T(java.nio.file.Files).readString('x')",
    "T(os).system('id')",
    "T(accelerator_engine.tree)",
    "T(java.lang.Class).forName('java.lang.Runtime')",
    "''.class.forName('java.lang.Runtime')",
    "''.getClass().getClassLoader()",
    "#s.__class__",
    "#s.__class__.__mro__",
    "#l.__len__()",
    "#l.sort()",
    "#l.append(1)",
    "#m.pop('k')",
    "#m.items()",
    "#s.format('{0.__class__}')",
    "#s.encode()",
    "#s.upper()",
    "#files.methods",
    "#files.__init__",
    "#files.contentsOf()",
    "#files.contentsOf(1)",
    "#files.contentsOf('a', 'b')",
    "#files.nothing()",
    "T(java.lang.String).name",
    "T(java.lang.String).methods",
    "new java.lang.ProcessBuilder('id').start()",
    "new java.io.File('/etc/passwd')",
    "@environment",
    "#s = 'x'",
    "#m['k'] = 1",
    "#l[0]++",
]

ODD = [
    *("#l[#inf]", "#l[#nan]", "'x'.substring(#inf)", "#s[#huge]", "#s[99999999999L]", "#m[#l]", "#m.get({1})"),
    *("#inf % 2", "#nan % 2", "5.0 % #inf", "0 ^ -1", "(0 - 7.5) ^ 0.5", "2.0 ^ 5000", "2 ^ 5000", "9 ^ 9 ^ 9"),
    *("(9 ^ 9) ^ 9", "2 ^ 63", "-9223372036854775807L - 2", "#huge + 1", "#huge * 1.5", "#huge / 2.5", "#huge ^ 2"),
    *("#huge == 1.5", "#huge < #inf", "#huge.toString()", "#huge.doubleValue()", "#huge.intValue()", "{#m: 1}"),
    *("{#n: 1}", "{#inf: 1}[#inf]", "{T(String)}", "#m.![#this]", "#m.![#this.toString()]", "{#files}.toString()"),
    *("T(Math).round(#inf)", "T(Math).round(#nan)", "T(Math).floor(#inf)", "T(Math).sqrt(-1)", "T(Math).abs(#huge)"),
    *(
        "T(Math).abs(null)",
        "T(Math).max('a', 1)",
        "T(Math).pow(0, -1)",
        "T(Math).pow(#huge, 2)",
        "T(Integer).parseInt('९')",
    ),
    *("T(Double).parseDouble('1e999999999')", "T(Double).parseDouble('nan')", "'a'.compareTo(1)", "'a'.length(1)"),
    *("'a'.split('a', 2147483647)", "'a,b'.split(',').toString()", "'\ud800' + '\udfff'", "'\x00'.matches('\x00')"),
    *("#l.?[1/0]", "1 between {1}", "#s instanceof #s", "#l.contains(#l)", "#s.matches('(?R)')", "'abc'.charAt(0).x"),
    *("'%s'.repeat(-1)", "#m.keySet().values()", "'x'.indexOf('', 9)", "'x'.lastIndexOf('', -9)", "#\ud800"),
]

GREEDY = [
    "'a'.repeat(10000000).repeat(10)",
    "'a'.repeat(10000000).replace('a', 'aa')",
    "'a'.repeat(10000000).concat('a'.repeat(10000000)).concat('a'.repeat(10000000))",
    "{" + ", ".join(["'a'.repeat(9999999)"] * 300) + "}",
    "#L.!['a'.repeat(9999999)]",
    "#L.![#L.![#L.![1]]]",
    "#l.![" * 30 + "1" + "]" * 30,
    "#l" + ".![{#this, #this}]" * 400,
    "#big + #big",
    "'a' * 2147483647",
    "T(String).join(#big, #L.!['x'])",
    "#big.replaceAll('a', 'aaaaaaaaaaaa')",
    "#big.split('')",
    "'x'.matches(#big)",
    "#big.matches('(?:a|aa)+b')",
    "#big.replaceAll('(a+)+b', 'x')",
    "#big.split('(a+)+b')",
]

DEEP = [
    "(" * 9999,
    "(" * 4999 + "1" + ")" * 4999,
    "{" * 4999 + "}" * 4999,
    "!" * 9996 + "true",
    "- " * 4999 + "1",
    "1" + "+1" * 4999,
    "#a" + ".b" * 4999,
    "#l" + "[0]" * 3300,
    "true?" * 1600 + "1" + ":2" * 1600,
    "#a?:" * 2400 + "1",
    "'" * 9999,
    "\\" * 9999,
    "?" * 9999,
    "T(" * 4999,
    "T(" + "a." * 4900 + "a)",
    "#a[" * 3000,
    "foo(" * 2000,
    "'a" * 4999,
    "x" * 9999,
    "1" * 10_000,
    "1." * 5000,
    " " * 9999,
    "#" * 9999,
    "'" + "a" * 10_000 + "'",
]


@pytest.mark.parametrize("source", FORBIDDEN)
def test_nothing_but_values_can_be_reached(source: str) -> None:
    """No class, attribute, file, program or other object, and no value changes."""
    before = json.dumps(VARIABLES, default=str)
    with pytest.raises((EvaluationFailed, InvalidExpression)):
        parse(source).value(VARIABLES)
    assert json.dumps(VARIABLES, default=str) == before


def evaluated(source: str) -> str | None:
    """Evaluate in every way; return the failure, if any, which must be a sentence."""
    failure = None
    for read in (Expression.value, Expression.text, Expression.condition):
        try:
            expression = parse(source)
            assert isinstance(expression.names, frozenset)
            read(expression, VARIABLES)
        except (InvalidExpression, EvaluationFailed) as error:
            failure = str(error)
            assert failure
            assert "\n" not in failure or "\n" in source
            assert len(failure) < 12_000
    return failure


@pytest.mark.parametrize("source", ODD)
def test_odd_values_are_no_traceback(source: str) -> None:
    """Infinity, huge numbers, halves of characters, keys that cannot be keys."""
    evaluated(source)


@pytest.mark.parametrize("source", GREEDY)
def test_time_and_memory_are_bounded(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would make too much, or take too long, is stopped."""
    monkeypatch.setattr(java_regex, "SECONDS", 0.2)
    monkeypatch.setattr(expressions, "_SECONDS", 0.3)
    started = time.perf_counter()
    with pytest.raises((EvaluationFailed, InvalidExpression)):
        parse(source).value(VARIABLES)
    assert time.perf_counter() - started < 1.5


@pytest.mark.parametrize("source", DEEP)
def test_long_and_deep_expressions_are_read_or_refused_at_once(source: str) -> None:
    """Ten thousand characters are the most, as in Spring."""
    started = time.perf_counter()
    evaluated(source)
    assert time.perf_counter() - started < 2


def test_an_expression_that_is_too_long_is_refused() -> None:
    """Before it is read."""
    with pytest.raises(InvalidExpression, match="longer than 10000 characters"):
        parse("'" + "a" * 10_000 + "'")
    assert parse("'" + "a" * 9_998 + "'").value({}) == "a" * 9_998


@pytest.mark.parametrize("source", ["{" * 150 + "}" * 150, "!" * 150 + "true", "#l[" * 150 + "0" + "]" * 150])
def test_deep_nesting_is_refused_when_it_is_read(source: str) -> None:
    """Before an evaluation could follow it."""
    with pytest.raises(InvalidExpression, match="is nested more than 100 deep"):
        parse(source)


@pytest.mark.parametrize("source", ["T(Integer).parseInt('2147483648')", "T(Long).parseLong('9223372036854775808')"])
def test_numbers_that_are_too_large_are_refused(source: str) -> None:
    """As Java refuses to read them."""
    with pytest.raises(EvaluationFailed, match="is not a whole number"):
        parse(source).value({})


@given(st.text(max_size=30))
@example("")
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    """Nothing else happens."""
    evaluated(source)


PIECES = st.sampled_from(
    [
        *"#.?!$^[](){}:,+-*/%<>='\"& ",
        *("#s", "#l", "#m", "#files", "#huge", "#inf", "#this", "true", "null", "0", "1.5", "2L", "'a'", "''"),
        *("==", "and", "not", "matches", "between", "instanceof", "T(String)", "T(Math)", ".![", ".?[", "?.", "?:"),
        *(".size()", ".length()", ".get(", ".substring(", ".join(", ".max(", ".split('')", ".key", ".empty", "new "),
    ]
)


@given(st.lists(PIECES, max_size=9))
def test_pieces_in_any_order_are_an_expression_or_refused(pieces: list[str]) -> None:
    """These come nearer to what can be evaluated."""
    evaluated("".join(pieces))


@given(st.sampled_from(RECORDS), st.integers(0, 60), st.integers(0, 3), PIECES | st.text(max_size=2))
def test_recorded_expressions_with_a_mistake_are_expressions_or_refused(
    record: dict[str, Any], at: int, taken: int, put: str
) -> None:
    """Characters are taken out of expressions and others put in."""
    source = record["expression"][:at] + put + record["expression"][at + taken :]
    try:
        parse(source).value(record["variables"])
    except (InvalidExpression, EvaluationFailed) as error:
        assert str(error)


METHODS = st.sampled_from(
    sorted({name for record in RECORDS for name in re.findall(r"\.(\w+)\(", record["expression"])})
)
ARGUMENTS = st.sampled_from(
    ["", "1", "-1", "'a'", "''", "null", "#l", "#m", "1.5", "#inf", "#huge", "true", "'a','b'", "0,9"]
)
TARGETS = st.sampled_from(
    ["'abc'", "#l", "#m", "1", "1.5", "true", "#huge", "'a,b'.split(',')", "T(String)", "T(Math)"]
)


@given(TARGETS, METHODS, ARGUMENTS)
def test_any_method_with_any_arguments_is_called_or_refused(target: str, method: str, arguments: str) -> None:
    """What a method does not take is said in a sentence."""
    evaluated(f"{target}.{method}({arguments})")
