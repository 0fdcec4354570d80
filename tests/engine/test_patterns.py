"""Path patterns: the recorded answers of Spring, an oracle that tries everything, and speed."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accelerator_engine import java_regex
from accelerator_engine.patterns import InvalidPattern, matches, matches_any

RECORDS = json.loads((Path(__file__).parent / "recorded" / "ant_patterns.json").read_text(encoding="utf-8"))


def answer(pattern: str, path: str) -> bool | str:
    """Return what the engine says, `error` for a pattern that it refuses."""
    try:
        return matches(pattern, path)
    except InvalidPattern:
        return "error"


def test_every_recorded_answer_is_given() -> None:
    """Where Spring 5 and 6 differ (a slash at the end), either answer will do."""
    wrong = [
        record
        for record in RECORDS
        if answer(record["pattern"], record["path"])
        not in {version.get("matches", "error") for version in (record, record.get("spring6", record))}
    ]
    assert len(RECORDS) > 1400
    assert wrong == []


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**/*", ".github/workflows/ci.yml", True),
        ("**", "README.md", True),
        ("**.md", "README.md", True),
        ("**.md", "docs/README.md", False),
        ("deploy/**.yml", "deploy/app.yml", True),
        ("**/**.yaml", "app.yaml", True),
        ("*.csproj", "src/App.csproj", False),
        ("Tiltfile*", "Tiltfile.web", True),
        ("*gradle*", "build.gradle", True),
        ("gradle/**", "gradle/wrapper/gradle-wrapper.jar", True),
        ("**/templates/**", "templates/x", True),
        ("README.md", "readme.md", False),
    ],
)
def test_the_idioms_of_published_accelerators(pattern: str, path: str, expected: bool) -> None:
    """The anchors, the two asterisks within a part, and what matches in the root only."""
    assert matches(pattern, path) is expected


def test_any_of_several_patterns() -> None:
    """One that matches is enough, and none match without patterns."""
    assert matches_any(["*.md", "**/*.py"], "a/b.py")
    assert not matches_any(["*.md"], "a/b.py")
    assert not matches_any([], "a/b.py")


def tried(pattern: str, path: str) -> bool:
    """Match by trying everything: each wildcard takes nothing, one more, two more …"""

    def parts(wanted: list[str], there: list[str]) -> bool:
        return every(wanted, there, "**", lambda part, name: every(list(part), list(name), "*", one))

    def one(character: str, found: str) -> bool:
        return character in ("?", found)

    return parts(pattern.split("/"), path.split("/"))


def every(wanted: list[str], there: list[str], wildcard: str, fits: Callable[[str, str], bool]) -> bool:
    """Return whether the items fit one after the other, the wildcard in place of any number."""
    if not wanted:
        return not there
    if wanted[0] == wildcard:
        return any(every(wanted[1:], there[taken:], wildcard, fits) for taken in range(len(there) + 1))
    return bool(there) and fits(wanted[0], there[0]) and every(wanted[1:], there[1:], wildcard, fits)


NAMES = st.one_of(st.sampled_from("ab"), st.text("ab.", min_size=1, max_size=6))
PARTS = st.one_of(st.sampled_from(["**", "a", "b"]), st.text("ab*?", min_size=1, max_size=6))
PATTERNS = st.lists(PARTS, min_size=1, max_size=6)


@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=5))
@example(["**", "a", "**", "a", "**"], ["a"])
@example(["**", "a", "b", "**"], ["a", "a", "b"])
@example(["*a*b*"], ["aba"])
@example(["*a*a"], ["a"])
def test_patterns_match_as_the_oracle_says(wanted: list[str], parts: list[str]) -> None:
    """The quick way finds what trying everything finds."""
    pattern, path = "/".join(wanted), "/".join(parts)
    assert matches(pattern, path) is tried(pattern, path)


@given(st.lists(NAMES, min_size=1, max_size=6), st.data())
def test_a_path_with_parts_replaced_by_wildcards_still_matches(parts: list[str], data: st.DataObject) -> None:
    """So the oracle's test does not only see paths that do not match."""
    wanted = [data.draw(st.sampled_from([part, "*", "**", part[:1] + "*", "?" * len(part)])) for part in parts]
    assert matches("/".join(wanted), "/".join(parts))


@given(st.text(max_size=12), st.text(max_size=12))
def test_whatever_is_written_is_answered_or_refused(pattern: str, path: str) -> None:
    """No text makes it fail otherwise."""
    assert answer(pattern, path) in (True, False, "error")


@given(st.text("{}[]():*?/\\^+a", max_size=14), st.text("a{/", max_size=8))
def test_broken_patterns_are_answered_or_refused(pattern: str, path: str) -> None:
    """Nor does a text of the characters that mean something."""
    assert answer(pattern, path) in (True, False, "error")


@pytest.mark.parametrize("pattern", ["{name:[}", "{name:(}", "{name:a{2,1}}"])
def test_a_pattern_that_cannot_be_read_is_refused_in_a_sentence(pattern: str) -> None:
    """The sentence names the part."""
    with pytest.raises(InvalidPattern, match=r"^'.*' is not a pattern: "):
        matches(pattern, "a")


def test_many_paths_and_patterns_are_quick() -> None:
    """A thousand paths and thirty patterns take far less than half a second, the first time too."""
    paths = [f"src/main/java/com/example/m{number % 17}/Class{number}.java" for number in range(1000)]
    patterns = ["**", "**/*.md", "*.md", "docs/**", "src/**/*.java", "**/Class1*.java", "**/templates/**"] + [
        f"**/m{number}/**/*.{{ext}}" if number % 2 else f"src/*/java/**/m{number}/*" for number in range(23)
    ]
    started = time.perf_counter()
    found = sum(matches(pattern, path) for pattern in patterns for path in paths)
    assert time.perf_counter() - started < 0.5
    assert found > 3000


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 2000),
        ("*" * 2000 + "x", "y" * 2000),
        ("**/" * 500 + "x", "a/" * 500 + "y"),
        ("**/a/" * 30 + "x", "a/" * 200 + "y"),
    ],
)
def test_many_wildcards_are_quick(pattern: str, path: str) -> None:
    """Wildcards do not multiply."""
    started = time.perf_counter()
    assert not matches(pattern, path)
    assert time.perf_counter() - started < 1


def test_an_expression_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regular expression in a pattern may backtrack only for so long."""
    monkeypatch.setattr(java_regex, "SECONDS", 0.1)
    with pytest.raises(InvalidPattern, match=r"took longer than 0\.1 seconds"):
        matches("{name:(?:a|aa)+}", "a" * 60 + "b")
