"""Translation of a `java.util.regex` pattern into the notation of the `regex` package.

Both notations are nearly the same. They differ in line ends, in the members of character classes, in
case-insensitive matching, in quoting and in escapes. The translation refuses syntax that Java does not
have, even where the package has it.
"""

import unicodedata
from collections.abc import Callable

import regex

from accelerator_engine.java_character_classes import LINE_ENDS, class_members, property_members

# Only a hostile expression makes longer patterns.
LONGEST_PATTERN = 20_000

_WORD = r"[\p{L}\p{Nd}\p{Mn}_]"
_END = r"(?:(?=\r\n\Z)|(?<!\r)(?=\n\Z)|(?=[\r\x85\u2028\u2029]\Z)|\Z)"
_END_UNIX = r"(?:(?=\n\Z)|\Z)"
_BOUNDARIES = {
    "A": r"(?:\A)",
    "b": rf"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))",
    "B": rf"(?:(?<={_WORD})(?={_WORD})|(?<!{_WORD})(?!{_WORD}))",
    "G": r"(?:\G)",
    "R": rf"(?:\r\n|[{LINE_ENDS}])",
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
    """A pattern or replacement that Java refuses too; the text is one sentence."""


def translate(pattern: str) -> str:
    """Return the pattern in the notation of the `regex` package. Raises InvalidRegex."""
    return _Translator(pattern).translate()


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if character.isascii() and not character.isalnum() else character


def _swapped(first: str, last: str) -> str:
    """Return the other case of the ASCII letters in a range, as members of a class."""
    members = ""
    for low, high, distance in (("a", "z", -32), ("A", "Z", 32)):
        begin, end = max(first, low), min(last, high)
        if begin <= end:
            members += f"{chr(ord(begin) + distance)}-{chr(ord(end) + distance)}"
    return members


class _Translator:
    """Translates one pattern, character by character."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        # The flags of each open group; they end with the group.
        self._flags: list[frozenset[str]] = [frozenset()]
        self._names: set[str] = set()
        self._groups = 0
        # The length of each open group and of the last element, repetitions counted.
        self._sizes = [0]
        self._last = 0
        # Whether a quantifier may follow the last element.
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
        """Skip white space and comments under the flag x; return whether there were any."""
        if not self._has("x"):
            return False
        skipped = regex.compile(r"(?:[\x20\t\n\x0B\f\r]|#[^\n\r\x85\u2028\u2029]*)+").match(self._pattern, self._at)
        self._at = skipped.end() if skipped else self._at
        return skipped is not None

    def _literal(self, text: str) -> str:
        # A quantifier repeats the last character only.
        self._sizes[-1] += max(len(text) - 1, 0)
        return "".join(self._caseless(self._member(character), character) for character in text)

    def _caseless(self, source: str, plain: str = "") -> str:
        """Return the source of a class or of a plain character under the flags i and u."""
        if self._unicode_caseless():
            return f"(?i-f:{source})"
        return f"[{source}]" if plain and len(source) > len(_escaped(plain)) else source

    def _unicode_caseless(self) -> bool:
        return self._has("i") and (self._has("u") or self._has("U"))

    def _member(self, first: str, last: str = "") -> str:
        """Return a character, or those from the first to the last, as members of a class."""
        members = f"{_escaped(first)}-{_escaped(last)}" if last else _escaped(first)
        only_ascii = self._has("i") and not self._unicode_caseless()
        return members + _swapped(first, last or first) if only_ascii else members

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
        match = _REPEAT.match(self._pattern, self._at)
        if match is None or (match[3] and not match[2]):
            raise InvalidRegex(f"a repetition {{n}}, {{n,}} or {{n,m}} is not complete at position {self._at}")
        self._take(len(match[0]))
        least, most = int(match[1]), int(match[3] or match[1])
        if not least <= most <= _LARGEST_INT:
            raise InvalidRegex(f"{{{match[0]} is not a range of repetitions")
        # The package compiles one copy of the element per required repetition.
        self._sizes[-1] += self._last * max(least - 1, 0)
        if self._sizes[-1] > LONGEST_PATTERN:
            raise InvalidRegex(f"a required element repeats more than {LONGEST_PATTERN} times")
        return f"{{{least}}}" if not match[2] else f"{{{least},{match[3]}}}"

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
            raise InvalidRegex(f"the group at position {self._at} has an unknown or repeated start")
        self._names.add(name[1])
        self._take(len(name[0]))
        return f"(?P<{name[1]}>"

    def _new_flags(self, match: "regex.Match[str]") -> str:
        self._take(len(match[0]))
        flags = (self._flags[-1] | set(match[1])) - set(match[2] or "")
        if match[3] == ":":
            self._open(flags)
            return "(?:"
        self._flags[-1] = flags
        return ""

    def _end_of_group(self) -> str:
        if len(self._flags) == 1:
            raise InvalidRegex("there is a ) without its (")
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
        # Java takes only as many digits as number an open group: with one group, \11 is group 1 and a 1.
        while (
            self._pattern[self._at : self._at + 1].isdecimal() and int(digits + self._pattern[self._at]) <= self._groups
        ):
            digits += self._take()
        return self._again(f"\\{digits}") if int(digits) <= self._groups else "(?!)"

    def _again(self, reference: str) -> str:
        # The group also separates the number from digits that follow.
        return f"(?i-f:{reference})" if self._has("i") else f"(?:{reference})"

    def _set(self, letter: str) -> str:
        """Return the character class of an escape with this letter, empty when it is none."""
        members = self._property() if letter in ("p", "P") else class_members(letter, unicode=self._has("U"))
        return f"[{'^' if letter.isupper() else ''}{members}]" if members else ""

    def _property(self) -> str:
        name = self._take()
        if name == "{":
            end = self._pattern.find("}", self._at)
            name = self._take(max(end - self._at, 0))
            self._take()
        members = property_members(name, unicode=self._has("U"), caseless=self._has("i"))
        if not members:
            raise InvalidRegex(f"there is no property {name!r}")
        return members

    def _character(self, letter: str) -> str:
        """Return the character of an escape."""
        if letter in _CODES:
            return self._code(letter)
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if not letter or (letter.isascii() and letter.isalnum()):
            raise InvalidRegex(f"there is no escape \\{letter}")
        return letter

    def _code(self, kind: str) -> str:
        match = _CODES[kind].match(self._pattern, self._at)
        if match is None:
            raise InvalidRegex(f"an escape \\{kind} is not complete at position {self._at}")
        self._take(len(match[0]))
        digits = match[1] if match[1] is not None else match[2]
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
        """Translate a class, which may hold others: `[a-z&&[^b]]`."""
        negated = self._take() if self._peek("^") else ""
        sets: list[str] = []
        members: list[str] = []
        while self._at < len(self._pattern):
            if self._ignored():
                continue
            character = self._take()
            if character == "]" and (members or sets):
                # Java ignores an empty operand of `&&`.
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
