"""The operators of the Spring Expression Language (SpEL) and their rules for types."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from accelerator_engine import java_regex
from accelerator_engine.java_classes import power
from accelerator_engine.java_types import (
    Character,
    JavaClass,
    NotAllowed,
    as_text,
    class_name,
    is_instance,
    is_number,
    same,
    text_of,
)

# Spring's own limits for the results of `+` and `*` with texts.
_LONGEST_SUM = 100_000
_LONGEST_PRODUCT = 256
_EXCERPT = 80


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, Character)


def unsupported(operator: str, left: object, right: object) -> NotAllowed:
    """Return the error of an operator that does not take these types."""
    kinds = f"'{class_name(left)}' and '{class_name(right)}'"
    return NotAllowed(f"EL1030E: The operator '{operator}' is not supported between objects of type {kinds}")


def _equal(left: object, right: object) -> bool:
    return left == right if is_number(left) and is_number(right) else same(left, right)


def _compare(left: Any, right: Any) -> int:
    """Return a negative number, 0 or a positive number; null is the smallest value."""
    if left is None or right is None:
        return (left is not None) - (right is not None)
    alike = class_name(left) == class_name(right) and isinstance(left, str | bool)
    if not alike and not (is_number(left) and is_number(right)):
        kinds = f"class {class_name(left)} and class {class_name(right)}"
        raise NotAllowed(f"EL1013E: Cannot compare instances of {kinds}")
    return int(left > right) - int(left < right)


def _matches(left: object, right: object) -> bool:
    if left is None:
        raise NotAllowed("EL1037E: First operand to matches operator must be a string. 'null' is not")
    if not isinstance(right, str):
        raise NotAllowed(
            f"EL1038E: Second operand to matches operator must be a string. {text_of(right)[:_EXCERPT]!r} is not"
        )
    try:
        return java_regex.full_match(right, as_text(left)) is not None
    except java_regex.InvalidRegex as error:
        raise NotAllowed(f"EL1018E: {error}") from error


def _between(value: object, bounds: object) -> bool:
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise NotAllowed("EL1017E: Right operand for the between operator has to be a two-element list")
    return _compare(value, bounds[0]) >= 0 and _compare(value, bounds[1]) <= 0


def _instance_of(value: object, right: object) -> bool:
    if not isinstance(right, JavaClass):
        raise NotAllowed(
            f"EL1028E: The operator instanceof needs the right operand to be a class, not a '{class_name(right)}'"
        )
    return is_instance(value, right)


RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": lambda left, right: _compare(left, right) < 0,
    "<=": lambda left, right: _compare(left, right) <= 0,
    ">": lambda left, right: _compare(left, right) > 0,
    ">=": lambda left, right: _compare(left, right) >= 0,
    "matches": _matches,
    "between": _between,
    "instanceof": _instance_of,
}
_SYMBOLS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "div": "/", "mod": "%"}


def symbol_of(operator: str) -> str:
    """Return the symbol of an operator that may be written as a word in any case."""
    return _SYMBOLS.get(operator.lower(), operator.lower())


def _whole(left: object, right: object) -> bool:
    return isinstance(left, int) and isinstance(right, int)


def _divide(left: float, right: float) -> float:
    if _whole(left, right):
        if right == 0:
            raise NotAllowed("/ by zero")
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    if right == 0:
        sign = math.copysign(1, left) * math.copysign(1, right)
        return math.nan if left == 0 or math.isnan(left) else sign * math.inf
    return left / right


def _modulo(left: float, right: float) -> float:
    if _whole(left, right):
        return left - _divide(left, right) * right
    return math.fmod(left, right) if right and math.isfinite(left) else math.nan


def _power(left: float, right: float) -> float:
    result = power(left, right)
    if not _whole(left, right):
        return result
    if not math.isfinite(result):
        raise OverflowError
    return int(result) if right < 0 else int(left**right)


_ARITHMETIC: dict[str, tuple[str, Callable[[float, float], float]]] = {
    "+": ("ADD", lambda left, right: left + right),
    "-": ("SUBTRACT", lambda left, right: left - right),
    "*": ("MULTIPLY", lambda left, right: left * right),
    "/": ("DIVIDE", _divide),
    "%": ("MODULUS", _modulo),
    "^": ("POWER", _power),
}


def operate(operator: str, left: object, right: object) -> float | str:
    """Return the result of an arithmetic operator. Raises NotAllowed and OverflowError."""
    name, function = _ARITHMETIC[operator]
    if is_number(left) and is_number(right):
        result = function(left, right)
        if isinstance(result, int) and result.bit_length() > 63:
            raise OverflowError
        return result
    if operator == "+" and (_is_text(left) or _is_text(right)):
        return _joined(left, right)
    if operator == "*" and _is_text(left) and isinstance(right, int) and not isinstance(right, bool):
        return _repeated(left, right)
    raise unsupported(name, left, right)


def _joined(left: object, right: object) -> str:
    # A map does not convert to text; Spring uses its toString().
    texts = (text_of(value) if isinstance(value, Mapping) else as_text(value) for value in (left, right))
    result = "".join(texts)
    if len(result) > _LONGEST_SUM:
        raise NotAllowed(
            f"EL1078E: Concatenated string is too long, exceeding the threshold of {_LONGEST_SUM} characters"
        )
    return result


def _repeated(text: str, times: int) -> str:
    if times < 0:
        raise NotAllowed(f"EL1081E: Repeat count {times} must not be negative")
    if len(text) * times > _LONGEST_PRODUCT:
        raise NotAllowed(
            f"EL1076E: Repeated text is too long, exceeding the threshold of {_LONGEST_PRODUCT} characters"
        )
    return text * times
