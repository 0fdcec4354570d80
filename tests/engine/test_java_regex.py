"""Regular expressions: recorded results of `java.util.regex`, and limits."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accelerator_engine import java_regex
from accelerator_engine.java_regex import InvalidRegex, full_match, quote, replace_all, search, split
from accelerator_engine.transforms import path_groups

RECORDED = Path(__file__).parent / "recorded"
RECORDS = json.loads((RECORDED / "java_regex.json").read_text(encoding="utf-8"))
MATCHES = json.loads((RECORDED / "full_match.json").read_text(encoding="utf-8"))

# Differences from Java with their reason: the patterns and the number of records.
DIFFERENT = {
    "an empty match between the two halves of a character beyond U+FFFF": (
        {"x*", "b*", "", "a?", "b*?", "(?:)", "\\x{1F600}?"},
        10,
    ),
    "\\G after an empty match": ({"\\G"}, 2),
    "a boundary of graphemes is refused": ({"\\b{g}"}, 1),
    "a repeated repetition is refused; Java does not repeat it either": ({"a{1,2}{2}"}, 1),
}


def replaced(record: dict[str, Any]) -> str | None:
    """Return the engine's result for a record, None for a refused pattern."""
    try:
        return replace_all(record["pattern"], record["replacement"], record["text"])
    except InvalidRegex as error:
        assert str(error)
        return None


def test_replacing_agrees_with_the_records() -> None:
    """All records agree, except the listed differences."""
    wrong = [record for record in RECORDS if replaced(record) != record.get("result")]
    counted = {why: sum(record["pattern"] in patterns for record in wrong) for why, (patterns, _) in DIFFERENT.items()}
    assert len(RECORDS) > 700
    assert counted == {why: count for why, (_, count) in DIFFERENT.items()}
    assert len(wrong) == sum(counted.values())


@pytest.mark.parametrize("record", [record for record in RECORDS if "\ud83d" in record.get("result", "")][:3])
def test_the_halves_of_a_character_stay_together(record: dict[str, Any]) -> None:
    """The first difference: the engine never writes half a character."""
    assert re.search("[\ud800-\udfff]", replaced(record) or "") is None


def groups_of(record: dict[str, Any]) -> dict[str, str | None] | str | None:
    """Return the groups of the engine's match of a path."""
    try:
        return path_groups(record["regex"], record["path"])
    except InvalidRegex:
        return "refused"


def expected_groups(record: dict[str, Any]) -> dict[str, str | None] | str | None:
    """Return the recorded groups by number and by name."""
    if "error" in record:
        return "refused"
    numbered = record["groups"] and {f"g{index}": group for index, group in enumerate(record["groups"])}
    return numbered and {**record["named"], **numbered}


def test_paths_match_as_recorded() -> None:
    """The groups by number and by name agree, also for the default pattern."""
    wrong = [record for record in MATCHES if groups_of(record) != expected_groups(record)]
    assert len(MATCHES) > 370
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "pattern", "limit", "parts"),
    [
        ("a,b,,c,,", ",", 0, ["a", "b", "", "c"]),
        ("a,b,,c,,", ",", -1, ["a", "b", "", "c", "", ""]),
        ("a,b,,c,,", ",", 2, ["a", "b,,c,,"]),
        ("", ",", 0, [""]),
        ("abc", "", 0, ["a", "b", "c"]),
        (",a", ",", 0, ["", "a"]),
        ("a.b.c", ".", 0, []),
        ("abc", "x", 0, ["abc"]),
        ("boo:and:foo", "o", 0, ["b", "", ":and:f"]),
    ],
)
def test_splitting(text: str, pattern: str, limit: int, parts: list[str]) -> None:
    """Without a limit empty parts at the end are dropped."""
    assert split(pattern, text, limit) == parts


def test_only_the_first_match_is_replaced_when_asked() -> None:
    """As `replaceFirst` does."""
    assert replace_all("a", "b", "aaa", only_first=True) == "baa"


def test_searching_finds_a_part_and_matching_takes_the_whole() -> None:
    """A `validationRegex` may match a part of an answer; a path pattern matches the whole path."""
    assert search("[a-z ]+", "Hello world")
    assert not search("^[a-z ]+$", "Hello world")
    assert full_match("[a-z]+", "abc")
    assert not full_match("[a-z]", "abc")


@given(st.text(max_size=20))
@example("\\E")
@example("a\\Eb\\Q")
def test_a_quoted_text_matches_itself(text: str) -> None:
    """A quoted text has no special characters."""
    assert full_match(quote(text), text)


