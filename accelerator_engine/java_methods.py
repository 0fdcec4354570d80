"""The methods and properties that an expression may use on a value.

The tables are an allow-list: an expression reaches no method that is not in them.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from accelerator_engine import java_regex
from accelerator_engine.java_types import (
    LONGEST_TEXT,
    Array,
    Character,
    Entry,
    Helper,
    JavaClass,
    Method,
    NotAllowed,
    Table,
    as_integer,
    class_name,
    methods,
    same,
    text_of,
)
from accelerator_engine.java_uri import Uri


def _position(text: str, at: int, *, last: int) -> int:
    if not 0 <= at <= last:
        raise NotAllowed(f"there is no position {at} in a text of {len(text)} characters")
    return at


def _substring(text: str, begin: int, end: int | None = None) -> str:
    last = _position(text, len(text) if end is None else end, last=len(text))
    return text[_position(text, begin, last=last) : last]


def _char_at(text: str, at: int) -> Character:
    return Character(text[_position(text, at, last=len(text) - 1)])


def _repeat(text: str, times: int) -> str:
    if times < 0 or len(text) * times > LONGEST_TEXT:
        raise NotAllowed(f"a text of {len(text)} characters cannot be repeated {times} times")
    return text * times


def _replace(text: str, old: str, new: str) -> str:
    if len(text) + text.count(old) * (len(new) - len(old)) > LONGEST_TEXT:
        raise NotAllowed(f"a replacement makes more than {LONGEST_TEXT} characters")
    return text.replace(old, new)


def _split(text: str, pattern: str, limit: int = 0) -> Array:
    return Array(java_regex.split(pattern, text, limit))


def _difference(left: str, right: str) -> int:
    """Return compareTo(): the difference of the first two unequal characters, or of the lengths."""
    return next((ord(a) - ord(b) for a, b in zip(left, right, strict=False) if a != b), len(left) - len(right))


def _folded(text: str) -> str:
    return text.upper().lower()


# Java's trim removes characters up to the space; its strip removes Unicode white space.
_TRIMMED = "".join(map(chr, range(33)))
_BLANK = "".join(
    character
    for character in map(chr, range(0x3001))
    if character.isspace() and character not in "\x85\xa0\u2007\u202f"
)

_STRING = methods(
    "java.lang.String",
    {
        "charAt": (_char_at, "integer"),
        "compareTo": (_difference, "text"),
        "compareToIgnoreCase": (lambda text, other: _difference(_folded(text), _folded(other)), "text"),
        "concat": (lambda text, other: text + other, "text"),
        "contains": (lambda text, part: part in text, "characters"),
        "contentEquals": (lambda text, other: text == other, "characters"),
        "endsWith": (lambda text, end: text.endswith(end), "text"),
        "equals": (same, "any"),
        "equalsIgnoreCase": (
            lambda text, other: isinstance(other, str) and _folded(text) == _folded(other),
            "any",
        ),
        "indexOf": (lambda text, part, start=0: text.find(part, min(max(start, 0), len(text))), "characters integer?"),
        "isBlank": (lambda text: not text.strip(_BLANK), ""),
        "isEmpty": (lambda text: not text, ""),
        "lastIndexOf": (
            lambda text, part, end=None: text.rfind(part, 0, None if end is None else max(end + len(part), 0)),
            "characters integer?",
        ),
        "length": (len, ""),
        "matches": (lambda text, pattern: java_regex.full_match(pattern, text) is not None, "text"),
        "repeat": (_repeat, "integer"),
        "replace": (_replace, "characters characters"),
        "replaceAll": (lambda text, pattern, new: java_regex.replace_all(pattern, new, text), "text text"),
        "replaceFirst": (
            lambda text, pattern, new: java_regex.replace_all(pattern, new, text, only_first=True),
            "text text",
        ),
        "split": (_split, "text integer?"),
        "startsWith": (lambda text, start, at=0: at >= 0 and text.startswith(start, at), "text integer?"),
        "strip": (lambda text: text.strip(_BLANK), ""),
        "stripLeading": (lambda text: text.lstrip(_BLANK), ""),
        "stripTrailing": (lambda text: text.rstrip(_BLANK), ""),
        "subSequence": (_substring, "integer integer"),
        "substring": (_substring, "integer integer?"),
        "toLowerCase": (lambda text: text.lower(), ""),
        "toString": (str, ""),
        "toUpperCase": (lambda text: text.upper(), ""),
        "trim": (lambda text: text.strip(_TRIMMED), ""),
    },
)


def _get(items: list[object], at: int) -> object:
    if not 0 <= at < len(items):
        raise NotAllowed(f"Index {at} out of bounds for length {len(items)}")
    return items[at]


def _part(items: list[object], begin: int, end: int) -> list[object]:
    if not 0 <= begin <= end <= len(items):
        raise NotAllowed(f"a list of {len(items)} has no part from {begin} to {end}")
    return items[begin:end]


def _positions(items: list[object], item: object) -> list[int]:
    return [at for at, other in enumerate(items) if same(other, item)]


def lookup(entries: Mapping[Any, object], key: object, default: object = None) -> object:
    """Return the value of a key; as in Java, the keys 1, true and '1' differ."""
    if isinstance(key, str):
        return entries.get(key, default)
    return next((value for other, value in entries.items() if same(other, key)), default)


_MISSING = object()

_LIST = methods(
    "java.util.ArrayList",
    {
        "contains": (lambda items, item: bool(_positions(items, item)), "any"),
        "containsAll": (lambda items, others: all(_positions(items, item) for item in others), "list"),
        "equals": (same, "any"),
        "get": (_get, "integer"),
        "indexOf": (lambda items, item: (_positions(items, item) or [-1])[0], "any"),
        "isEmpty": (lambda items: not items, ""),
        "lastIndexOf": (lambda items, item: (_positions(items, item) or [-1])[-1], "any"),
        "size": (len, ""),
        "subList": (_part, "integer integer"),
        "toString": (text_of, ""),
    },
)
_MAP = methods(
    "java.util.LinkedHashMap",
    {
        "containsKey": (lambda entries, key: lookup(entries, key, _MISSING) is not _MISSING, "any"),
        "containsValue": (lambda entries, value: bool(_positions(list(entries.values()), value)), "any"),
        "equals": (same, "any"),
        "get": (lookup, "any"),
        "getOrDefault": (lookup, "any any"),
        "isEmpty": (lambda entries: not entries, ""),
        "keySet": (list, ""),
        "size": (len, ""),
        "toString": (text_of, ""),
        "values": (lambda entries: list(entries.values()), ""),
    },
)
_ENTRY = methods(
    "java.util.Map.Entry",
    {"getKey": (lambda entry: entry.key, ""), "getValue": (lambda entry: entry.value, "")},
)
_ARRAY = methods("java.lang.String[]", {"length": (len, "")})
_ANY: Table = {"toString": (text_of, ""), "equals": (same, "any")}
_BOOLEAN = methods("java.lang.Boolean", {**_ANY, "booleanValue": (bool, "")})
_CHARACTER = methods("java.lang.Character", {**_ANY, "charValue": (lambda value: value, "")})
_NUMBER = methods(
    "a number",
    {
        **_ANY,
        "compareTo": (lambda value, other: (value > other) - (value < other), "number"),
        "doubleValue": (float, ""),
        "intValue": (as_integer, ""),
    },
)
_TABLES: tuple[tuple[type, dict[str, Method]], ...] = (
    (Character, _CHARACTER),
    (str, _STRING),
    (Array, _ARRAY),
    (list, _LIST),
    (Mapping, _MAP),
    (Entry, _ENTRY),
    (bool, _BOOLEAN),
    (int, _NUMBER),
    (float, _NUMBER),
)


def method_of(target: object, name: str) -> Callable[..., Any]:
    """Return a method of a value, bound to the value. Raises NotAllowed."""
    if isinstance(target, Helper):
        if name not in target.methods:
            raise _no_method(target, name, target.methods)
        return functools.partial(_call_helper, name, target.methods[name])
    known = _methods_of(target)
    if name not in known:
        raise _no_method(target, name, known)
    bound = () if isinstance(target, JavaClass | Uri) else (target,)
    return lambda *arguments: known[name].call_on(bound, arguments)


def _no_method(target: object, name: str, known: Iterable[str]) -> NotAllowed:
    names = ", ".join(known)
    allowed = f"; allowed are {names}" if names else ""
    owner = target.name if isinstance(target, JavaClass) else class_name(target)
    return NotAllowed(f"EL1004E: Method call: Method {name}() cannot be found on type {owner}{allowed}")


def _methods_of(target: object) -> Mapping[str, Method]:
    if isinstance(target, JavaClass | Uri):
        return target.methods
    return next((table for kind, table in _TABLES if isinstance(target, kind)), {})


def _call_helper(name: str, helper: Callable[..., Any], *arguments: object) -> Any:
    if not all(isinstance(argument, str) for argument in arguments):
        raise NotAllowed(f"{name} takes texts only")
    try:
        inspect.signature(helper).bind(*arguments)
    except TypeError:
        raise NotAllowed(f"{name} does not take {len(arguments)} arguments") from None
    return helper(*arguments)


def property_of(target: object, name: str) -> Any:
    """Return a property of a value: `empty` and `isEmpty` call isEmpty(). Raises NotAllowed."""
    if target is None:
        raise NotAllowed(f"EL1007E: Property or field '{name}' cannot be found on null")
    if isinstance(target, JavaClass) and name in target.constants:
        return target.constants[name]
    known = {} if isinstance(target, JavaClass) else _methods_of(target)
    for accessor in (f"get{name[0].upper()}{name[1:]}", f"is{name[0].upper()}{name[1:]}", name):
        if accessor in known and not known[accessor].needed:
            return method_of(target, accessor)()
    raise NotAllowed(
        f"EL1008E: Property or field '{name}' cannot be found on object of type '{class_name(target)}'"
        + (f" (write ['{name}'] for the value of a key)" if isinstance(target, Mapping) else "")
    )
