"""What expressions may do with values: the methods and classes of Java on an allow-list.

Values are those of JSON: str, bool, int, float, None, list and dict, as java.lang.String, Boolean,
Integer, Double, null, List and Map. Nothing else can be reached from an expression.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from accelerator_engine import java_regex

# Texts that an expression makes are no longer than this: repeat() could fill the memory.
LONGEST_TEXT = 10_000_000

Method = Callable[..., Any]


class NotAllowed(ValueError):
    """Something an expression may not do, or that its value cannot do; the text is one sentence."""


def text_of(value: object) -> str:
    """Return a value as Java writes it when it is added to a text: null, true, 1.0, [a, b], {k=v}."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _text_of_double(value)
    if isinstance(value, list):
        return f"[{', '.join(map(text_of, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{text_of(key)}={text_of(item)}' for key, item in value.items())}}}"
    return str(value)


def _text_of_double(value: float) -> str:
    """Return the shortest digits, with an exponent outside 10⁻³ … 10⁷ (Double.toString)."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        shown = format(Decimal(repr(value)), "f")
        return shown if "." in shown else shown + ".0"
    sign, digits, _ = Decimal(repr(value)).normalize().as_tuple()
    rest = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{rest}E{Decimal(repr(value)).adjusted()}"


def class_name(value: object) -> str:
    """Return the name of a value's Java class, for messages."""
    names = {str: "java.lang.String", bool: "java.lang.Boolean", int: "java.lang.Integer", float: "java.lang.Double"}
    if isinstance(value, Mapping):
        return "java.util.LinkedHashMap"
    return names.get(type(value), "java.util.ArrayList" if isinstance(value, list) else type(value).__name__)


