"""Regular expressions and replacement strings of `java.util.regex`, run by the `regex` package.

Both speak nearly the same language. A pattern is read as Java reads it, and written anew in the words
of the package: where a line ends, which characters a class holds, what case-insensitive means, quoting
and escapes differ. What Java does not know is refused, although the package may know it.
"""

import functools
import time
import unicodedata
from collections.abc import Callable

import regex

# A pattern that backtracks without end is the manifest's mistake, and must not hang a server.
SECONDS = 5.0
# Longer patterns are refused: only a hostile expression makes them.
_LONGEST_PATTERN = 20_000
# Texts that a replacement makes are no longer than this.
_LONGEST_RESULT = 10_000_000

_SPACES = r"\x20\t\xA0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000"
_LINE_ENDS = r"\n\x0B\f\r\x85\u2028\u2029"
_WORD_UNICODE = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d"
# The members of the classes with a letter of their own; those after the dash hold with the flag U.
_CLASSES = {"d": "0-9", "w": "a-zA-Z0-9_", "s": r"\x20\t\n\x0B\f\r", "h": _SPACES, "v": _LINE_ENDS}
_CLASSES_UNICODE = {**_CLASSES, "d": r"\p{Nd}", "w": _WORD_UNICODE, "s": r"\p{White_Space}"}
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
_POSIX_UNICODE = {
    **_POSIX,
    "Lower": r"\p{Lowercase}",
    "Upper": r"\p{Uppercase}",
    "Alpha": r"\p{Alphabetic}",
    "Digit": r"\p{Nd}",
    "Alnum": r"\p{Alphabetic}\p{Nd}",
    "Punct": r"\p{P}",
    "Space": r"\p{White_Space}",
}
_JAVA_CLASSES = {
    "L1": r"\x00-\xFF",
    "LC": r"\p{Lu}\p{Ll}\p{Lt}",
    "LD": r"\p{L}\p{Nd}",
    "all": r"\x00-\U0010FFFF",
    "javaLowerCase": r"\p{Lowercase}",
    "javaUpperCase": r"\p{Uppercase}",
    "javaLetter": r"\p{L}",
    "javaDigit": r"\p{Nd}",
    "javaLetterOrDigit": r"\p{L}\p{Nd}",
    "javaAlphabetic": r"\p{Alphabetic}",
    "javaWhitespace": r"\t-\r\x1C-\x20\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000",
}
_CATEGORY = regex.compile("C[cfosn]?|L[ulmto]?|M[nec]?|N[dlo]?|P[dsecoif]?|S[mcko]?|Z[slp]?")
_PROPERTIES = {
    name.upper(): name
    for name in ("Alphabetic", "Ideographic", "Lowercase", "Uppercase", "White_Space", "Hex_Digit", "Join_Control",
                 "Noncharacter_Code_Point")
} | {"LETTER": "L", "TITLECASE": "Lt", "CONTROL": "Cc", "PUNCTUATION": "P", "DIGIT": "Nd"}  # fmt: skip
# With the flag i a class of capitals holds the small letters too.
_CASED = {"Lu", "Ll", "Lt", "IsLu", "IsLl", "IsLt", "javaLowerCase", "javaUpperCase", "IsLowercase", "IsUppercase"}

