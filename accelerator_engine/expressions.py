"""Expressions: the part of the Spring Expression Language (SpEL) that accelerators use.

An expression reads variables and calls the methods that `java_methods` and `java_classes` list. It
reaches no other class, no file and no program. Its time, depth and results are limited.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

import lark
from lark.visitors import Interpreter

from accelerator_engine import java_regex
from accelerator_engine.case_functions import CASE_FUNCTIONS
from accelerator_engine.expression_operators import RELATIONS, operate, symbol_of, unsupported
from accelerator_engine.java_classes import java_class
from accelerator_engine.java_methods import lookup, method_of, property_of
from accelerator_engine.java_types import (
    Array,
    Entry,
    JavaClass,
    NotAllowed,
    as_boolean,
    as_integer,
    as_text,
    class_name,
    is_number,
    text_of,
)

Variables = Mapping[str, Any]
Tree = lark.Tree[lark.Token]
_T = TypeVar("_T")

_SHOWN = 80
# Spring's own limit.
_LONGEST_EXPRESSION = 10_000
_DEEPEST = 100
_SECONDS = 5.0
# The most characters that all steps of an expression may make; each value counts as 50.
_MOST_CHARACTERS = 50_000_000
_CHARACTERS_PER_VALUE = 50
_INTEGERS = {"": (2**31 - 1, "EL1035E", "int"), "L": (2**63 - 1, "EL1036E", "long")}


class InvalidExpression(ValueError):
    """An expression has a syntax error; the text is one sentence."""


class EvaluationFailed(ValueError):
    """An expression fails with these variables; the text is one sentence."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression."""

    source: str
    tree: Tree

    def value(self, variables: Variables) -> Any:
        """Return the value, which may be None. Raises EvaluationFailed."""
        return self._guarded(variables, lambda value: value)

    def required(self, variables: Variables) -> Any:
        """Return the value. Raises EvaluationFailed, also when it is null."""
        return self._guarded(variables, self._not_null)

    def text(self, variables: Variables) -> str:
        """Return the value as text, a list with commas. Raises EvaluationFailed, also for null and a map."""
        return self._guarded(variables, lambda value: as_text(self._not_null(value)))

    def condition(self, variables: Variables) -> bool:
        """Return the value as true or false. Raises EvaluationFailed, also for null."""
        return self._guarded(variables, lambda value: as_boolean(self._not_null(value)))

    @property
    def names(self) -> frozenset[str]:
        """The names of the variables in the expression."""
        variables = self.tree.find_data("variable")
        return frozenset(str(tree.children[0]) for tree in variables) - {"this", "root"}

    def _guarded(self, variables: Variables, conversion: Callable[[Any], _T]) -> _T:
        try:
            return conversion(_Evaluation(variables).result(self.tree))
        except (NotAllowed, java_regex.InvalidRegex) as error:
            raise EvaluationFailed(f"Expression {_short(self.source)} cannot be evaluated: {error}") from error
        except (OverflowError, RecursionError, MemoryError, TimeoutError) as error:
            raise EvaluationFailed(f"Expression {_short(self.source)} needs too much time or memory") from error

    def _not_null(self, value: object) -> Any:
        if value is None:
            raise EvaluationFailed(f"Expression {_short(self.source)} evaluated to null")
        return value


def _short(source: str) -> str:
    source = " ".join(source.split())
    return f"'{source if len(source) <= _SHOWN else source[:_SHOWN] + '…'}'"


@functools.cache
def _parser() -> lark.Lark:
    grammar = resources.files("accelerator_engine").joinpath("expressions.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr")


@functools.lru_cache(maxsize=256)
def parse(source: str) -> Expression:
    """Parse an expression. Raises InvalidExpression."""
    if len(source) > _LONGEST_EXPRESSION:
        raise InvalidExpression(f"SpEL expression {_short(source)} is longer than {_LONGEST_EXPRESSION} characters")
    try:
        tree = _parser().parse(source)
    except lark.UnexpectedInput as error:
        token = getattr(error, "token", None)
        at = len(source) if token is not None and token.type == "$END" else error.pos_in_stream or 0
        raise InvalidExpression(f"could not parse SpEL expression {_short(source)} at position {at + 1}") from error
    if _depth(tree) > _DEEPEST:
        raise InvalidExpression(f"SpEL expression {_short(source)} is nested more than {_DEEPEST} deep")
    for literal in tree.find_data("integer"):
        _integer(str(literal.children[0]))
    return Expression(source, tree)


