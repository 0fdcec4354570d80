"""Expressions: the part of the Spring Expression Language (SpEL) that accelerators use.

An expression can read variables and call what `java_types` allows, and nothing else: no class, file
or program can be reached from it.
"""

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import lark
from lark.visitors import Interpreter

from accelerator_engine import java_regex
from accelerator_engine.java_types import (
    CASE_FUNCTIONS,
    LONGEST_TEXT,
    NotAllowed,
    Uri,
    as_boolean,
    class_name,
    java_class,
    method_of,
    text_of,
)

Variables = Mapping[str, Any]

_SHOWN = 80
# Deeper nesting than this is refused rather than followed.
_DEEPEST = 100


class InvalidExpression(ValueError):
    """An expression that cannot be read; the text is one sentence."""


class EvaluationFailed(ValueError):
    """An expression that cannot be evaluated with these variables; the text is one sentence."""


@dataclass(frozen=True)
class Expression:
    """An expression that has been read."""

    source: str
    tree: lark.Tree[lark.Token]

    def value(self, variables: Variables) -> Any:  # noqa: ANN401
        """Return the value, which may be None. Raises EvaluationFailed."""
        try:
            return _Evaluation(variables).visit(self.tree)
        except (NotAllowed, java_regex.InvalidRegex) as error:
            raise EvaluationFailed(f"Expression {_short(self.source)} cannot be evaluated: {error}") from error
        except (OverflowError, RecursionError, MemoryError, TimeoutError) as error:
            raise EvaluationFailed(f"Expression {_short(self.source)} asks for too much") from error

    def required(self, variables: Variables) -> Any:  # noqa: ANN401
        """Return the value. Raises EvaluationFailed, also when it is null."""
        value = self.value(variables)
        if value is None:
            raise EvaluationFailed(f"Expression {_short(self.source)} evaluated to null")
        return value

    def text(self, variables: Variables) -> str:
        """Return the value as text. Raises as `required` does."""
        return text_of(self.required(variables))

    def condition(self, variables: Variables) -> bool:
        """Return the value as true or false. Raises as `required` does."""
        value = self.required(variables)
        try:
            return as_boolean(value)
        except NotAllowed as error:
            raise EvaluationFailed(f"Expression {_short(self.source)}: {error}") from error

    @property
    def names(self) -> frozenset[str]:
        """The variables that it refers to."""
        found = self.tree.find_pred(lambda tree: tree.data == "variable")
        return frozenset(str(tree.children[0]) for tree in found) - {"this", "root"}


def _short(source: str) -> str:
    source = " ".join(source.split())
    return f"'{source if len(source) <= _SHOWN else source[:_SHOWN] + '…'}'"


@functools.cache
def _parser() -> lark.Lark:
    grammar = resources.files("accelerator_engine").joinpath("expressions.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr")


@functools.lru_cache(maxsize=4096)
def parse(source: str) -> Expression:
    """Read an expression. Raises InvalidExpression."""
    try:
        tree = _parser().parse(source)
    except lark.UnexpectedInput as error:
        at = error.column if isinstance(error.column, int) and error.column > 0 else len(source) + 1
        raise InvalidExpression(f"could not parse SpEL expression {_short(source)} at position {at}") from error
    if _depth(tree) > _DEEPEST:
        raise InvalidExpression(f"SpEL expression {_short(source)} is nested more than {_DEEPEST} deep")
    return Expression(source, tree)