_WORD = r"[\p{L}\p{Nd}\p{Mn}_]"
_END = r"(?:(?=\r\n\Z)|(?<!\r)(?=\n\Z)|(?=[\r\x85\u2028\u2029]\Z)|\Z)"
_END_UNIX = r"(?:(?=\n\Z)|\Z)"
_BOUNDARIES = {
    "A": r"(?:\A)",
    "b": rf"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))",
    "B": rf"(?:(?<={_WORD})(?={_WORD})|(?<!{_WORD})(?!{_WORD}))",
    "G": r"(?:\G)",
    "R": rf"(?:\r\n|[{_LINE_ENDS}])",
    "X": r"(?:\X)",
    "z": r"(?:\Z)",
}
_CONTROLS = {"a": "\a", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_GROUPS = ("?:", "?=", "?!", "?<=", "?<!", "?>")
_FLAGS = regex.compile(r"\?([idmsuxU]*)(?:-([idmsuxU]*))?([:)])")
_GROUP_NAME = regex.compile(r"\?<([A-Za-z][A-Za-z0-9]*)>")
_REPEAT = regex.compile(r"([0-9]{1,10})(,?)([0-9]{0,10})\}")
_CODES = {
    "0": regex.compile(r"([0-3]?[0-7]{1,2})"),
    "c": regex.compile(r"(.)", regex.DOTALL),
    "x": regex.compile(r"\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{2})"),
    "u": regex.compile(r"([dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|([0-9a-fA-F]{4})"),
    "N": regex.compile(r"\{([^}]+)\}"),
}
_LARGEST_INT = 2**31 - 1


class InvalidRegex(ValueError):
    """A pattern or replacement that Java would refuse as well; the text is one sentence."""


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if character.isascii() and not character.isalnum() else character


def _swapped(first: str, last: str) -> str:
    """Return the other case of the ASCII letters in a range, as members of a class."""
    found = ""
    for low, high, distance in (("a", "z", -32), ("A", "Z", 32)):
        begin, end = max(first, low), min(last, high)
        if begin <= end:
            found += f"{chr(ord(begin) + distance)}-{chr(ord(end) + distance)}"
    return found


class _Translator:
    """Rewrites one pattern, character by character."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        # Flags hold until their group ends.
        self._flags: list[frozenset[str]] = [frozenset()]
        self._names: set[str] = set()
        self._groups = 0
        # How much each open group holds, its repetitions counted, and how much what was read last holds.
        self._sizes = [0]
        self._last = 0
        # Whether what was read last can be repeated.
        self._repeatable = False
        self._handlers: dict[str, Callable[[], str]] = {
            "\\": self._escape,
            "[": lambda: self._caseless(self._class()),
            "(": self._group,
            ")": self._end_of_group,
            ".": self._dot,
            "^": self._caret,
            "$": lambda: self._end(multiline=self._has("m")),
        }

    def translate(self) -> str:
        out = []
        while self._at < len(self._pattern):
            out.append(self._next())
        if len(self._flags) > 1:
            raise InvalidRegex("a group is not closed")
        return "".join(out)

    def _has(self, flag: str) -> bool:
        return flag in self._flags[-1]

    def _take(self, length: int = 1) -> str:
        taken = self._pattern[self._at : self._at + length]
        self._at += length
        return taken

    def _peek(self, text: str) -> bool:
        return self._pattern.startswith(text, self._at)

    def _next(self) -> str:
        if self._ignored():
            return ""
        character = self._take()
        if character in "*+?{":
            return self._quantifier(character)
        if character == "|":
            self._repeatable = False
            return "|"
        self._repeatable = True
        self._last = 1
        source = self._handlers[character]() if character in self._handlers else self._literal(character)
        self._sizes[-1] += self._last
        return source

    def _ignored(self) -> bool:
        """Skip white space and a comment where the flag x allows them."""
        if not self._has("x"):
            return False
        skipped = regex.compile(r"(?:[\x20\t\n\x0B\f\r]|#[^\n\r\x85\u2028\u2029]*)+").match(self._pattern, self._at)
        self._at = skipped.end() if skipped else self._at
        return skipped is not None

    def _literal(self, text: str) -> str:
        # Only the last character is what a repetition repeats.
        self._sizes[-1] += max(len(text) - 1, 0)
        return "".join(self._caseless(self._member(character), character) for character in text)

    def _caseless(self, source: str, plain: str = "") -> str:
        """Return the source of a class, or of the plain character, under the flags i and u."""
        if self._unicode_caseless():
            return f"(?i-f:{source})"
        return f"[{source}]" if plain and len(source) > len(_escaped(plain)) else source

    def _unicode_caseless(self) -> bool:
        return self._has("i") and (self._has("u") or self._has("U"))

    def _member(self, first: str, last: str = "") -> str:
        """Return a character, or those from the first to the last, as members of a class."""
        shown = f"{_escaped(first)}-{_escaped(last)}" if last else _escaped(first)
        only_ascii = self._has("i") and not self._unicode_caseless()
        return shown + _swapped(first, last or first) if only_ascii else shown

    def _dot(self) -> str:
        if self._has("s"):
            return r"[\s\S]"
        return r"[^\n]" if self._has("d") else r"[^\n\r\x85\u2028\u2029]"

    def _caret(self) -> str:
        if not self._has("m"):
            return r"(?:\A)"
        after = r"(?<=\n)" if self._has("d") else r"(?<=[\n\x85\u2028\u2029])|(?<=\r)(?!\n)"
        return rf"(?:(?:\A|{after})(?!\Z))"

    def _end(self, *, multiline: bool) -> str:
        if not multiline:
            return _END_UNIX if self._has("d") else _END
        return r"(?:(?=\n)|\Z)" if self._has("d") else r"(?:(?=\r\n)|(?<!\r)(?=\n)|(?=[\r\x85\u2028\u2029])|\Z)"

    def _quantifier(self, character: str) -> str:
        if not self._repeatable:
            raise InvalidRegex(f"there is nothing before {character!r} to repeat, at position {self._at}")
        self._repeatable = False
        repeat = self._counted() if character == "{" else character
        return repeat + (self._take() if self._peek("?") or self._peek("+") else "")

    def _counted(self) -> str:
        found = _REPEAT.match(self._pattern, self._at)
        if found is None or (found[3] and not found[2]):
            raise InvalidRegex(f"a repetition {{n}}, {{n,}} or {{n,m}} is not complete at position {self._at}")
        self._take(len(found[0]))
        least, most = int(found[1]), int(found[3] or found[1])
        if not least <= most <= _LARGEST_INT:
            raise InvalidRegex(f"{{{found[0]} is not a range of repetitions")
        # The package writes out what must be there, as often as it must be there.
        self._sizes[-1] += self._last * max(least - 1, 0)
        if self._sizes[-1] > _LONGEST_PATTERN:
            raise InvalidRegex(f"a pattern repeats more than {_LONGEST_PATTERN} times what must be there")
        return f"{{{least}}}" if not found[2] else f"{{{least},{found[3]}}}"

    # Groups

    def _group(self) -> str:
        self._repeatable = False
        self._last = 0
        flags = _FLAGS.match(self._pattern, self._at)
        if flags is not None and flags[0] != "?:":
            return self._new_flags(flags)
        self._open(self._flags[-1])
        for kind in _GROUPS:
            if self._peek(kind):
                return "(" + self._take(len(kind))
        self._groups += 1
        if not self._peek("?"):
            return "("
        name = _GROUP_NAME.match(self._pattern, self._at)
        if name is None or name[1] in self._names:
            raise InvalidRegex(f"a group cannot begin as it does at position {self._at}")
        self._names.add(name[1])
        self._take(len(name[0]))
        return f"(?P<{name[1]}>"

    def _new_flags(self, found: "regex.Match[str]") -> str:
        self._take(len(found[0]))
        now = (self._flags[-1] | set(found[1])) - set(found[2] or "")
        if found[3] == ":":
            self._open(now)
            return "(?:"
        self._flags[-1] = now
        return ""

    def _end_of_group(self) -> str:
        if len(self._flags) == 1:
            raise InvalidRegex("a group is closed that was not opened")
        self._flags.pop()
        self._last = max(self._sizes.pop(), 1)
        return ")"

    def _open(self, flags: frozenset[str]) -> None:
        self._flags.append(flags)
        self._sizes.append(0)

    # Escapes

    def _escape(self) -> str:
        character = self._take()
        if character == "Q":
            return self._literal(self._quoted())
        if character == "k":
            return self._named_reference()
        if character in "123456789" and character:
            return self._reference(character)
        if character == "Z":
            return self._end(multiline=False)
        if character in _BOUNDARIES and not self._peek("{"):
            return _BOUNDARIES[character]
        members = self._set(character)
        return self._caseless(members) if members else self._literal(self._character(character))

    def _quoted(self) -> str:
        end = self._pattern.find("\\E", self._at)
        if end < 0:
            return self._take(len(self._pattern))
        text = self._take(end - self._at)
        self._take(2)
        self._repeatable = bool(text) or self._repeatable
        return text

    def _named_reference(self) -> str:
        name = regex.compile(r"<([A-Za-z][A-Za-z0-9]*)>").match(self._pattern, self._at)
        if name is None or name[1] not in self._names:
            raise InvalidRegex(f"\\k names no group at position {self._at}")
        self._take(len(name[0]))
        return self._again(f"(?P={name[1]})")

    def _reference(self, digits: str) -> str:
        # As many digits as name a group that has begun: \11 is group 1 and a 1 where there are fewer.
        while (
            self._pattern[self._at : self._at + 1].isdecimal() and int(digits + self._pattern[self._at]) <= self._groups
        ):
            digits += self._take()
        return self._again(f"\\{digits}") if int(digits) <= self._groups else "(?!)"

    def _again(self, reference: str) -> str:
        # A scope of its own also keeps digits that follow out of the number.
        return f"(?i-f:{reference})" if self._has("i") else f"(?:{reference})"

    def _set(self, letter: str) -> str:
        """Return the class that an escape with this letter stands for, empty when it is none."""
        if letter in ("p", "P"):
            members = self._property()
        else:
            known = _CLASSES_UNICODE if self._has("U") else _CLASSES
            members = known.get(letter.lower(), "")
        return f"[{'^' if letter.isupper() else ''}{members}]" if members else ""

    def _property(self) -> str:
        name = self._take()
        if name == "{":
            end = self._pattern.find("}", self._at)
            name = self._take(max(end - self._at, 0))
            self._take()
        posix = _POSIX_UNICODE if self._has("U") else _POSIX
        if self._has("i") and name in _CASED:
            return _JAVA_CLASSES["LC"]
        if self._has("i") and name in ("Lower", "Upper"):
            return posix["Lower"] + posix["Upper"]
        return posix.get(name) or _JAVA_CLASSES.get(name) or self._unicode_property(name)

    def _unicode_property(self, name: str) -> str:
        key, equals, value = name.partition("=")
        if equals and key.lower() in ("sc", "script", "blk", "block", "gc", "general_category"):
            return f"\\p{{{key}={value}}}"
        if _CATEGORY.fullmatch(name.removeprefix("Is")):
            return f"\\p{{{name.removeprefix('Is')}}}"
        if name.startswith("In"):
            return f"\\p{{Block={name[2:]}}}"
        if name.startswith("Is"):
            return f"\\p{{{_PROPERTIES.get(name[2:].upper(), f'Script={name[2:]}')}}}"
        raise InvalidRegex(f"there is no property {name!r}")

    def _character(self, letter: str) -> str:
        """Return the character that an escape stands for."""
        if letter in _CODES:
            return self._code(letter)
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if not letter or (letter.isascii() and letter.isalnum()):
            raise InvalidRegex(f"there is no escape \\{letter}")
        return letter

    def _code(self, kind: str) -> str:
        found = _CODES[kind].match(self._pattern, self._at)
        if found is None:
            raise InvalidRegex(f"an escape \\{kind} is not complete at position {self._at}")
        self._take(len(found[0]))
        digits = found[1] if found[1] is not None else found[2]
        if kind == "c":
            return chr(ord(digits) ^ 64)
        try:
            if kind == "N":
                return unicodedata.lookup(digits)
            if kind == "u" and len(digits) > 4:
                return bytes.fromhex(digits.replace("\\u", "")).decode("utf-16-be")
            return chr(int(digits, 8 if kind == "0" else 16))
        except (KeyError, ValueError, OverflowError) as error:
            raise InvalidRegex(f"\\{kind}{{{digits}}} is no character") from error

    # Classes

    def _class(self) -> str:
        """Rewrite a class, which may hold others: `[a-z&&[^b]]`."""
        negated = self._take() if self._peek("^") else ""
        sets: list[str] = []
        members: list[str] = []
        while self._at < len(self._pattern):
            if self._ignored():
                continue
            character = self._take()
            if character == "]" and (members or sets):
                # A set that `&&` leaves empty does not count.
                sets += [f"[{''.join(members)}]"] if members else []
                return f"[{negated}{'&&'.join(sets)}]"
            if character == "&" and self._peek("&"):
                self._take()
                sets += [f"[{''.join(members)}]"] if members else []
                members = []
            else:
                members.append(self._members(character))
        raise InvalidRegex("a character class is not closed")

    def _members(self, character: str) -> str:
        """Return one character, range or class within a class."""
        if character == "[":
            return self._class()
        if character == "\\":
            if self._peek("Q"):
                self._take()
                return "".join(map(self._member, self._quoted()))
            letter = self._take()
            members = self._set(letter)
            if members:
                return members
            character = self._character(letter)
        return self._range(character)

    def _range(self, first: str) -> str:
        following = self._pattern[self._at : self._at + 2]
        if following[:1] != "-" or following in ("-]", "-["):
            return self._member(first)
        self._take()
        last = self._take()
        if last == "\\":
            last = self._character(self._take())
        if not first <= last:
            raise InvalidRegex(f"{first}-{last} is not a range of characters")
        return self._member(first, last)


@functools.lru_cache(maxsize=256)
def compile(pattern: str) -> "regex.Pattern[str]":  # noqa: A001, as in every regex library
    """Return the compiled pattern. Raises InvalidRegex."""
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidRegex(f"{_short(pattern)} is longer than {_LONGEST_PATTERN} characters")
    try:
        return regex.compile(_Translator(pattern).translate(), regex.V1)
    except (InvalidRegex, regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise InvalidRegex(f"{_short(pattern)} is not a regular expression: {error}") from error


def quote(text: str) -> str:
    """Return a pattern that finds this very text."""
    return "\\Q" + text.replace("\\E", "\\E\\\\E\\Q") + "\\E" if text else ""


def search(pattern: str, text: str) -> bool:
    """Return whether the pattern is found anywhere in the text. Raises InvalidRegex."""
    return _Search(pattern, text).next() is not None


def full_match(pattern: str, text: str) -> "regex.Match[str] | None":
    """Return the match of the whole text, None when there is none. Raises InvalidRegex."""
    try:
        return compile(pattern).fullmatch(text, timeout=SECONDS)
    except (TimeoutError, MemoryError) as error:
        raise _too_slow(pattern) from error


class _Search:
    """Finds one match after the other, as Java's `Matcher.find` does."""

    def __init__(self, pattern: str, text: str) -> None:
        self._pattern = pattern
        self._compiled = compile(pattern)
        self._text = text
        self._at = 0
        self._deadline = time.monotonic() + SECONDS

    def next(self) -> "regex.Match[str] | None":
        """Return the next match. Raises InvalidRegex when all of them took too long."""
        left = self._deadline - time.monotonic()
        if self._at > len(self._text):
            return None
        try:
            if left <= 0:
                raise TimeoutError
            found = self._compiled.search(self._text, self._at, timeout=left)
        except (TimeoutError, MemoryError) as error:
            raise _too_slow(self._pattern) from error
        if found is not None:
            # After an empty match Java goes on with the next character, the package would stay.
            self._at = found.end() + (found.start() == found.end())
        return found


def _too_slow(pattern: str) -> InvalidRegex:
    return InvalidRegex(f"{_short(pattern)} took longer than {SECONDS:g} seconds")


def replace_all(pattern: str, replacement: str, text: str, *, only_first: bool = False) -> str:
    """Return the text with each match replaced as Java's `Matcher.replaceAll` does.

    In the replacement `$1` and `${name}` stand for groups, and a backslash takes the next character
    literally. Raises InvalidRegex.
    """
    search_ = _Search(pattern, text)
    parts: list[str | tuple[int | str]] | None = None
    out: list[str] = []
    length = at = 0
    while (found := search_.next()) is not None:
        # A replacement is judged only when something is replaced.
        parts = _parts(replacement, found.re) if parts is None else parts
        new = "".join(part if isinstance(part, str) else found[part[0]] or "" for part in parts)
        out += [text[at : found.start()], new]
        at = found.end()
        length += len(new)
        if length > _LONGEST_RESULT:
            raise InvalidRegex(f"replacing {_short(pattern)} makes more than {_LONGEST_RESULT} characters")
        if only_first:
            break
    return "".join(out) + text[at:]


def split(pattern: str, text: str, limit: int = 0) -> list[str]:
    """Split as Java does: no empty text before an empty match, none at the end unless asked for.

    Raises InvalidRegex.
    """
    search_ = _Search(pattern, text)
    parts: list[str] = []
    at = 0
    while (limit <= 0 or len(parts) < limit - 1) and (found := search_.next()) is not None:
        if found.end() == 0 or found.start() == found.end() == len(text):
            continue
        parts.append(text[at : found.start()])
        at = found.end()
    # Without any match even an empty text is a part.
    parts.append(text[at:])
    while limit == 0 and at and parts and not parts[-1]:
        parts.pop()
    return parts


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
