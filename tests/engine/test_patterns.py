"""Path patterns: recorded answers of Spring, an exhaustive oracle, and speed."""

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
    """Return the engine's answer, `error` for a refused pattern."""
    try:
        return matches(pattern, path)
    except InvalidPattern:
        return "error"


def test_answers_agree_with_the_records() -> None:
    """Where Spring 5 and 6 differ, for a slash at the end, either answer is right."""
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
    """Anchors, two asterisks within a part, and patterns that match only in the root."""
    assert matches(pattern, path) is expected


def test_any_of_several_patterns() -> None:
    """One match is enough, and no pattern matches nothing."""
    assert matches_any(["*.md", "**/*.py"], "a/b.py")
    assert not matches_any(["*.md"], "a/b.py")
    assert not matches_any([], "a/b.py")


def exhaustive_match(pattern: str, path: str) -> bool:
    """Match by trying all lengths of each wildcard."""

    def character_matches(character: str, actual: str) -> bool:
        return character in ("?", actual)

    def part_matches(part: str, name: str) -> bool:
        return all_match(list(part), list(name), "*", character_matches)

    return all_match(pattern.split("/"), path.split("/"), "**", part_matches)


def all_match(pattern: list[str], items: list[str], wildcard: str, matches_item: Callable[[str, str], bool]) -> bool:
    """Return whether the items match in order; the wildcard matches any number of them."""
    if not pattern:
        return not items
    if pattern[0] == wildcard:
        return any(all_match(pattern[1:], items[count:], wildcard, matches_item) for count in range(len(items) + 1))
    return (
        bool(items) and matches_item(pattern[0], items[0]) and all_match(pattern[1:], items[1:], wildcard, matches_item)
    )


NAMES = st.one_of(st.sampled_from("ab"), st.text("ab.", min_size=1, max_size=6))
PARTS = st.one_of(st.sampled_from(["**", "a", "b"]), st.text("ab*?", min_size=1, max_size=6))
PATTERNS = st.lists(PARTS, min_size=1, max_size=6)


@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=5))
@example(["**", "a", "**", "a", "**"], ["a"])
@example(["**", "a", "b", "**"], ["a", "a", "b"])
@example(["*a*b*"], ["aba"])
@example(["*a*a"], ["a"])
def test_patterns_agree_with_the_oracle(pattern_parts: list[str], parts: list[str]) -> None:
    """The fast algorithm agrees with the exhaustive one."""
    pattern, path = "/".join(pattern_parts), "/".join(parts)
    assert matches(pattern, path) is exhaustive_match(pattern, path)


@given(st.lists(NAMES, min_size=1, max_size=6), st.data())
def test_a_path_with_parts_replaced_by_wildcards_still_matches(parts: list[str], data: st.DataObject) -> None:
    """This generates matching paths, which are rare in the test above."""
    pattern_parts = [data.draw(st.sampled_from([part, "*", "**", part[:1] + "*", "?" * len(part)])) for part in parts]
    assert matches("/".join(pattern_parts), "/".join(parts))


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_is_answered_or_refused(pattern: str, path: str) -> None:
    """No text causes another error."""
    assert answer(pattern, path) in (True, False, "error")


@given(st.text("{}[]():*?/\\^+a", max_size=14), st.text("a{/", max_size=8))
def test_broken_patterns_are_answered_or_refused(pattern: str, path: str) -> None:
    """Nor does a text of special characters."""
    assert answer(pattern, path) in (True, False, "error")


@pytest.mark.parametrize("pattern", ["{name:[}", "{name:(}", "{name:a{2,1}}"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    """The sentence names the part."""
    with pytest.raises(InvalidPattern, match=r"^'.*' is not a pattern: "):
        matches(pattern, "a")


def test_many_paths_and_patterns_are_quick() -> None:
    """A thousand paths and thirty patterns take less than half a second, also without a cache."""
    paths = [f"src/main/java/com/example/m{number % 17}/Class{number}.java" for number in range(1000)]
    patterns = ["**", "**/*.md", "*.md", "docs/**", "src/**/*.java", "**/Class1*.java", "**/templates/**"] + [
        f"**/m{number}/**/*.{{ext}}" if number % 2 else f"src/*/java/**/m{number}/*" for number in range(23)
    ]
    started = time.process_time()
    match_count = sum(matches(pattern, path) for pattern in patterns for path in paths)
    assert time.process_time() - started < 0.5
    assert match_count > 3000


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
    """The time does not grow exponentially with the wildcards."""
    started = time.process_time()
    assert not matches(pattern, path)
    assert time.process_time() - started < 1


def test_endless_backtracking_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a regular expression in a pattern is limited."""
    monkeypatch.setattr(java_regex, "SECONDS", 0.1)
    with pytest.raises(InvalidPattern, match=r"took longer than 0\.1 seconds"):
        matches("{name:(?:a|aa)+}", "a" * 60 + "b")
