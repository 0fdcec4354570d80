"""The Java classes that `T(…)` may name, with their static methods and constants."""

import math
import re
from collections.abc import Callable

from accelerator_engine import java_regex
from accelerator_engine.java_types import (
    LARGEST_INTEGER,
    LONGEST_TEXT,
    JavaClass,
    NotAllowed,
    Table,
    class_name,
    methods,
    same,
    text_of,
)
from accelerator_engine.java_uri import Uri


def _join(separator: str, *items: object) -> str:
    elements = items[0] if len(items) == 1 and isinstance(items[0], list) else items
    if items == (None,) or not all(item is None or isinstance(item, str) for item in elements):
        kinds = ",".join(map(class_name, (separator, *items)))
        raise NotAllowed(f"EL1004E: Method call: Method join({kinds}) cannot be found; it joins texts")
    texts = [text_of(item) for item in elements]
    if sum(map(len, texts)) + len(separator) * len(texts) > LONGEST_TEXT:
        raise NotAllowed(f"joining makes more than {LONGEST_TEXT} characters")
    return separator.join(texts)


def _parse(text: str, largest: int) -> int:
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None
    if number is None or not -largest - 1 <= number <= largest:
        raise NotAllowed(f"For input string: {text[:80]!r} is not a whole number")
    return number


def _parse_int(text: str) -> int:
    return _parse(text, LARGEST_INTEGER)


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


def _check_same_kind(left: object, right: object) -> None:
    if isinstance(left, float) != isinstance(right, float):
        raise NotAllowed(f"EL1031E: Problem locating method ({class_name(left)},{class_name(right)})")


def _largest(left: float, right: float) -> float:
    _check_same_kind(left, right)
    return max(left, right)


def _smallest(left: float, right: float) -> float:
    _check_same_kind(left, right)
    return min(left, right)


def power(left: float, right: float) -> float:
    """Return Math.pow(), which raises no error."""
    try:
        return math.pow(left, right)
    except OverflowError:
        return -math.inf if left < 0 and right % 2 == 1 else math.inf
    except ValueError:
        return math.inf if left == 0 else math.nan


def _value_of(value: object) -> str:
    if value is None:
        raise NotAllowed("the argument is null, and has to be a text")
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
_CLASSES = {name: methods(name, table) for name, table in _TABLES_OF_CLASSES.items()}
_CONSTANTS: dict[str, dict[str, object]] = {
    "java.lang.Math": {"PI": math.pi, "E": math.e},
    "java.lang.Integer": {"MAX_VALUE": LARGEST_INTEGER, "MIN_VALUE": -LARGEST_INTEGER - 1},
    "java.lang.Double": {"NaN": math.nan},
    "java.lang.Boolean": {"TRUE": True, "FALSE": False},
}


def java_class(name: str) -> JavaClass:
    """Return a class by its name; classes of java.lang need no package. Raises NotAllowed."""
    for full_name in (name, f"java.lang.{name}"):
        if full_name in _CLASSES:
            return JavaClass(full_name, _CLASSES[full_name], _CONSTANTS.get(full_name, {}))
    allowed = ", ".join(known for known, table in _CLASSES.items() if table)
    raise NotAllowed(f"EL1005E: T({name[:80]}) cannot be used; allowed are {allowed}")
