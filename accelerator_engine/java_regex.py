"""Regular expressions and replacement strings of `java.util.regex`, run by the `regex` package.

Both speak nearly the same language. What differs is rewritten here: where a line ends, which
characters the short classes hold, quoting, escapes and the spelling of a few constructs.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import regex

# A pattern that backtracks without end is the manifest's mistake, and must not hang a server.
SECONDS = 5.0

_T = TypeVar("_T")

_LINE_END = r"[\n\r\x85\u2028\u2029]"
_ESCAPES = {
    "h": r"[\x20\t\xA0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000]",
    "H": r"[^\x20\t\xA0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000]",
    "v": r"[\n\x0B\f\r\x85\u2028\u2029]",
    "V": r"[^\n\x0B\f\r\x85\u2028\u2029]",
    "R": r"(?:\r\n|[\n\x0B\f\r\x85\u2028\u2029])",
    "Z": rf"(?:(?=\r\n\Z)|(?<!\r)(?=\n\Z)|(?=[\r\x85\u2028\u2029]\Z)|\Z)",
    "z": r"\Z",
    "e": r"\x1b",
    "a": r"\x07",
}
_DOLLAR = _ESCAPES["Z"]
_DOLLAR_MULTILINE = rf"(?:(?=\r\n)|(?<!\r)(?=\n)|(?=[\r\x85\u2028\u2029])|\Z)"
_CARET_MULTILINE = rf"(?:\A|(?:(?<=[\n\x85\u2028\u2029])|(?<=\r)(?!\n))(?!\Z))"
_POSIX = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": r"\x00-\x7F",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": r"\x20-~",
    "Blank": r"\x20\t",
    "Cntrl": r"\x00-\x1F\x7F",
    "XDigit": "0-9a-fA-F",
    "Space": r"\x20\t\n\x0B\f\r",
}
_JAVA_CLASSES = {"javaLowerCase": "Ll", "javaUpperCase": "Lu", "javaLetter": "L", "javaDigit": "Nd"}


class InvalidRegex(ValueError):
    """A pattern or replacement that Java would refuse as well; the text is one sentence."""


class _Translator:
    """Rewrites one pattern, character by character."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        # Flags hold until their group ends.
        self._flags: list[frozenset[str]] = [frozenset()]

    def translate(self) -> str:
        out = ""
        while self._at < len(self._pattern):
            out += self._next()
        return out

    def _take(self, length: int = 1) -> str:
        taken = self._pattern[self._at : self._at + length]
        self._at += length
        return taken

    def _peek(self, text: str) -> bool:
        return self._pattern.startswith(text, self._at)

    def _next(self) -> str:
        character = self._take()
        simple: dict[str, Callable[[], str]] = {
            "\\": self._escape,
            "[": self._class,
            "(": self._group,
            ")": self._end_of_group,
            ".": self._dot,
            "^": lambda: _CARET_MULTILINE if "m" in self._flags[-1] else r"\A",
            "$": lambda: _DOLLAR_MULTILINE if "m" in self._flags[-1] else _DOLLAR,
        }
        return simple[character]() if character in simple else character

    def _dot(self) -> str:
        return r"[\s\S]" if "s" in self._flags[-1] else rf"[^{_LINE_END[1:]}"

    def _end_of_group(self) -> str:
        if len(self._flags) > 1:
            self._flags.pop()
        return ")"

    def _group(self) -> str:
        flags = regex.compile(r"\?([idmsuxU]*)(?:-([idmsuxU]*))?([:)])").match(self._pattern, self._at)
        if flags is None:
            self._flags.append(self._flags[-1])
            return "("
        self._take(len(flags[0]))
        now = (self._flags[-1] | set(flags[1])) - set(flags[2] or "")
        if flags[3] == ":":
            self._flags.append(now)
        else:
            self._flags[-1] = now
        # Line ends and dots are rewritten here; only these two are left to the package.
        on = "".join(flag for flag in flags[1] if flag in "ix")
        off = "".join(flag for flag in flags[2] or "" if flag in "ix")
        if not on and not off:
            return "(?:" if flags[3] == ":" else ""
        return f"(?{on}{f'-{off}' if off else ''}{flags[3]}"

    def _escape(self) -> str:
        character = self._take()
        if character == "Q":
            return regex.escape(self._quoted())
        if character == "k" and self._peek("<"):
            self._take()
            return f"(?P={self._until('>')})"
        if character in "pP":
            return f"[{self._property(character)}]"
        if character in "0cxu":
            return self._code(character)
        if not character:
            raise InvalidRegex("a pattern ends with a backslash")
        return _ESCAPES.get(character, "\\" + character)

    def _quoted(self) -> str:
        end = self._pattern.find("\\E", self._at)
        if end < 0:
            return self._take(len(self._pattern))
        text = self._take(end - self._at)
        self._take(2)
        return text

    def _until(self, end: str) -> str:
        at = self._pattern.find(end, self._at)
        if at < 0:
            raise InvalidRegex(f"{end!r} is missing after position {self._at}")
        text = self._take(at - self._at)
        self._take()
        return text

    def _property(self, letter: str) -> str:
        name = self._take()
        if name == "{":
            name = self._until("}")
        if name in _POSIX:
            members = _POSIX[name]
            return members if letter == "p" else f"[^{members}]"
        name = _JAVA_CLASSES.get(name, name.removeprefix("Is"))
        return f"\\{letter}{{{name}}}"

    def _code(self, kind: str) -> str:
        forms = {"0": r"([0-3]?[0-7]{1,2})", "c": r"(.)", "x": r"\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{2})", "u": r"([0-9a-fA-F]{4})"}
        found = regex.compile(forms[kind]).match(self._pattern, self._at)
        if found is None:
            raise InvalidRegex(f"an escape \\{kind} is not complete at position {self._at}")
        self._take(len(found[0]))
        digits = found[1] if found[1] is not None else found[2]
        number = ord(digits) ^ 64 if kind == "c" else int(digits, 8 if kind == "0" else 16)
        if number > 0x10FFFF:
            raise InvalidRegex(f"\\x{{{digits}}} is no character")
        return regex.escape(chr(number))

    def _class(self) -> str:
        """Rewrite a class, which may hold others: `[a-z&&[^b]]`."""
        out = "["
        if self._peek("^"):
            out += self._take()
        if self._peek("]"):
            out += "\\" + self._take()
        while self._at < len(self._pattern):
            character = self._take()
            if character == "]":
                return out + "]"
            out += self._member(character)
        raise InvalidRegex("a character class is not closed")

    def _member(self, character: str) -> str:
        if character == "[":
            return self._class()
        if character == "\\":
            if self._peek("p") or self._peek("P"):
                return self._property(self._take())
            escaped = self._escape()
            return escaped
        # These are operators between sets to the package, and plain characters to Java.
        if character in "-~|" and self._peek(character):
            return "\\" + character
        return character