def as_boolean(value: object) -> bool:
    """Return a value as a condition takes it. Raises NotAllowed for what is neither true nor false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "on", "yes", "1"):
            return True
        if word in ("false", "off", "no", "0"):
            return False
    raise NotAllowed(f"{text_of(value)!r} is neither true nor false")


# Methods


def _index(text: str, at: int) -> int:
    if not 0 <= at <= len(text):
        raise NotAllowed(f"there is no position {at} in a text of {len(text)} characters")
    return at


def _substring(text: str, begin: int, end: int | None = None) -> str:
    last = len(text) if end is None else _index(text, end)
    if _index(text, begin) > last:
        raise NotAllowed(f"a text cannot begin at {begin} and end at {last}")
    return text[begin:last]


def _char_at(text: str, at: int) -> str:
    if not 0 <= at < len(text):
        raise NotAllowed(f"there is no position {at} in a text of {len(text)} characters")
    return text[at]


def _repeat(text: str, times: int) -> str:
    if times < 0 or len(text) * times > LONGEST_TEXT:
        raise NotAllowed(f"a text of {len(text)} characters cannot be repeated {times} times")
    return text * times


def _replace(text: str, old: str, new: str) -> str:
    if len(old) == 0 and len(text) * len(new) > LONGEST_TEXT:
        raise NotAllowed(f"a replacement makes more than {LONGEST_TEXT} characters")
    return text.replace(old, new)


def _split(text: str, pattern: str, limit: int = 0) -> list[str]:
    """Split as Java does: no empty text before the first match, none at the end unless asked for."""
    parts: list[str] = []
    at = 0
    for found in java_regex.compile(pattern).finditer(text, timeout=java_regex.SECONDS):
        if found.end() == 0 or (found.start() == found.end() == len(text)):
            continue
        if 0 < limit <= len(parts) + 1:
            break
        parts.append(text[at : found.start()])
        at = found.end()
    parts.append(text[at:])
    while limit == 0 and len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


# Java's trim takes what is not greater than a space, its strip what Unicode calls white space.
_TRIMMED = "".join(map(chr, range(33)))

_STRING: dict[str, Method] = {
    "charAt": _char_at,
    "concat": lambda text, other: text + other,
    "contains": lambda text, part: part in text,
    "endsWith": lambda text, end: text.endswith(end),
    "equals": lambda text, other: isinstance(other, str) and text == other,
    "equalsIgnoreCase": lambda text, other: isinstance(other, str) and text.lower() == other.lower(),
    "indexOf": lambda text, part, start=0: text.find(part, max(start, 0)),
    "isBlank": lambda text: not text.strip(),
    "isEmpty": lambda text: not text,
    "lastIndexOf": lambda text, part: text.rfind(part),
    "length": len,
    "matches": lambda text, pattern: java_regex.full_match(pattern, text) is not None,
    "repeat": _repeat,
    "replace": _replace,
    "replaceAll": lambda text, pattern, new: java_regex.replace_all(pattern, new, text),
    "replaceFirst": lambda text, pattern, new: java_regex.replace_all(pattern, new, text, only_first=True),
    "split": _split,
    "startsWith": lambda text, start: text.startswith(start),
    "strip": lambda text: text.strip(),
    "substring": _substring,
    "toLowerCase": lambda text: text.lower(),
    "toString": lambda text: text,
    "toUpperCase": lambda text: text.upper(),
    "trim": lambda text: text.strip(_TRIMMED),
}


def _get(items: list[Any], at: int) -> Any:  # noqa: ANN401
    if not isinstance(at, int) or not 0 <= at < len(items):
        raise NotAllowed(f"there is no item {at} in a list of {len(items)}")
    return items[at]


_LIST: dict[str, Method] = {
    "contains": lambda items, item: item in items,
    "get": _get,
    "indexOf": lambda items, item: items.index(item) if item in items else -1,
    "isEmpty": lambda items: not items,
    "size": len,
    "toString": text_of,
}
_MAP: dict[str, Method] = {
    "containsKey": lambda entries, key: key in entries,
    "containsValue": lambda entries, value: value in entries.values(),
    "get": lambda entries, key: entries.get(key),
    "getOrDefault": lambda entries, key, default: entries.get(key, default),
    "isEmpty": lambda entries: not entries,
    "keySet": list,
    "size": len,
    "toString": text_of,
    "values": lambda entries: list(entries.values()),
}
_SCALAR: dict[str, Method] = {
    "toString": text_of,
    "equals": lambda value, other: type(value) is type(other) and value == other,
}


@dataclass(frozen=True)
class Helper:
    """An object with methods of its own, such as `#files`."""

    methods: Mapping[str, Method]


@dataclass(frozen=True)
class JavaClass:
    """A class named by `T(…)`, with its static methods."""

    name: str
    methods: Mapping[str, Method]


class Uri:
    """An address taken apart: `T(…UriComponentsBuilder).fromUriString(text).build(true)`."""

    def __init__(self, text: str) -> None:
        """Take the address apart. Raises NotAllowed when it is none."""
        # A host without // reads as a path, as it does in Spring.
        parts = urlsplit(text)
        queries: dict[str, list[str]] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            queries.setdefault(name, []).append(value)
        try:
            port = parts.port
        except ValueError as error:
            raise NotAllowed(f"{text!r} is not an address: {error}") from error
        self.properties: dict[str, Any] = {
            "scheme": parts.scheme or None,
            "host": parts.hostname,
            "port": -1 if port is None else port,
            "path": parts.path or None,
            "query": parts.query or None,
            "fragment": parts.fragment or None,
            "queryParams": queries,
        }
        self.methods: dict[str, Method] = {"build": lambda *_: self, "encode": lambda: self}

    @staticmethod
    def from_text(text: str) -> "Uri":
        """Return the address in a text."""
        return Uri(text)


def _join(separator: str, *items: Any) -> str:  # noqa: ANN401
    many = items[0] if len(items) == 1 and isinstance(items[0], list) else items
    return separator.join(map(text_of, many))


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text):
        raise NotAllowed(f"{text!r} is not a whole number")
    return int(text)


def _round(number: float) -> int:
    return math.floor(number + 0.5)


_CLASSES: dict[str, dict[str, Method]] = {
    "java.lang.String": {"join": _join, "valueOf": text_of},
    "java.lang.Math": {
        "abs": abs, "ceil": lambda x: float(math.ceil(x)), "floor": lambda x: float(math.floor(x)),
        "max": max, "min": min, "round": _round,
    },
    "java.lang.Integer": {"parseInt": _parse_int, "valueOf": lambda x: x if isinstance(x, int) else _parse_int(x), "toString": text_of},
    "java.lang.Boolean": {"parseBoolean": lambda text: isinstance(text, str) and text.lower() == "true", "toString": text_of},
    "java.util.Arrays": {"asList": lambda *items: items[0] if len(items) == 1 and isinstance(items[0], list) else list(items)},
    "org.springframework.web.util.UriComponentsBuilder": {"fromUriString": Uri.from_text},
}  # fmt: skip


def java_class(name: str) -> JavaClass:
    """Return a class by its name; classes of java.lang need no package. Raises NotAllowed."""
    for known in (name, f"java.lang.{name}"):
        if known in _CLASSES:
            return JavaClass(known, _CLASSES[known])
    raise NotAllowed(f"T({name}) cannot be used; allowed are {', '.join(_CLASSES)}")


def method_of(target: Any, name: str) -> Method:  # noqa: ANN401
    """Return a method of a value, bound to it. Raises NotAllowed."""
    if isinstance(target, Helper | JavaClass | Uri):
        if name in target.methods:
            return target.methods[name]
        owner = target.name if isinstance(target, JavaClass) else type(target).__name__
        raise NotAllowed(f"{owner} has no method {name}; allowed are {', '.join(target.methods)}")
    tables = {str: _STRING, list: _LIST, dict: _MAP}
    table = next((methods for kind, methods in tables.items() if isinstance(target, kind)), _SCALAR)
    if name not in table:
        raise NotAllowed(f"{class_name(target)} has no method {name}; allowed are {', '.join(table)}")
    return lambda *arguments: table[name](target, *arguments)


# Spelling of names


def _words(text: str, style: str) -> list[str]:
    """Return the words of a name in lower case; each capital begins one in camel and pascal."""
    if style in ("camel", "pascal"):
        return [word.lower() for word in re.findall(r"[A-Z][^A-Z]*|^[^A-Z]+", text)]
    return [word.lower() for word in text.split("-" if style == "kebab" else "_")]


def _spelt(words: Iterable[str], style: str) -> str:
    if style in ("kebab", "snake"):
        return ("-" if style == "kebab" else "_").join(words)
    name = "".join(word.capitalize() for word in words)
    return name if style == "pascal" else name[:1].lower() + name[1:]


def _conversion(source: str, target: str) -> Method:
    return lambda text: _spelt(_words(text, source), target)


_STYLES = ("camel", "kebab", "pascal", "snake")

CASE_FUNCTIONS: dict[str, Method] = {
    f"{source}2{target.capitalize()}": _conversion(source, target)
    for source in _STYLES
    for target in _STYLES
    if source != target
}
