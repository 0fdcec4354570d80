"""Path patterns of Application Accelerator: Ant patterns as Spring matches them.

A pattern matches a whole path, part by part; slashes separate the parts. The part `**` matches any
number of parts. Within a part `*` matches any text, `?` one character, `{name}` any text and
`{name:regex}` a regular expression. Case matters.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence

import regex

from accelerator_engine import java_regex

_ANY_PARTS = "**"
_WILDCARD = regex.compile(r"\?|\*|\{((?:\{[^/]+?\}|[^/{}]|\\[{}])+?)\}")


class InvalidPattern(ValueError):
    """A pattern has a syntax error; the text is one sentence."""


def matches(pattern: str, path: str) -> bool:
    """Return whether the whole path matches the pattern. Raises InvalidPattern."""
    if pattern.startswith("/") != path.startswith("/"):
        return False
    pattern_parts, parts = _split(pattern), _split(path)
    if _ANY_PARTS in pattern_parts:
        return _match(pattern_parts, parts)
    if not all(map(_part_matches, pattern_parts, parts)):
        return False
    if len(pattern_parts) == len(parts):
        # `x/` and `x` are different paths, but only for a pattern with a fixed number of parts.
        return pattern.endswith("/") == path.endswith("/")
    # A last `*` matches the empty name after the slash of `a/`.
    return len(pattern_parts) == len(parts) + 1 and pattern_parts[-1] == "*" and path.endswith("/")


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Return whether the path matches at least one pattern. Raises InvalidPattern."""
    return any(matches(pattern, path) for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _match(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Match a pattern with `**`: the parts before the first and after the last, then the rest."""
    head = pattern.index(_ANY_PARTS)
    tail = pattern[::-1].index(_ANY_PARTS)
    if head + tail > len(parts):
        return False
    if not all(map(_part_matches, pattern[:head], parts)):
        return False
    if tail and not all(map(_part_matches, pattern[-tail:], parts[-tail:])):
        return False
    return _match_between(pattern[head : len(pattern) - tail], parts[head : len(parts) - tail])


def _match_between(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Match a pattern that starts and ends with `**`: each run in between takes the first match."""
    at = 0
    for any_parts, group in itertools.groupby(pattern, _ANY_PARTS.__eq__):
        if any_parts:
            continue
        run = tuple(group)
        starts = range(at, len(parts) - len(run) + 1)
        start = next((start for start in starts if all(map(_part_matches, run, parts[start : start + len(run)]))), None)
        if start is None:
            return False
        at = start + len(run)
    return True


def _part_matches(pattern: str, part: str) -> bool:
    if "*" not in pattern and "?" not in pattern and "{" not in pattern:
        return pattern == part
    try:
        return _compiled(pattern).fullmatch(part, timeout=java_regex.SECONDS) is not None
    except TimeoutError as error:
        raise InvalidPattern(f"{pattern!r} took longer than {java_regex.SECONDS:g} seconds") from error


@functools.lru_cache(maxsize=4096)
def _compiled(part: str) -> "regex.Pattern[str]":
    if "{" not in part:
        return regex.compile(_glob(part), regex.DOTALL)
    source, end = "(?s)", 0
    for match in _WILDCARD.finditer(part):
        source += java_regex.quote(part[end : match.start()]) + _wildcard(match)
        end = match.end()
    try:
        return java_regex.compile(source + java_regex.quote(part[end:]))
    except java_regex.InvalidRegex as error:
        raise InvalidPattern(f"{part!r} is not a pattern: {error}") from error


def _glob(part: str) -> str:
    """Return a regular expression without backtracking into earlier `*`, which keeps it fast."""
    first, *rest = ("".join("." if character == "?" else regex.escape(character) for character in text)
                    for text in part.split("*"))  # fmt: skip
    if not rest:
        return first
    return first + "".join(f"(?>.*?{text})" for text in rest[:-1] if text) + ".*" + rest[-1]


def _wildcard(match: "regex.Match[str]") -> str:
    if match[0] in "?*":
        return "." if match[0] == "?" else ".*"
    _, colon, expression = match[1].partition(":")
    return f"(?:{expression})" if colon else ".*"
