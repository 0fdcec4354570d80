"""Path patterns as Application Accelerator reads them: Ant's, the way Spring matches them.

A pattern is anchored at both ends and compared part by part (parts lie between slashes). The part
`**` stands for any number of parts; within a part `*` is any text, `?` one character, `{name}` any
text and `{name:regex}` what the regular expression matches. Case counts.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence

import regex

from accelerator_engine import java_regex

_ANY_PARTS = "**"
_WILDCARD = regex.compile(r"\?|\*|\{((?:\{[^/]+?\}|[^/{}]|\\[{}])+?)\}")


class InvalidPattern(ValueError):
    """A pattern that cannot be read; the text is one sentence."""


def matches(pattern: str, path: str) -> bool:
    """Return whether the whole path matches the pattern. Raises InvalidPattern."""
    if pattern.startswith("/") != path.startswith("/"):
        return False
    wanted, parts = _split(pattern), _split(path)
    if _ANY_PARTS in wanted:
        return _match(wanted, parts)
    if not all(map(_part_matches, wanted, parts)):
        return False
    if len(wanted) == len(parts):
        # `x/` is another path than `x`, but only where the pattern says how many parts there are.
        return pattern.endswith("/") == path.endswith("/")
    # In `a/` a last `*` finds the empty name after the slash.
    return len(wanted) == len(parts) + 1 and wanted[-1] == "*" and path.endswith("/")


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Return whether the path matches at least one pattern. Raises InvalidPattern."""
    return any(matches(pattern, path) for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _match(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Match a pattern with `**`: first what lies before and after all of them, then what is between."""
    head = wanted.index(_ANY_PARTS)
    tail = wanted[::-1].index(_ANY_PARTS)
    if head + tail > len(parts):
        return False
    if not all(map(_part_matches, wanted[:head], parts)):
        return False
    if tail and not all(map(_part_matches, wanted[-tail:], parts[-tail:])):
        return False
    return _match_between(wanted[head : len(wanted) - tail], parts[head : len(parts) - tail])


def _match_between(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Match what begins and ends with `**`: each run of parts in between takes the first place it finds."""
    at = 0
    for any_parts, group in itertools.groupby(wanted, _ANY_PARTS.__eq__):
        if any_parts:
            continue
        run = tuple(group)
        starts = range(at, len(parts) - len(run) + 1)
        found = next((start for start in starts if all(map(_part_matches, run, parts[start : start + len(run)]))), None)
        if found is None:
            return False
        at = found + len(run)
    return True


def _part_matches(wanted: str, part: str) -> bool:
    if "*" not in wanted and "?" not in wanted and "{" not in wanted:
        return wanted == part
    try:
        return _compiled(wanted).fullmatch(part, timeout=java_regex.SECONDS) is not None
    except TimeoutError as error:
        raise InvalidPattern(f"{wanted!r} took longer than {java_regex.SECONDS:g} seconds") from error


@functools.lru_cache(maxsize=4096)
def _compiled(part: str) -> "regex.Pattern[str]":
    if "{" not in part:
        return regex.compile(_glob(part), regex.DOTALL)
    source, end = "(?s)", 0
    for found in _WILDCARD.finditer(part):
        source += java_regex.quote(part[end : found.start()]) + _wildcard(found)
        end = found.end()
    try:
        return java_regex.compile(source + java_regex.quote(part[end:]))
    except java_regex.InvalidRegex as error:
        raise InvalidPattern(f"{part!r} is not a pattern: {error}") from error


def _glob(part: str) -> str:
    """Return a regular expression that need not go back into an earlier `*`: many of them stay quick."""
    first, *rest = ("".join("." if character == "?" else regex.escape(character) for character in text)
                    for text in part.split("*"))  # fmt: skip
    if not rest:
        return first
    return first + "".join(f"(?>.*?{text})" for text in rest[:-1] if text) + ".*" + rest[-1]


def _wildcard(found: "regex.Match[str]") -> str:
    if found[0] in "?*":
        return "." if found[0] == "?" else ".*"
    _, colon, expression = found[1].partition(":")
    return f"(?:{expression})" if colon else ".*"