def _depth(tree: Tree) -> int:
    """Return the depth of a tree, without recursion."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in node.children if isinstance(child, lark.Tree)]
    return deepest


def _integer(literal: str) -> int:
    digits = literal.rstrip("lL")
    largest, code, kind = _INTEGERS["L" if digits != literal else ""]
    # Python refuses to parse numbers of thousands of digits.
    number = int(digits, 16 if digits[:2] in ("0x", "0X") else 10) if len(digits.lstrip("0")) < 20 else math.inf
    if number > largest:
        raise InvalidExpression(f"{code}: The value {_short(literal)} cannot be parsed as an {kind}")
    return int(number)


def _parts(value: object) -> Iterator[object]:
    """Return a value and all values within it, without recursion."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, list | Mapping):
            waiting += part.values() if isinstance(part, Mapping) else part


class _Evaluation(Interpreter[lark.Token, Any]):
    """Evaluates a tree, but only the branches that are taken."""

    def __init__(self, variables: Variables) -> None:
        super().__init__()
        self._variables = variables
        # The current element of each open selection or projection.
        self._this: list[Any] = [None]
        self._deadline = time.monotonic() + _SECONDS
        self._characters = 0

    def result(self, tree: Tree) -> Any:
        """Return the value of the whole expression. Raises NotAllowed."""
        value = self._of(tree)
        for part in _parts(value):
            if isinstance(part, JavaClass | Entry):
                raise NotAllowed(f"the result holds a {class_name(part)}, which is not a value")
        return value

    def _of(self, tree: Any) -> Any:
        if time.monotonic() > self._deadline:
            raise TimeoutError
        return self.visit(tree)

    def _made(self, value: Any) -> Any:
        """Return a new value. Raises MemoryError when the values so far are too large."""
        for part in _parts(value):
            self._characters += _CHARACTERS_PER_VALUE + (len(part) if isinstance(part, str) else 0)
            if self._characters > _MOST_CHARACTERS:
                raise MemoryError
        return value

    # Literals

    def string(self, tree: Tree) -> str:
        token = str(tree.children[0])
        return token[1:-1].replace(token[0] * 2, token[0])

    def integer(self, tree: Tree) -> int:
        return _integer(str(tree.children[0]))

    def real(self, tree: Tree) -> float:
        return float(str(tree.children[0]).rstrip("fFdD"))

    def true(self, _: Tree) -> bool:
        return True

    def false(self, _: Tree) -> bool:
        return False

    def null(self, _: Tree) -> None:
        return None

    def items(self, tree: Tree) -> list[Any]:
        return self._made([self._of(child) for child in tree.children])  # type: ignore[no-any-return]

    def entries(self, tree: Tree) -> dict[Any, Any]:
        return self._made(dict(map(self._entry, tree.children)))  # type: ignore[no-any-return]

    def _entry(self, tree: Any) -> tuple[Any, Any]:
        key, value = tree.children
        name = str(key.children[0]) if key.data == "own_property" else self._of(key)
        if isinstance(name, list | Mapping):
            raise NotAllowed(f"{text_of(name)[:_SHOWN]!r} cannot be a key")
        return name, self._of(value)

    # Names

    def variable(self, tree: Tree) -> Any:
        name = str(tree.children[0])
        if name in ("this", "root"):
            return self._this[-1 if name == "this" else 0]
        return self._variables.get(name)

    def function(self, tree: Tree) -> Any:
        name = str(tree.children[0])
        if self._variables.get(name) is not None:
            raise NotAllowed(f"EL1022E: '{name}' is a value, not a function")
        if name not in CASE_FUNCTIONS:
            raise NotAllowed(f"EL1006E: Function '{name}' could not be found; there are {', '.join(CASE_FUNCTIONS)}")
        return self._made(CASE_FUNCTIONS[name](*self._arguments(tree.children[1])))

    def java_class(self, tree: Tree) -> JavaClass:
        return java_class("".join(map(str, tree.children[1:])))

    # Syntax that is refused

    def constructor(self, _: Tree) -> None:
        raise NotAllowed("new creates an object, which is not allowed")

    def bean(self, tree: Tree) -> None:
        raise NotAllowed(f"there is no bean {tree.children[0]}")

    def assignment(self, _: Tree) -> None:
        raise NotAllowed("= assigns, which is not allowed; use == to compare")

    def step(self, _: Tree) -> None:
        raise NotAllowed("++ and -- assign, which is not allowed")

    # Properties, methods, elements

    def own_property(self, tree: Tree) -> Any:
        return self._property(self._this[-1], str(tree.children[0]))

    def own_method(self, tree: Tree) -> Any:
        return self._method(self._this[-1], str(tree.children[0]), tree.children[1])

    def own_index(self, tree: Tree) -> Any:
        return self._element(self._this[-1], tree.children[0])

    def chain(self, tree: Tree) -> Any:
        value = self._of(tree.children[0])
        for link in tree.children[1:]:
            value = self._linked(value, link)
        return value

    def _linked(self, value: Any, link: Any) -> Any:
        if link.data == "index":
            return self._element(value, link.children[0])
        dot, name, *rest = link.children
        if value is None and dot == "?.":
            return None
        links: dict[str, Callable[..., Any]] = {
            "property": self._property,
            "method": self._method,
            "selection": self._selection,
            "projection": self._projection,
        }
        return links[link.data](value, str(name), *rest)

    def _property(self, target: Any, name: str) -> Any:
        return self._made(property_of(target, name))

    def _method(self, target: Any, name: str, arguments: Any) -> Any:
        values = self._arguments(arguments)
        if target is None:
            kinds = ",".join(map(class_name, values))
            raise NotAllowed(f"EL1011E: Method call: Attempted to call method {name}({kinds}) on null")
        return self._made(method_of(target, name)(*values))

    def _arguments(self, tree: Any) -> list[Any]:
        return [self._of(child) for child in tree.children]

    def _element(self, target: Any, tree: Any) -> Any:
        if target is None:
            raise NotAllowed("EL1012E: Cannot index into a null value")
        # A bare word is a key of a map: #map[key].
        is_word = isinstance(target, Mapping) and tree.data == "own_property"
        key = str(tree.children[0]) if is_word else self._of(tree)
        if key is None:
            raise NotAllowed("the index is null")
        if isinstance(target, Mapping):
            return lookup(target, key)
        if not isinstance(target, list | str):
            raise NotAllowed(f"EL1027E: Indexing into type '{class_name(target)}' is not supported")
        at = as_integer(key)
        if not 0 <= at < len(target):
            code = "EL1026E" if isinstance(target, str) else "EL1025E"
            raise NotAllowed(f"{code}: there is no index {at} where there are {len(target)} elements")
        return target[at]

    # Collections

    def _selection(self, target: Any, operator: str, criterion: Any) -> Any:
        if not isinstance(target, list | Mapping):
            raise NotAllowed(f"EL1015E: Cannot perform selection on input data of type '{class_name(target)}'")
        selected = [item for item in self._items(target) if self._selected(item, criterion)]
        if operator != "?[":
            selected = selected[:1] if operator == "^[" else selected[-1:]
            if not selected or not isinstance(target, Mapping):
                return selected[0] if selected else None
        if isinstance(target, Mapping):
            return self._made({entry.key: entry.value for entry in selected})
        return self._like(target, selected)

    def _selected(self, item: Any, criterion: Any) -> bool:
        selected = self._with_this(item, criterion)
        if not isinstance(selected, bool):
            raise NotAllowed("EL1016E: Result of selection criteria is not boolean")
        return selected

    def _projection(self, target: Any, _: str, expression: Any) -> Any:
        if not isinstance(target, list | Mapping):
            raise NotAllowed(f"EL1019E: Projection is not supported on the type '{class_name(target)}'")
        return self._like(target, [self._with_this(item, expression) for item in self._items(target)])

    def _like(self, target: Any, items: list[Any]) -> Any:
        return self._made(Array(items) if isinstance(target, Array) else items)

    def _items(self, target: Any) -> list[Any]:
        return [Entry(*entry) for entry in target.items()] if isinstance(target, Mapping) else target

    def _with_this(self, item: Any, tree: Any) -> Any:
        self._this.append(item)
        try:
            return self._of(tree)
        finally:
            self._this.pop()

    # Operators

    def unary(self, tree: Tree) -> Any:
        operator, operand = str(tree.children[0]), self._of(tree.children[1])
        if operator not in ("+", "-"):
            return not as_boolean(operand)
        if not is_number(operand):
            raise unsupported("ADD" if operator == "+" else "SUBTRACT", operand, None)
        # As in Spring, the negative of 0.0 is 0.0.
        return 0 - operand if operator == "-" else operand

    def _arithmetic(self, tree: Tree) -> Any:
        """Evaluate from left to right: the children are values with operators between them."""
        left = self._of(tree.children[0])
        for operator, right in zip(tree.children[1::2], tree.children[2::2], strict=True):
            left = self._made(operate(symbol_of(str(operator)), left, self._of(right)))
        return left

    sum = product = power = _arithmetic

    def relation(self, tree: Tree) -> bool:
        left, operator, right = tree.children
        return RELATIONS[symbol_of(str(operator))](self._of(left), self._of(right))

    def conjunction(self, tree: Tree) -> bool:
        return all(as_boolean(self._of(child)) for child in tree.children[::2])

    def disjunction(self, tree: Tree) -> bool:
        return any(as_boolean(self._of(child)) for child in tree.children[::2])

    def ternary(self, tree: Tree) -> Any:
        condition, if_true, if_false = tree.children
        return self._of(if_true if as_boolean(self._of(condition)) else if_false)

    def elvis(self, tree: Tree) -> Any:
        expression, default = tree.children
        value = self._of(expression)
        return self._of(default) if value is None or value == "" else value
