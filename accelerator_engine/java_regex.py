"""Regular expressions and replacement strings of `java.util.regex`, run by the `regex` package."""

import functools
import time

import regex

from accelerator_engine.java_regex_translation import LONGEST_PATTERN, InvalidRegex, translate

__all__ = ["SECONDS", "InvalidRegex", "compile", "full_match", "quote", "replace_all", "search", "split"]

# A pattern that backtracks without end must not hang a server.
SECONDS = 5.0
# The most characters that a replacement may make.
_LONGEST_RESULT = 10_000_000


@functools.lru_cache(maxsize=256)
def compile(pattern: str) -> "regex.Pattern[str]":  # noqa: A001, as in every regex library
    """Return the compiled pattern. Raises InvalidRegex."""
    if len(pattern) > LONGEST_PATTERN:
        raise InvalidRegex(f"{_short(pattern)} is longer than {LONGEST_PATTERN} characters")
    try:
        return regex.compile(translate(pattern), regex.V1)
    except (InvalidRegex, regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise InvalidRegex(f"{_short(pattern)} is not a regular expression: {error}") from error


def quote(text: str) -> str:
    """Return a pattern that matches exactly this text."""
    return "\\Q" + text.replace("\\E", "\\E\\\\E\\Q") + "\\E" if text else ""


def search(pattern: str, text: str) -> bool:
    """Return whether the pattern matches anywhere in the text. Raises InvalidRegex."""
    return _Search(pattern, text).next() is not None


def full_match(pattern: str, text: str) -> "regex.Match[str] | None":
    """Return the match of the whole text, or None. Raises InvalidRegex."""
    try:
        return compile(pattern).fullmatch(text, timeout=SECONDS)
    except (TimeoutError, MemoryError) as error:
        raise _too_slow(pattern) from error


class _Search:
    """Iterates over the matches in a text, as Java's `Matcher.find` does."""

    def __init__(self, pattern: str, text: str) -> None:
        self._pattern = pattern
        self._compiled = compile(pattern)
        self._text = text
        self._at = 0
        self._deadline = time.monotonic() + SECONDS

    def next(self) -> "regex.Match[str] | None":
        """Return the next match, or None. Raises InvalidRegex when all searches together take too long."""
        seconds_left = self._deadline - time.monotonic()
        if self._at > len(self._text):
            return None
        try:
            if seconds_left <= 0:
                raise TimeoutError
            match = self._compiled.search(self._text, self._at, timeout=seconds_left)
        except (TimeoutError, MemoryError) as error:
            raise _too_slow(self._pattern) from error
        if match is not None:
            # After an empty match Java continues at the next character; the package does not move.
            self._at = match.end() + (match.start() == match.end())
        return match


def _too_slow(pattern: str) -> InvalidRegex:
    return InvalidRegex(f"{_short(pattern)} took longer than {SECONDS:g} seconds")


def replace_all(pattern: str, replacement: str, text: str, *, only_first: bool = False) -> str:
    """Return the text with each match replaced as Java's `Matcher.replaceAll` does.

    In the replacement `$1` and `${name}` insert groups; a backslash makes the next character literal.
    Raises InvalidRegex.
    """
    matches = _Search(pattern, text)
    parts: list[str | tuple[int | str]] | None = None
    out: list[str] = []
    length = at = 0
    while (match := matches.next()) is not None:
        # Java checks the replacement only when there is a match.
        parts = _parts(replacement, match.re) if parts is None else parts
        new = "".join(part if isinstance(part, str) else match[part[0]] or "" for part in parts)
        out += [text[at : match.start()], new]
        at = match.end()
        length += len(new)
        if length > _LONGEST_RESULT:
            raise InvalidRegex(f"replacing {_short(pattern)} makes more than {_LONGEST_RESULT} characters")
        if only_first:
            break
    return "".join(out) + text[at:]


def split(pattern: str, text: str, limit: int = 0) -> list[str]:
    """Split a text as Java does.

    There is no empty text before an empty match, and with limit 0 none at the end. Raises InvalidRegex.
    """
    matches = _Search(pattern, text)
    parts: list[str] = []
    at = 0
    while (limit <= 0 or len(parts) < limit - 1) and (match := matches.next()) is not None:
        if match.end() == 0 or match.start() == match.end() == len(text):
            continue
        parts.append(text[at : match.start()])
        at = match.end()
    # Without a match the whole text is a part, even an empty one.
    parts.append(text[at:])
    while limit == 0 and at and parts and not parts[-1]:
        parts.pop()
    return parts


def _parts(replacement: str, compiled: "regex.Pattern[str]") -> list[str | tuple[int | str]]:
    """Return the literal texts of a replacement and, as one-element tuples, its groups."""
    parts: list[str | tuple[int | str]] = []
    at = 0
    while at < len(replacement):
        character = replacement[at]
        if character == "\\":
            if at + 1 == len(replacement):
                raise InvalidRegex("a replacement ends with a backslash")
            parts.append(replacement[at + 1])
            at += 2
        elif character == "$":
            group, at = _reference(replacement, at + 1, compiled)
            parts.append((group,))
        else:
            parts.append(character)
            at += 1
    return parts


def _reference(replacement: str, at: int, compiled: "regex.Pattern[str]") -> tuple[int | str, int]:
    named = regex.compile(r"\{([A-Za-z][A-Za-z0-9]*)\}").match(replacement, at)
    if named is not None:
        if named[1] not in compiled.groupindex:
            raise InvalidRegex(f"there is no group {{{named[1]}}}")
        return named[1], named.end()
    digits = regex.compile(r"[0-9]+").match(replacement, at)
    if digits is None:
        raise InvalidRegex("a $ names no group; write \\$ for the character")
    # Java takes only as many digits as number a group: with fewer than 12 groups, $12 is group 1 and a 2.
    number, end = int(digits[0][0]), at + 1
    if number > compiled.groups:
        raise InvalidRegex(f"there is no group {number}")
    while end < digits.end() and number * 10 + int(replacement[end]) <= compiled.groups:
        number, end = number * 10 + int(replacement[end]), end + 1
    return number, end


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else f"{pattern[:60]}…")
