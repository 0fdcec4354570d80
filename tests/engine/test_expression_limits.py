"""Expressions that must be refused: forbidden, odd, greedy and deep ones."""

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accelerator_engine import expression_evaluation, java_regex
from accelerator_engine.expressions import EvaluationFailed, Expression, InvalidExpression, parse
from accelerator_engine.java_types import Helper

RECORDS = json.loads((Path(__file__).parent / "recorded" / "spel.json").read_text(encoding="utf-8"))

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
def test_only_values_are_reachable(source: str) -> None:
    """No class, attribute, file or program is reachable, and no value changes."""
    before = json.dumps(VARIABLES, default=str)
    with pytest.raises((EvaluationFailed, InvalidExpression)):
        parse(source).value(VARIABLES)
    assert json.dumps(VARIABLES, default=str) == before


def evaluated(source: str) -> str | None:
    """Evaluate in every way; return the error message or None."""
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
def test_odd_values_cause_no_traceback(source: str) -> None:
    """These are infinity, huge numbers, halves of characters and invalid keys."""
    evaluated(source)


@pytest.mark.parametrize("source", GREEDY)
def test_time_and_memory_are_limited(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expression that needs too much time or memory stops."""
    monkeypatch.setattr(java_regex, "SECONDS", 0.2)
    monkeypatch.setattr(expression_evaluation, "_SECONDS", 0.3)
    started = time.process_time()
    with pytest.raises((EvaluationFailed, InvalidExpression)):
        parse(source).value(VARIABLES)
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("source", DEEP)
def test_long_and_deep_expressions_are_fast(source: str) -> None:
    """As in Spring, the limit is ten thousand characters."""
    started = time.process_time()
    evaluated(source)
    assert time.process_time() - started < 2


def test_the_parser_refuses_a_long_expression() -> None:
    """The check precedes parsing."""
    with pytest.raises(InvalidExpression, match="longer than 10000 characters"):
        parse("'" + "a" * 10_000 + "'")
    assert parse("'" + "a" * 9_998 + "'").value({}) == "a" * 9_998


@pytest.mark.parametrize("source", ["{" * 150 + "}" * 150, "!" * 150 + "true", "#l[" * 150 + "0" + "]" * 150])
def test_the_parser_refuses_deep_nesting(source: str) -> None:
    """The check precedes the evaluation."""
    with pytest.raises(InvalidExpression, match="is nested more than 100 deep"):
        parse(source)


@pytest.mark.parametrize("source", ["T(Integer).parseInt('2147483648')", "T(Long).parseLong('9223372036854775808')"])
def test_large_numbers_are_refused(source: str) -> None:
    """Java refuses to parse them too."""
    with pytest.raises(EvaluationFailed, match="is not a whole number"):
        parse(source).value({})


@given(st.text(max_size=30))
@example("")
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    """No text causes another error."""
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
    """These texts resemble valid expressions."""
    evaluated("".join(pieces))


@given(st.sampled_from(RECORDS), st.integers(0, 60), st.integers(0, 3), PIECES | st.text(max_size=2))
def test_recorded_expressions_with_a_mistake_are_expressions_or_refused(
    record: dict[str, Any], at: int, removed: int, inserted: str
) -> None:
    """Random characters replace parts of recorded expressions."""
    source = record["expression"][:at] + inserted + record["expression"][at + removed :]
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
    """A method refuses wrong arguments with an error message."""
    evaluated(f"{target}.{method}({arguments})")
