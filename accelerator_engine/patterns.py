"""Path patterns as Application Accelerator reads them: Ant's, the way Spring matches them.

A pattern is anchored at both ends and compared part by part (parts lie between slashes). The part
`**` stands for any number of parts; within a part `*` is any text, `?` one character, `{name}` any
text and `{name:regex}` what the regular expression matches. Case counts.
"""

import functools
from collections.abc import Iterable

import regex

_WILDCARD = regex.compile(r"\?|\*|\{((?:\{[^/]+?\}|[^/{}]|\\[{}])+?)\}")


class InvalidPattern(ValueError):
    """A pattern that cannot be read; the text is one sentence."""


def matches(pattern: str, path: str) -> bool:
    """Return whether the whole path matches the pattern. Raises InvalidPattern."""
    if pattern.startswith("/") != path.startswith("/"):
        return False
    parts = [part for part in path.split("/") if part]
    if not _match(_parts(pattern), parts):
        return False
    # `x/` is another path than `x`; only `**` at the end takes both.
    return pattern.endswith("/") == path.endswith("/") or pattern.split("/")[-1] == "**"


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Return whether the path matches at least one pattern. Raises InvalidPattern."""
    return any(matches(pattern, path) for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple["regex.Pattern[str] | None", ...]:
    """Return a regular expression for each part; None stands for `**`."""
    return tuple(None if part == "**" else _part(part) for part in pattern.split("/") if part)


def _part(part: str) -> "regex.Pattern[str]":
    source, end = "", 0
    for found in _WILDCARD.finditer(part):
        source += regex.escape(part[end : found.start()]) + _wildcard(found)
        end = found.end()
    try:
        return regex.compile(source + regex.escape(part[end:]), regex.DOTALL)
    except regex.error as error:
        raise InvalidPattern(f"{part!r} is not a pattern: {error}") from error


def _wildcard(found: "regex.Match[str]") -> str:
    if found[0] in "?*":
        return "." if found[0] == "?" else ".*"
    _, colon, expression = found[1].partition(":")
    return f"(?:{expression})" if colon else ".*"


def _match(pattern: tuple["regex.Pattern[str] | None", ...], parts: list[str]) -> bool:
    """Match part by part; a row of the table says from which parts on the pattern may go on."""
    reached = {0}
    for part in pattern:
        if part is None:
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and part.fullmatch(parts[at])}
        if not reached:
            return False
    return len(parts) in reached
