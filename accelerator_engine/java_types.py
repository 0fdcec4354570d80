"""The Java types of the values in expressions, and the conversions between them.

Values are those of JSON: str, bool, int, float, None, list and dict stand for java.lang.String, Boolean,
Integer (Long for larger numbers), Double, null, List and Map.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard

# The most characters of a text that an expression makes: repeat() could fill the memory.
LONGEST_TEXT = 10_000_000

LARGEST_INTEGER = 2**31 - 1


class NotAllowed(ValueError):
    """An expression does something forbidden or impossible; the text is one sentence."""


class Character(str):
    """The result of `charAt`: it equals no text, but concatenates with one."""

    __slots__ = ()


class Array(list[Any]):
    """The result of `split`: it has a length, but none of a list's methods."""

    __slots__ = ()


@dataclass(frozen=True)
class Entry:
    """A key and its value: the element of a map in a selection or projection."""

    key: object
    value: object

    def __str__(self) -> str:
        return f"{text_of(self.key)}={text_of(self.value)}"


@dataclass(frozen=True)
class Method:
    """A method with the kinds of its arguments: `?` marks an optional one, `*` any number of them."""

    name: str
    function: Callable[..., Any]
    kinds: tuple[str, ...]
    owner: str

    def __call__(self, *arguments: object) -> Any:
        """Call the method without a target. Raises NotAllowed, also for arguments of other kinds."""
        return self.call_on((), arguments)

    def call_on(self, target: tuple[object, ...], arguments: tuple[object, ...]) -> Any:
        """Call the method with its target as the first argument. Raises NotAllowed."""
        kinds = self.kinds
        if kinds and kinds[-1].endswith("*"):
            kinds = kinds[:-1] + kinds[-1:] * (len(arguments) - len(kinds) + 1)
        fits = self.needed <= len(arguments) <= len(kinds)
        if not fits:
            raise self._not_found(arguments)
        try:
            values = [
                _CONVERSIONS[kind.rstrip("?*")](argument) for kind, argument in zip(kinds, arguments, strict=False)
            ]
        except _WrongKind:
            raise self._not_found(arguments) from None
        return self.function(*target, *values)

    @property
    def needed(self) -> int:
        """The number of arguments that must be present."""
        return sum(kind[-1] not in "?*" for kind in self.kinds)

    def _not_found(self, arguments: tuple[object, ...]) -> NotAllowed:
        kinds = ",".join(map(class_name, arguments))
        return NotAllowed(f"EL1004E: Method call: Method {self.name}({kinds}) cannot be found on {self.owner}")


class _WrongKind(Exception):
    """An argument is not of the kind that the method takes."""


@dataclass(frozen=True)
class Helper:
    """An object with its own methods, such as `#files`."""

    methods: Mapping[str, Callable[..., Any]]

    def __str__(self) -> str:
        return f"an object with {', '.join(self.methods)}"


@dataclass(frozen=True)
class JavaClass:
    """A class that `T(…)` names, with its static methods and constants."""

    name: str
    methods: Mapping[str, Method]
    constants: Mapping[str, object]

    def __str__(self) -> str:
        return f"class {self.name}"


# Classes, texts and equality


def class_name(value: object) -> str:
    """Return the name of a value's Java class, for messages."""
    if value is None:
        return "null"
    if isinstance(value, int) and not isinstance(value, bool):
        return "java.lang.Integer" if abs(value) <= LARGEST_INTEGER + (value < 0) else "java.lang.Long"
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
    """Return whether a value is an instance of a class."""
    name = class_name(value)
    return value is not None and java.name in (name, "java.lang.Object", *_ABOVE.get(name, ()))


def text_of(value: object) -> str:
    """Return the toString() of a value: null, true, 1.0, [a, b], {k=v}."""
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
    """Return Double.toString(): the shortest digits, with an exponent outside 10⁻³ … 10⁷."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else text + ".0"
    sign, digits, _ = Decimal(repr(value)).normalize().as_tuple()
    rest = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{rest}E{Decimal(repr(value)).adjusted()}"


def same(left: object, right: object) -> bool:
    """Return whether Java's `equals` holds: 1 does not equal 1.0."""
    if class_name(left) != class_name(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(key in right and same(item, right[key]) for key, item in left.items())
    return left == right


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# Conversions


def _no_conversion(value: object, target: str) -> NotAllowed:
    return NotAllowed(f"EL1001E: Type conversion problem, cannot convert from {class_name(value)} to {target}")


def as_boolean(value: object) -> bool:
    """Return the truth of a condition's value. Raises NotAllowed unless it is true or false."""
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
    """Convert a value to text, a list to its items with commas. Raises NotAllowed for a map."""
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    if isinstance(value, Mapping | JavaClass | Helper | Entry):
        raise _no_conversion(value, "java.lang.String")
    return text_of(value)


def as_integer(value: object) -> int:
    """Convert a text or a double, less its fraction, to an Integer. Raises NotAllowed."""
    number = value
    if isinstance(value, float) and math.isfinite(value):
        number = int(value)
    elif isinstance(value, str):
        number = _decoded("".join(value.split()))
    if not isinstance(number, int) or isinstance(number, bool) or class_name(number) != "java.lang.Integer":
        raise _no_conversion(value, "java.lang.Integer")
    return number


def _decoded(text: str) -> int | None:
    match = re.fullmatch(r"([+-]?)(?:(?:0[xX]|#)([0-9a-fA-F]{1,16})|([0-9]{1,19}))", text)
    if match is None:
        return None
    number = int(match[2], 16) if match[2] else int(match[3])
    return -number if match[1] == "-" else number


def _to_text(value: object) -> str:
    if value is None:
        raise NotAllowed("the argument is null, and has to be a text")
    try:
        return as_text(value)
    except NotAllowed:
        raise _WrongKind from None


def _to_characters(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise _WrongKind
    return _to_text(value)


def _to_integer(value: object) -> int:
    try:
        return as_integer(value)
    except NotAllowed:
        raise _WrongKind from None


def _to_number(value: object) -> int | float:
    if not is_number(value):
        raise _WrongKind
    return value


def _to_list(value: object) -> list[Any]:
    if not isinstance(value, list) or isinstance(value, Array):
        raise _WrongKind
    return value


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "any": lambda value: value,
    "text": _to_text,  # String: nearly every value converts
    "characters": _to_characters,  # CharSequence: a text only
    "integer": _to_integer,
    "number": _to_number,
    "list": _to_list,
}


# Functions and the kinds of their arguments, by the method's name.
Table = dict[str, tuple[Callable[..., Any], str]]


def methods(owner: str, table: Table) -> dict[str, Method]:
    """Return the methods of a table, by name."""
    return {name: Method(name, function, tuple(kinds.split()), owner) for name, (function, kinds) in table.items()}
