"""What expressions may do with values: the methods and classes of Java on an allow-list.

Values are those of JSON: str, bool, int, float, None, list and dict, as java.lang.String, Boolean,
Integer (Long when it is larger), Double, null, List and Map. Nothing else can be reached from an expression.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from accelerator_engine import java_regex

# Texts that an expression makes are no longer than this: repeat() could fill the memory.
LONGEST_TEXT = 10_000_000

_LARGEST_INTEGER = 2**31 - 1


class NotAllowed(ValueError):
    """Something an expression may not do, or that its value cannot do; the text is one sentence."""


class Character(str):
    """What `charAt` returns: it is equal to no text, and joins with one."""

    __slots__ = ()


class Array(list[Any]):
    """What `split` returns: it has a length, and none of a list's methods."""

    __slots__ = ()


@dataclass(frozen=True)
class Entry:
    """A key and its value, as the selections and projections of a map see them."""

    key: Any
    value: Any

    def __str__(self) -> str:
        return f"{text_of(self.key)}={text_of(self.value)}"


@dataclass(frozen=True)
class Method:
    """A method with the kinds of its arguments: `?` marks one that may be left out, `*` any number of them."""

    name: str
    function: Callable[..., Any]
    kinds: tuple[str, ...]
    owner: str = ""

    def __call__(self, *arguments: Any) -> Any:
        """Call it. Raises NotAllowed, also when the arguments are not what it takes."""
        return self.on((), arguments)

    def on(self, target: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
        """Call it with the value that it belongs to in front. Raises NotAllowed."""
        kinds = self.kinds
        if kinds and kinds[-1].endswith("*"):
            kinds = kinds[:-1] + kinds[-1:] * (len(arguments) - len(kinds) + 1)
        fits = self.needed <= len(arguments) <= len(kinds)
        if not fits:
            raise self._wrong(arguments)
        try:
            taken = [_TAKERS[kind.rstrip("?*")](argument) for kind, argument in zip(kinds, arguments, strict=False)]
        except _Unfit:
            raise self._wrong(arguments) from None
        return self.function(*target, *taken)

    @property
    def needed(self) -> int:
        """How many arguments it takes at least."""
        return sum(kind[-1] not in "?*" for kind in self.kinds)

    def _wrong(self, arguments: tuple[Any, ...]) -> NotAllowed:
        kinds = ",".join(map(class_name, arguments))
        return NotAllowed(f"EL1004E: Method call: Method {self.name}({kinds}) cannot be found on {self.owner or 'it'}")


class _Unfit(Exception):
    """An argument is not of the kind that the method takes."""


@dataclass(frozen=True)
class Helper:
    """An object with methods of its own, such as `#files`."""

    methods: Mapping[str, Callable[..., Any]]

    def __str__(self) -> str:
        return f"an object with {', '.join(self.methods)}"


@dataclass(frozen=True)
class JavaClass:
    """A class named by `T(…)`, with its static methods and constants."""

    name: str
    methods: Mapping[str, Method]
    constants: Mapping[str, Any]

    def __str__(self) -> str:
        return f"class {self.name}"


# What values are, and as what they are written


def class_name(value: object) -> str:
    """Return the name of a value's Java class, for messages."""
    if value is None:
        return "null"
    if isinstance(value, int) and not isinstance(value, bool):
        return "java.lang.Integer" if abs(value) <= _LARGEST_INTEGER + (value < 0) else "java.lang.Long"
    return next((name for kind, name in _NAMES if isinstance(value, kind)), type(value).__name__)


_NAMES: tuple[tuple[type, str], ...] = (
    (Character, "java.lang.Character"),
    (str, "java.lang.String"),
    (bool, "java.lang.Boolean"),
    (float, "java.lang.Double"),
    (Array, "java.lang.String[]"),
    (list, "java.util.ArrayList"),
    (Mapping, "java.util.LinkedHashMap"),
    (JavaClass, "java.lang.Class"),
    (Entry, "java.util.Map.Entry"),
)

_ABOVE = {
    "java.lang.Integer": ("java.lang.Number", "java.lang.Comparable"),
    "java.lang.Long": ("java.lang.Number", "java.lang.Comparable"),
    "java.lang.Double": ("java.lang.Number", "java.lang.Comparable"),
    "java.lang.String": ("java.lang.CharSequence", "java.lang.Comparable"),
    "java.lang.Boolean": ("java.lang.Comparable",),
    "java.util.ArrayList": ("java.util.List", "java.util.Collection", "java.lang.Iterable"),
    "java.util.LinkedHashMap": ("java.util.Map",),
}


def is_instance(value: object, java: JavaClass) -> bool:
    """Return whether a value is of a class, or of one derived from it."""
    name = class_name(value)
    return value is not None and java.name in (name, "java.lang.Object", *_ABOVE.get(name, ()))


def text_of(value: object) -> str:
    """Return a value as its toString() writes it: null, true, 1.0, [a, b], {k=v}."""
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


def same(left: object, right: object) -> bool:
    """Return whether values are equal as Java's `equals` has it: 1 and 1.0 are not."""
    if class_name(left) != class_name(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(key in right and same(item, right[key]) for key, item in left.items())
    return left == right


def is_number(value: object) -> bool:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# Conversions


def _no_conversion(value: object, target: str) -> NotAllowed:
    return NotAllowed(f"EL1001E: Type conversion problem, cannot convert from {class_name(value)} to {target}")


def as_boolean(value: object) -> bool:
    """Return a value as a condition takes it. Raises NotAllowed for what is neither true nor false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "on", "yes", "1"):
            return True
        if word in ("false", "off", "no", "0"):
            return False
        if word:
            raise NotAllowed(f"{_no_conversion(value, 'java.lang.Boolean')}: {word[:80]!r} is neither true nor false")
        value = None
    raise _no_conversion(value, "boolean" if value is None else "java.lang.Boolean")


def as_text(value: object) -> str:
    """Return a value as it is converted to a text: a list's items with commas. Raises NotAllowed for a map."""
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    if isinstance(value, Mapping | JavaClass | Helper | Entry):
        raise _no_conversion(value, "java.lang.String")
    return text_of(value)


def as_integer(value: object) -> int:
    """Return a value as a whole number: a double loses its fraction, a text is read. Raises NotAllowed."""
    number = value
    if isinstance(value, float) and math.isfinite(value):
        number = int(value)
    elif isinstance(value, str):
        number = _decoded("".join(value.split()))
    if not isinstance(number, int) or isinstance(number, bool) or class_name(number) != "java.lang.Integer":
        raise _no_conversion(value, "java.lang.Integer")
    return number


def _decoded(text: str) -> int | None:
    found = re.fullmatch(r"([+-]?)(?:(?:0[xX]|#)([0-9a-fA-F]{1,16})|([0-9]{1,19}))", text)
    if found is None:
        return None
    number = int(found[2], 16) if found[2] else int(found[3])
    return -number if found[1] == "-" else number


def _take_text(value: object) -> str:
    if value is None:
        raise NotAllowed("null is given where a text is needed")
    try:
        return as_text(value)
    except NotAllowed:
        raise _Unfit from None


def _take_characters(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise _Unfit
    return _take_text(value)


def _take_integer(value: object) -> int:
    try:
        return as_integer(value)
    except NotAllowed:
        raise _Unfit from None


def _take_number(value: Any) -> Any:
    if not is_number(value):
        raise _Unfit
    return value


def _take_list(value: Any) -> Any:
    if not isinstance(value, list) or isinstance(value, Array):
        raise _Unfit
    return value


_TAKERS: dict[str, Callable[[Any], Any]] = {
    "any": lambda value: value,
    "text": _take_text,  # String: nearly everything can be converted
    "characters": _take_characters,  # CharSequence: a text only
    "integer": _take_integer,
    "number": _take_number,
    "list": _take_list,
}


# Methods


# Functions and the kinds of their arguments, by name.
Table = dict[str, tuple[Callable[..., Any], str]]


def _methods(owner: str, table: Table) -> dict[str, Method]:
    return {name: Method(name, function, tuple(kinds.split()), owner) for name, (function, kinds) in table.items()}


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
    """Return compareTo(): the distance of the first characters that differ, or of the lengths."""
    return next((ord(a) - ord(b) for a, b in zip(left, right, strict=False) if a != b), len(left) - len(right))


def _folded(text: str) -> str:
    return text.upper().lower()


# Java's trim takes what is not greater than a space, its strip what its Unicode calls white space.
_TRIMMED = "".join(map(chr, range(33)))
_BLANK = "".join(
    character
    for character in map(chr, range(0x3001))
    if character.isspace() and character not in "\x85\xa0\u2007\u202f"
)

_STRING = _methods(
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


def _get(items: list[Any], at: int) -> Any:
    if not 0 <= at < len(items):
        raise NotAllowed(f"Index {at} out of bounds for length {len(items)}")
    return items[at]


def _part(items: list[Any], begin: int, end: int) -> list[Any]:
    if not 0 <= begin <= end <= len(items):
        raise NotAllowed(f"a list of {len(items)} has no part from {begin} to {end}")
    return items[begin:end]


def _places(items: list[Any], item: object) -> list[int]:
    return [at for at, other in enumerate(items) if same(other, item)]


def lookup(entries: Mapping[Any, Any], key: object, default: object = None) -> Any:
    """Return the value of a key, which is told from others as Java does: 1 from true and from '1'."""
    if isinstance(key, str):
        return entries.get(key, default)
    return next((value for other, value in entries.items() if same(other, key)), default)


_MISSING = object()

_LIST = _methods(
    "java.util.ArrayList",
    {
        "contains": (lambda items, item: bool(_places(items, item)), "any"),
        "containsAll": (lambda items, others: all(_places(items, item) for item in others), "list"),
        "equals": (same, "any"),
        "get": (_get, "integer"),
        "indexOf": (lambda items, item: (_places(items, item) or [-1])[0], "any"),
        "isEmpty": (lambda items: not items, ""),
        "lastIndexOf": (lambda items, item: (_places(items, item) or [-1])[-1], "any"),
        "size": (len, ""),
        "subList": (_part, "integer integer"),
        "toString": (text_of, ""),
    },
)
_MAP = _methods(
    "java.util.LinkedHashMap",
    {
        "containsKey": (lambda entries, key: lookup(entries, key, _MISSING) is not _MISSING, "any"),
        "containsValue": (lambda entries, value: bool(_places(list(entries.values()), value)), "any"),
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
_ENTRY = _methods(
    "java.util.Map.Entry",
    {"getKey": (lambda entry: entry.key, ""), "getValue": (lambda entry: entry.value, "")},
)
_ARRAY = _methods("java.lang.String[]", {"length": (len, "")})
_ANY: Table = {"toString": (text_of, ""), "equals": (same, "any")}
_BOOLEAN = _methods("java.lang.Boolean", {**_ANY, "booleanValue": (bool, "")})
_CHARACTER = _methods("java.lang.Character", {**_ANY, "charValue": (lambda value: value, "")})
_NUMBER = _methods(
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


# Addresses

# The grammar of RFC 3986, a little looser.
_URI = re.compile(
    r"(?:(?P<scheme>[^:/?#]+):)?"
    r"(?://(?:(?P<user>[^@\[/?#]*)@)?(?P<host>\[[0-9A-Fa-f:.]*[%0-9A-Za-z]*\]|[^\[/?#:]*)(?::(?P<port>[0-9]*))?)?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:\#(?P<fragment>.*))?",
    re.DOTALL,
)


class Uri:
    """An address taken apart: `T(…UriComponentsBuilder).fromUriString(text).build(true)`."""

    def __init__(self, text: str) -> None:
        """Take the address apart. Raises NotAllowed when it is none."""
        # A host without // reads as a path, as it does in Spring.
        parts = _URI.fullmatch(text)
        if parts is None or len(parts["port"] or "") > 5:
            raise NotAllowed(f"{text[:80]!r} is not an address")
        if (parts["scheme"] or "").startswith("http") and not parts["host"]:
            raise NotAllowed(f"{text[:80]!r} is not an address: a host is missing")
        self._text = text
        properties = {
            "scheme": parts["scheme"],
            "userInfo": parts["user"],
            "host": parts["host"] or None,
            "port": int(parts["port"]) if parts["port"] else -1,
            "path": parts["path"],
            "pathSegments": [part for part in parts["path"].split("/") if part],
            "query": parts["query"] or None,
            "queryParams": self._query(parts["query"] or ""),
            "fragment": parts["fragment"] or None,
        }
        getters: Table = {f"get{name[0].upper()}{name[1:]}": (functools.partial(properties.get, name), "")
                   for name in properties}  # fmt: skip
        steps: Table = {
            "build": (lambda *_: self, "any?"),
            "encode": (lambda: self, ""),
            "toString": (lambda: text, ""),
            "toUriString": (lambda: text, ""),
        }
        self.methods = _methods("UriComponents", steps | getters)

    def __str__(self) -> str:
        return self._text

    @staticmethod
    def _query(query: str) -> dict[str, list[str | None]]:
        parameters: dict[str, list[str | None]] = {}
        for name, equals, value in re.findall(r"([^&=]+)(=?)([^&]*)", query):
            parameters.setdefault(name, []).append(value if equals else None)
        return parameters

    @staticmethod
    def from_text(text: str) -> "Uri":
        """Return the address in a text."""
        return Uri(text)


# Classes


def _join(separator: str, *items: Any) -> str:
    many = items[0] if len(items) == 1 and isinstance(items[0], list) else items
    if items == (None,) or not all(item is None or isinstance(item, str) for item in many):
        kinds = ",".join(map(class_name, (separator, *items)))
        raise NotAllowed(f"EL1004E: Method call: Method join({kinds}) cannot be found: it joins texts")
    texts = [text_of(item) for item in many]
    if sum(map(len, texts)) + len(separator) * len(texts) > LONGEST_TEXT:
        raise NotAllowed(f"joining makes more than {LONGEST_TEXT} characters")
    return separator.join(texts)


def _parse(text: str, largest: int) -> int:
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None
    if number is None or not -largest - 1 <= number <= largest:
        raise NotAllowed(f"For input string: {text[:80]!r} is not a whole number")
    return number


def _parse_int(text: str) -> int:
    return _parse(text, _LARGEST_INTEGER)


def _parse_double(text: str) -> float:
    if not re.fullmatch(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?\s*", text[:1000], re.ASCII):
        raise NotAllowed(f"For input string: {text[:80]!r} is not a number")
    return float(text.strip().rstrip("fFdD"))


def _parse_boolean(text: object) -> bool:
    return isinstance(text, str) and text.lower() == "true"


def _round(number: float) -> int:
    if not math.isfinite(number):
        raise NotAllowed(f"{text_of(number)} cannot be rounded")
    return math.floor(number + 0.5)


def _whole(number: float, function: Callable[[float], int]) -> float:
    return float(function(number)) if math.isfinite(number) else number


def _alike(left: object, right: object) -> None:
    if isinstance(left, float) != isinstance(right, float):
        raise NotAllowed(f"EL1031E: Problem locating method ({class_name(left)},{class_name(right)})")


def _largest(left: Any, right: Any) -> Any:
    _alike(left, right)
    return max(left, right)


def _smallest(left: Any, right: Any) -> Any:
    _alike(left, right)
    return min(left, right)


def power(left: float, right: float) -> float:
    """Return Math.pow(), which knows no errors."""
    try:
        return math.pow(left, right)
    except OverflowError:
        return -math.inf if left < 0 and right % 2 == 1 else math.inf
    except ValueError:
        return math.inf if left == 0 else math.nan


def _value_of(value: object) -> str:
    if value is None:
        raise NotAllowed("null is given where a text is needed")
    return text_of(value)


_TABLES_OF_CLASSES: dict[str, Table] = {
    "java.lang.String": {"join": (_join, "text any*"), "valueOf": (_value_of, "any")},
    "java.lang.Math": {
        "abs": (abs, "number"),
        "ceil": (lambda number: _whole(number, math.ceil), "number"),
        "floor": (lambda number: _whole(number, math.floor), "number"),
        "max": (_largest, "number number"),
        "min": (_smallest, "number number"),
        "pow": (power, "number number"),
        "round": (_round, "number"),
        "sqrt": (lambda number: power(number, 0.5) if number >= 0 else math.nan, "number"),
    },
    "java.lang.Integer": {
        "parseInt": (_parse_int, "text"),
        "toHexString": (lambda number: f"{number % 2**32:x}", "integer"),
        "toString": (text_of, "integer"),
        "valueOf": (_parse_int, "text"),
    },
    "java.lang.Long": {"parseLong": (lambda text: _parse(text, 2**63 - 1), "text")},
    "java.lang.Double": {"parseDouble": (_parse_double, "text"), "toString": (text_of, "number")},
    "java.lang.Boolean": {
        "parseBoolean": (_parse_boolean, "any"),
        "toString": (text_of, "any"),
        "valueOf": (_parse_boolean, "any"),
    },
    "java.util.Arrays": {"asList": (lambda *items: list(items), "any*")},
    "java.util.List": {"of": (lambda *items: list(items), "any*")},
    "java.util.Map": {},
    "java.util.Collection": {},
    "java.util.Objects": {
        "equals": (same, "any any"),
        "isNull": (lambda value: value is None, "any"),
        "nonNull": (lambda value: value is not None, "any"),
        "requireNonNullElse": (lambda value, other: other if value is None else value, "any any"),
    },
    "java.util.regex.Pattern": {
        "matches": (lambda pattern, text: java_regex.full_match(pattern, text) is not None, "text characters"),
        "quote": (java_regex.quote, "text"),
    },
    "java.lang.Number": {},
    "java.lang.Object": {},
    "java.lang.CharSequence": {},
    "org.springframework.web.util.UriComponentsBuilder": {
        "fromHttpUrl": (Uri.from_text, "text"),
        "fromUriString": (Uri.from_text, "text"),
    },
}
_CLASSES = {name: _methods(name, table) for name, table in _TABLES_OF_CLASSES.items()}
_CONSTANTS: dict[str, dict[str, Any]] = {
    "java.lang.Math": {"PI": math.pi, "E": math.e},
    "java.lang.Integer": {"MAX_VALUE": _LARGEST_INTEGER, "MIN_VALUE": -_LARGEST_INTEGER - 1},
    "java.lang.Double": {"NaN": math.nan},
    "java.lang.Boolean": {"TRUE": True, "FALSE": False},
}


def java_class(name: str) -> JavaClass:
    """Return a class by its name; classes of java.lang need no package. Raises NotAllowed."""
    for known in (name, f"java.lang.{name}"):
        if known in _CLASSES:
            return JavaClass(known, _CLASSES[known], _CONSTANTS.get(known, {}))
    allowed = ", ".join(known for known, methods in _CLASSES.items() if methods)
    raise NotAllowed(f"EL1005E: T({name[:80]}) cannot be used; allowed are {allowed}")


def method_of(target: object, name: str) -> Callable[..., Any]:
    """Return a method of a value, bound to it. Raises NotAllowed."""
    if isinstance(target, Helper) and name in target.methods:
        return functools.partial(_call_helper, name, target.methods[name])
    methods = _methods_of(target)
    if name not in methods:
        allowed = f"; allowed are {', '.join(methods)}" if methods else ""
        owner = target.name if isinstance(target, JavaClass) else class_name(target)
        raise NotAllowed(f"EL1004E: Method call: Method {name}() cannot be found on type {owner}{allowed}")
    own = () if isinstance(target, JavaClass | Uri) else (target,)
    return lambda *arguments: methods[name].on(own, arguments)


def _methods_of(target: object) -> Mapping[str, Any]:
    if isinstance(target, JavaClass | Uri | Helper):
        return target.methods
    return next((methods for kind, methods in _TABLES if isinstance(target, kind)), {})


def _call_helper(name: str, helper: Callable[..., Any], *arguments: object) -> Any:
    if not all(isinstance(argument, str) for argument in arguments):
        raise NotAllowed(f"{name} takes texts")
    try:
        inspect.signature(helper).bind(*arguments)
    except TypeError:
        raise NotAllowed(f"{name} does not take {len(arguments)} arguments") from None
    return helper(*arguments)


def property_of(target: object, name: str) -> Any:
    """Return a property of a value: `empty` and `isEmpty` call isEmpty(), for example. Raises NotAllowed."""
    if target is None:
        raise NotAllowed(f"EL1007E: Property or field '{name}' cannot be found on null")
    if isinstance(target, JavaClass) and name in target.constants:
        return target.constants[name]
    methods = _methods_of(target) if not isinstance(target, JavaClass | Helper) else {}
    for accessor in (f"get{name[0].upper()}{name[1:]}", f"is{name[0].upper()}{name[1:]}", name):
        if accessor in methods and not methods[accessor].needed:
            return method_of(target, accessor)()
    raise NotAllowed(
        f"EL1008E: Property or field '{name}' cannot be found on object of type '{class_name(target)}'"
        + (f" (write ['{name}'] for the value of a key)" if isinstance(target, Mapping) else "")
    )


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


_STYLES = ("camel", "kebab", "pascal", "snake")


def _conversion(source: str, target: str) -> tuple[Callable[[str], str], str]:
    return lambda text: _spelt(_words(text, source), target), "text"


CASE_FUNCTIONS: dict[str, Method] = _methods(
    "the case functions",
    {
        f"{source}2{target.capitalize()}": _conversion(source, target)
        for source in _STYLES
        for target in _STYLES
        if source != target
    },
)