@functools.lru_cache(maxsize=1024)
def compile(pattern: str) -> "regex.Pattern[str]":  # noqa: A001, as in every regex library
    """Return the compiled pattern. Raises InvalidRegex."""
    try:
        return regex.compile(_Translator(pattern).translate(), regex.V1 | regex.ASCII)
    except (regex.error, OverflowError, RecursionError) as error:
        raise InvalidRegex(f"{_short(pattern)} is not a regular expression: {error}") from error


def search(pattern: str, text: str) -> bool:
    """Return whether the pattern is found anywhere in the text. Raises InvalidRegex."""
    return _limited(pattern, lambda: compile(pattern).search(text, timeout=SECONDS)) is not None


def full_match(pattern: str, text: str) -> "regex.Match[str] | None":
    """Return the match of the whole text, None when there is none. Raises InvalidRegex."""
    return _limited(pattern, lambda: compile(pattern).fullmatch(text, timeout=SECONDS))


def replace_all(pattern: str, replacement: str, text: str, *, only_first: bool = False) -> str:
    """Return the text with each match replaced as Java's `Matcher.replaceAll` does.

    In the replacement `$1` and `${name}` stand for groups, and a backslash takes the next character
    literally. Raises InvalidRegex.
    """
    compiled = compile(pattern)
    parts = _parts(replacement, compiled)

    def replaced(found: "regex.Match[str]") -> str:
        return "".join(part if isinstance(part, str) else found[part[0]] or "" for part in parts)

    count = 1 if only_first else 0
    # A replacement is judged only when something is replaced.
    return _limited(pattern, lambda: compiled.sub(replaced, text, count=count, timeout=SECONDS))


def _limited(pattern: str, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except TimeoutError as error:
        raise InvalidRegex(f"{_short(pattern)} took longer than {SECONDS:g} seconds") from error


def _parts(replacement: str, compiled: "regex.Pattern[str]") -> list[str | tuple[int | str]]:
    """Return literal texts and, in one-element tuples, groups."""
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
        raise InvalidRegex("a $ that names no group (write \\$ for the character)")
    # As many digits as name a group: $12 is group 1 and a 2 where there are fewer than 12.
    number, end = int(digits[0][0]), at + 1
    if number > compiled.groups:
        raise InvalidRegex(f"there is no group {number}")
    while end < digits.end() and number * 10 + int(replacement[end]) <= compiled.groups:
        number, end = number * 10 + int(replacement[end]), end + 1
    return number, end


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else f"{pattern[:60]}…")