def _depth(tree: lark.Tree[lark.Token]) -> int:
    """Return how deep the tree is, without recursion."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in node.children if isinstance(child, lark.Tree)]
    return deepest


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(left: object, right: object) -> bool:
    if _number(left) and _number(right):
        return left == right
    return type(left) is type(right) and left == right or (
        isinstance(left, list | Mapping) and isinstance(right, list | Mapping) and left == right
    )


def _compare(left: Any, right: Any) -> int:  # noqa: ANN401
    """Return a negative number, 0 or a positive one; null comes before everything."""
    if left is None or right is None:
        return (left is not None) - (right is not None)
    if (_number(left) and _number(right)) or type(left) is type(right) is not dict:
        return int(left > right) - int(left < right)
    raise NotAllowed(f"Cannot compare instances of {class_name(left)} and {class_name(right)}")


def _divide(left: float, right: float) -> float:
    if right == 0:
        if isinstance(left, int) and isinstance(right, int):
            raise NotAllowed("/ by zero")
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _modulo(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int):
        return left - int(_divide(left, right)) * right
    return math.fmod(left, right) if right else math.nan


def _power(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int):
        if abs(right) * max(abs(left).bit_length(), 1) > 64:
            raise OverflowError
        return int(left**right)
    return math.pow(left, right)


_ARITHMETIC = {"-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": _divide, "div": _divide, "%": _modulo, "mod": _modulo, "^": _power}
_ORDER = {
    "==": _equal, "eq": _equal,
    "!=": lambda a, b: not _equal(a, b), "ne": lambda a, b: not _equal(a, b),
    "<": lambda a, b: _compare(a, b) < 0, "lt": lambda a, b: _compare(a, b) < 0,
    "<=": lambda a, b: _compare(a, b) <= 0, "le": lambda a, b: _compare(a, b) <= 0,
    ">": lambda a, b: _compare(a, b) > 0, "gt": lambda a, b: _compare(a, b) > 0,
    ">=": lambda a, b: _compare(a, b) >= 0, "ge": lambda a, b: _compare(a, b) >= 0,
}  # fmt: skip


def _matches(left: object, right: object) -> bool:
    if not isinstance(left, str) or not isinstance(right, str):
        raise NotAllowed("matches compares a text with a regular expression")
    return java_regex.full_match(right, left) is not None


def _between(value: object, bounds: object) -> bool:
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise NotAllowed("between takes a list of two values")
    return _compare(value, bounds[0]) >= 0 and _compare(value, bounds[1]) <= 0


def _add(left: Any, right: Any) -> Any:  # noqa: ANN401
    if _number(left) and _number(right):
        return left + right
    if isinstance(left, str) or isinstance(right, str):
        result = text_of(left) + text_of(right)
        if len(result) > LONGEST_TEXT:
            raise OverflowError
        return result
    raise NotAllowed(f"The operator 'ADD' is not supported between objects of type {_kinds(left, right)}")


def _kinds(left: object, right: object) -> str:
    return " and ".join(f"'{class_name(value)}'" if value is not None else "'null'" for value in (left, right))


def _call(name: str, method: Any, arguments: list[Any]) -> Any:  # noqa: ANN401
    """Call a method, and say it in a sentence when the arguments are not what it takes."""
    kinds = ", ".join(map(class_name, arguments))
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError:
        raise NotAllowed(f"{name} does not take ({kinds})") from None
    except ValueError:
        pass  # a function of Python itself, whose signature is not known
    try:
        return method(*arguments)
    except (TypeError, AttributeError):
        raise NotAllowed(f"{name} does not take ({kinds})") from None


class _Evaluation(Interpreter[lark.Token, Any]):
    """Walks through an expression; what lies on a branch not taken is not evaluated."""

    def __init__(self, variables: Variables) -> None:
        super().__init__()
        self._variables = variables
        # The element in hand within a selection or projection.
        self._this: list[Any] = [None]

    def _of(self, tree: Any) -> Any:  # noqa: ANN401
        return self.visit(tree)

    # Literals

    def string(self, tree: lark.Tree[lark.Token]) -> str:
        token = str(tree.children[0])
        return token[1:-1].replace(token[0] * 2, token[0])

    def integer(self, tree: lark.Tree[lark.Token]) -> int:
        return int(str(tree.children[0]).rstrip("lL"))

    def hexadecimal(self, tree: lark.Tree[lark.Token]) -> int:
        return int(str(tree.children[0]).rstrip("lL"), 16)

    def real(self, tree: lark.Tree[lark.Token]) -> float:
        return float(str(tree.children[0]).rstrip("fFdD"))

    def true(self, _: lark.Tree[lark.Token]) -> bool:
        return True

    def false(self, _: lark.Tree[lark.Token]) -> bool:
        return False

    def null(self, _: lark.Tree[lark.Token]) -> None:
        return None

    def items(self, tree: lark.Tree[lark.Token]) -> list[Any]:
        return [self._of(child) for child in tree.children if child is not None]

    def entries(self, tree: lark.Tree[lark.Token]) -> dict[str, Any]:
        return dict(self._entry(entry) for entry in tree.children)

    def _entry(self, tree: Any) -> tuple[str, Any]:
        key, value = tree.children
        name = str(key.children[0]) if key.data == "root_property" else text_of(self._of(key))
        return name, self._of(value)

    # Names

    def variable(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        name = str(tree.children[0])
        if name in ("this", "root"):
            return self._this[-1 if name == "this" else 0]
        return self._variables.get(name)

    def function(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        name = str(tree.children[0])
        if name not in CASE_FUNCTIONS:
            raise NotAllowed(f"there is no function #{name}; there are {', '.join(CASE_FUNCTIONS)}")
        return _call(f"#{name}", CASE_FUNCTIONS[name], self._arguments(tree.children[1]))

    def java_class(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        return java_class("".join(map(str, tree.children[1:])))

    def constructor(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        raise NotAllowed("new makes objects, which is not allowed")

    def bean(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        raise NotAllowed(f"there is no bean {tree.children[0]}")

    def assignment(self, _: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        raise NotAllowed("= assigns, which is not allowed (== compares)")

    # Properties and methods

    def root_property(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        return self._property(self._this[-1], str(tree.children[0]))

    def root_method(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        return self._method(self._this[-1], str(tree.children[0]), tree.children[1])

    def named(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        target = self._of(tree.children[0])
        if target is None and tree.children[1] == "?.":
            return None
        return self._property(target, str(tree.children[2]))

    def _property(self, target: Any, name: str) -> Any:  # noqa: ANN401
        if target is None:
            raise NotAllowed(f"EL1007E: Property or field '{name}' cannot be found on null")
        if isinstance(target, Mapping) and name in target:
            return target[name]
        if isinstance(target, Uri) and name in target.properties:
            return target.properties[name]
        if isinstance(target, str | list) and name == "empty":
            return not target
        raise NotAllowed(f"EL1008E: Property or field '{name}' cannot be found on {class_name(target)}")

    def method(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        target = self._of(tree.children[0])
        if target is None and tree.children[1] == "?.":
            return None
        return self._method(target, str(tree.children[2]), tree.children[3])

    def _method(self, target: Any, name: str, arguments: Any) -> Any:  # noqa: ANN401
        if target is None:
            raise NotAllowed(f"EL1011E: Attempted to call method {name} on null")
        return _call(name, method_of(target, name), self._arguments(arguments))

    def _arguments(self, tree: Any) -> list[Any]:  # noqa: ANN401
        return [self._of(child) for child in tree.children if child is not None]

    def index(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        target, key = (self._of(child) for child in tree.children)
        if target is None:
            raise NotAllowed("EL1012E: Cannot index into a null value")
        if isinstance(target, Mapping):
            return target.get(key if key in target else text_of(key))
        if isinstance(target, list | str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise NotAllowed(f"{text_of(key)!r} is no position")
            if not 0 <= key < len(target):
                raise NotAllowed(f"EL1025E: there is no item {key} in one of length {len(target)}")
            return target[key]
        raise NotAllowed(f"{class_name(target)} cannot be indexed")

    # Collections

    def selection(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        target, operator, criterion = tree.children
        items = self._items(self._of(target), str(operator))
        if items is None:
            return None
        chosen = [item for item in items if as_boolean(self._with_this(item, criterion))]
        if str(operator)[-2] == "?":
            return chosen
        if not chosen:
            return None
        return chosen[0 if str(operator)[-2] == "^" else -1]

    def projection(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        target, operator, expression = tree.children
        items = self._items(self._of(target), str(operator))
        return None if items is None else [self._with_this(item, expression) for item in items]

    def _items(self, target: Any, operator: str) -> Any:  # noqa: ANN401
        if target is None and operator.startswith("?."):
            return None
        if not isinstance(target, list):
            raise NotAllowed(f"{class_name(target)} is not a list")
        return target

    def _with_this(self, item: Any, tree: Any) -> Any:  # noqa: ANN401
        self._this.append(item)
        try:
            return self._of(tree)
        finally:
            self._this.pop()

    # Operators

    def unary(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        operator, operand = str(tree.children[0]), self._of(tree.children[1])
        if operator not in ("+", "-"):
            return not as_boolean(operand)
        if not _number(operand):
            raise NotAllowed(f"{operator} needs a number, and {text_of(operand)!r} is none")
        return -operand if operator == "-" else operand

    def binary(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        left_tree, token, right_tree = tree.children
        operator, left = str(token).lower(), self._of(left_tree)
        if operator in ("&&", "and"):
            return as_boolean(left) and as_boolean(self._of(right_tree))
        if operator in ("||", "or"):
            return as_boolean(left) or as_boolean(self._of(right_tree))
        return self._operate(operator, left, self._of(right_tree))

    def _operate(self, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        if operator == "+":
            return _add(left, right)
        if operator in _ORDER:
            return _ORDER[operator](left, right)
        if operator == "matches":
            return _matches(left, right)
        if operator == "between":
            return _between(left, right)
        if operator == "instanceof":
            return class_name(left) == getattr(right, "name", None)
        if operator == "*" and isinstance(left, str) and isinstance(right, int):
            return method_of(left, "repeat")(right)
        if not _number(left) or not _number(right):
            raise NotAllowed(f"The operator '{operator}' is not supported between objects of type {_kinds(left, right)}")
        return _ARITHMETIC[operator](left, right)

    def ternary(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        question, yes, no = tree.children
        return self._of(yes if as_boolean(self._of(question)) else no)

    def elvis(self, tree: lark.Tree[lark.Token]) -> Any:  # noqa: ANN401
        value, otherwise = tree.children
        found = self._of(value)
        return self._of(otherwise) if found is None or found == "" else found

