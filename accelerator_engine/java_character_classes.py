"""Character classes of `java.util.regex`, in the notation of the `regex` package."""

import regex

_HORIZONTAL_SPACES = r"\x20\t\xA0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000"
LINE_ENDS = r"\n\x0B\f\r\x85\u2028\u2029"
_WORD_UNICODE = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d"
# Members of the classes with a letter of their own, without and with the flag U.
_CLASSES = {"d": "0-9", "w": "a-zA-Z0-9_", "s": r"\x20\t\n\x0B\f\r", "h": _HORIZONTAL_SPACES, "v": LINE_ENDS}
_CLASSES_UNICODE = {**_CLASSES, "d": r"\p{Nd}", "w": _WORD_UNICODE, "s": r"\p{White_Space}"}
# Members of the POSIX classes, without and with the flag U.
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
# With the flag i these classes hold the letters of both cases.
_CASED = {"Lu", "Ll", "Lt", "IsLu", "IsLl", "IsLt", "javaLowerCase", "javaUpperCase", "IsLowercase", "IsUppercase"}


def class_members(letter: str, *, unicode: bool) -> str:
    """Return the members of `\\d`, `\\w`, `\\s`, `\\h` or `\\v`, empty for another letter."""
    return (_CLASSES_UNICODE if unicode else _CLASSES).get(letter.lower(), "")


def property_members(name: str, *, unicode: bool, caseless: bool) -> str:
    """Return the members of `\\p{name}`, empty when Java has no such property."""
    posix = _POSIX_UNICODE if unicode else _POSIX
    if caseless and name in _CASED:
        return _JAVA_CLASSES["LC"]
    if caseless and name in ("Lower", "Upper"):
        return posix["Lower"] + posix["Upper"]
    return posix.get(name) or _JAVA_CLASSES.get(name) or _unicode_property(name)


def _unicode_property(name: str) -> str:
    key, equals, value = name.partition("=")
    if equals and key.lower() in ("sc", "script", "blk", "block", "gc", "general_category"):
        return f"\\p{{{key}={value}}}"
    if _CATEGORY.fullmatch(name.removeprefix("Is")):
        return f"\\p{{{name.removeprefix('Is')}}}"
    if name.startswith("In"):
        return f"\\p{{Block={name[2:]}}}"
    if name.startswith("Is"):
        return f"\\p{{{_PROPERTIES.get(name[2:].upper(), f'Script={name[2:]}')}}}"
    return ""
