"""Expressions: the part of the Spring Expression Language (SpEL) that accelerators use.

An expression reads variables and calls the methods that `java_methods` and `java_classes` list. It
reaches no other class, no file and no program. Its time, depth and results are limited.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

import lark

from accelerator_engine import java_regex
from accelerator_engine.expression_evaluation import Tree, Variables, evaluate, integer_of
from accelerator_engine.java_types import NotAllowed, as_boolean, as_text

_T = TypeVar("_T")

_EXCERPT = 80
# Spring's own limit.
_LONGEST_EXPRESSION = 10_000
_DEEPEST = 100
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
            return conversion(evaluate(self.tree, variables))
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
    return f"'{source if len(source) <= _EXCERPT else source[:_EXCERPT] + '…'}'"


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
        _check_integer(str(literal.children[0]))
    return Expression(source, tree)


def _depth(tree: Tree) -> int:
    """Return the depth of a tree, without recursion."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in node.children if isinstance(child, lark.Tree)]
    return deepest


def _check_integer(literal: str) -> None:
    digits = literal.rstrip("lL")
    largest, code, kind = _INTEGERS["L" if digits != literal else ""]
    # Python refuses to parse numbers of thousands of digits.
    if len(digits.lstrip("0")) >= 20 or integer_of(literal) > largest:
        raise InvalidExpression(f"{code}: The value {_short(literal)} cannot be parsed as an {kind}")