@given(st.text(max_size=20), st.text(min_size=1, max_size=3), st.text("abc", max_size=3))
@example("a+b(a+b", "a+b", "")
def test_replacing_a_quoted_text_replaces_that_text(text: str, old: str, new: str) -> None:
    """As a plain replacement does."""
    assert replace_all(quote(old), new, text) == text.replace(old, new)


@given(st.text("aA0.\n\r\u2028é😀", max_size=12), st.sampled_from(["[a-z]", "\\w", ".", "\\s", "(?i)a", "$", "\\b"]))
def test_replacing_each_match_by_itself_changes_nothing(text: str, pattern: str) -> None:
    """`$0` is the match."""
    assert replace_all(pattern, "$0", text) == text
    assert replace_all(f"({pattern})", "$1", text) == text


@given(
    st.text("()[]{}?*+|\\^$.-&#<>=!:,QEpPLudDswWbBGZAkxi0123456789a \n", max_size=20), st.text("a0()\\$ {}", max_size=8)
)
@example("(?R)", "")
@example("(?L)a", "")
@example("\\p{", "")
@example("[\\Q", "")
@example("\\c", "")
@example("\\u", "")
@example("(?<x", "")
@example("(a)\\2147483648", "")
def test_any_text_is_a_pattern_or_refused(pattern: str, replacement: str) -> None:
    """No text causes another error."""
    try:
        assert isinstance(replace_all(pattern, replacement, "a0 ()[]\n"), str)
    except InvalidRegex as error:
        assert "Traceback" not in str(error)


MUTATIONS = st.tuples(
    st.sampled_from(RECORDS), st.integers(0, 40), st.integers(0, 3), st.text("()[]{}?*+|\\^$&i-", max_size=2)
)


@given(MUTATIONS)
def test_recorded_patterns_with_a_mistake_are_patterns_or_refused(
    mutation: tuple[dict[str, Any], int, int, str],
) -> None:
    """Random characters replace parts of recorded patterns."""
    record, at, removed, inserted = mutation
    pattern = record["pattern"][:at] + inserted + record["pattern"][at + removed :]
    try:
        assert isinstance(replace_all(pattern, record["replacement"], record["text"]), str)
    except InvalidRegex as error:
        assert str(error)


@pytest.mark.parametrize("pattern", ["(?:a|aa)+$", "(?:(?:a{1,1000}){1,1000}){1,1000}b"])
def test_endless_backtracking_is_stopped(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All functions stop."""
    monkeypatch.setattr(java_regex, "SECONDS", 0.1)
    text = "a" * 60 + "c"
    for use in (search, full_match, split, lambda pattern_, text_: replace_all(pattern_, "", text_)):
        with pytest.raises(InvalidRegex, match=r"took longer than 0\.1 seconds"):
            use(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 9000,
        "(?:" * 5000 + ")" * 5000,
        "(?i:" * 4000,
        "[" * 9000,
        "[a" * 5000 + "]" * 5000,
        "[^" * 5000 + "a" + "]" * 5000,
        "a?" * 6000 + "a" * 6000,
        "a" * 20_001,
        "(?i)" + "é|" * 9000,
        "x{0,2147483647}" * 500,
        "\\Q" * 9000,
    ],
)
def test_long_and_deep_patterns_are_fast(pattern: str) -> None:
    """They are compiled or refused quickly."""
    started = time.process_time()
    try:
        search(pattern, "aaa")
    except InvalidRegex as error:
        assert len(str(error)) < 500
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize(
    "pattern",
    [
        "a{999999999}",
        "(?:(?:a{1000}){1000}){1000}",
        "(?i:(a?){3000}){3000}",
        "(\\Q" + "a" * 9000 + "\\E){9}",
        "(){999999999}",
    ],
)
def test_many_required_repetitions_are_refused(pattern: str) -> None:
    """They would fill the memory or crash the process."""
    with pytest.raises(InvalidRegex, match="repeats more than 20000 times"):
        search(pattern, "aaa")


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("(?:a{100}){150}", 15_000),
        ("a{20000}", 20_000),
        ("\\Qaaa\\E{9000}", 9002),
        ("(?:a{0,999999999}){0,999999999}", 50),
    ],
)
def test_optional_repetitions_are_allowed(pattern: str, length: int) -> None:
    """Optional repetitions need no memory."""
    assert full_match(pattern, "a" * length)


def test_the_result_of_a_replacement_is_limited() -> None:
    """Ten million characters are the limit."""
    with pytest.raises(InvalidRegex, match="makes more than"):
        replace_all("", "x" * 5000, "a" * 5000)
