"""The evaluation of expressions, with limits on time and memory."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lark
from lark.visitors import Interpreter

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
    class_name,
    is_number,
    text_of,
)

Variables = Mapping[str, Any]
Tree = lark.Tree[lark.Token]

_EXCERPT = 80
_SECONDS = 5.0
# The most characters that all steps of an expression may make; each value counts as 50.
_MOST_CHARACTERS = 50_000_000
_CHARACTERS_PER_VALUE = 50


def evaluate(tree: Tree, variables: Variables) -> Any:
    """Return the value of a parsed expression.

    Raises NotAllowed and InvalidRegex, and for too much time or memory TimeoutError, MemoryError,
    OverflowError or RecursionError.
    """
    return _Evaluator(variables).result(tree)


def integer_of(literal: str) -> int:
    """Return the value of an integer literal, which may end with L."""
    digits = literal.rstrip("lL")
    return int(digits, 16 if digits[:2] in ("0x", "0X") else 10)


def _parts(value: object) -> Iterator[object]:
    """Return a value and all values within it, without recursion."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, list | Mapping):
            waiting += part.values() if isinstance(part, Mapping) else part


def _subtrees(tree: Tree) -> list[Tree]:
    """Return the children of a tree without tokens, which are operators and names."""
    return [child for child in tree.children if isinstance(child, lark.Tree)]


def _tokens(tree: Tree) -> list[str]:
    return [str(child) for child in tree.children if isinstance(child, lark.Token)]


class _Evaluator(Interpreter[lark.Token, Any]):
    """Evaluates a tree, but only the branches that are taken."""

    def __init__(self, variables: Variables) -> None:
        super().__init__()
        self._variables = variables
        # The current element of each open selection or projection.
        self._this: list[Any] = [None]
        self._deadline = time.monotonic() + _SECONDS
        self._characters = 0

    def result(self, tree: Tree) -> Any:
        """Return the value of the whole expression."""
        value = self._of(tree)
        for part in _parts(value):
            if isinstance(part, JavaClass | Entry):
                raise NotAllowed(f"the result holds a {class_name(part)}, which is not a value")
        return value

    def _of(self, tree: Tree) -> Any:
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
        return integer_of(str(tree.children[0]))

    def real(self, tree: Tree) -> float:
        return float(str(tree.children[0]).rstrip("fFdD"))

    def true(self, _: Tree) -> bool:
        return True

    def false(self, _: Tree) -> bool:
        return False

    def null(self, _: Tree) -> None:
        return None

    def items(self, tree: Tree) -> list[Any]:
        return self._made(self._values(tree))  # type: ignore[no-any-return]

    def entries(self, tree: Tree) -> dict[Any, Any]:
        return self._made(dict(map(self._entry, _subtrees(tree))))  # type: ignore[no-any-return]

    def _entry(self, tree: Tree) -> tuple[Any, Any]:
        key, value = _subtrees(tree)
        name = str(key.children[0]) if key.data == "own_property" else self._of(key)
        if isinstance(name, list | Mapping):
            raise NotAllowed(f"{text_of(name)[:_EXCERPT]!r} cannot be a key")
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
        return self._made(CASE_FUNCTIONS[name](*self._values(*_subtrees(tree))))

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
        return self._method(self._this[-1], str(tree.children[0]), *_subtrees(tree))

    def own_index(self, tree: Tree) -> Any:
        return self._element(self._this[-1], *_subtrees(tree))

    def chain(self, tree: Tree) -> Any:
        first, *links = _subtrees(tree)
        value = self._of(first)
        for link in links:
            value = self._linked(value, link)
        return value

    def _linked(self, value: Any, link: Tree) -> Any:
        if link.data == "index":
            return self._element(value, *_subtrees(link))
        dot, name = _tokens(link)
        if value is None and dot == "?.":
            return None
        links: dict[str, Callable[..., Any]] = {
            "property": self._property,
            "method": self._method,
            "selection": self._selection,
            "projection": self._projection,
        }
        return links[link.data](value, name, *_subtrees(link))

    def _property(self, target: Any, name: str) -> Any:
        return self._made(property_of(target, name))

    def _method(self, target: Any, name: str, arguments: Tree) -> Any:
        values = self._values(arguments)
        if target is None:
            kinds = ",".join(map(class_name, values))
            raise NotAllowed(f"EL1011E: Method call: Attempted to call method {name}({kinds}) on null")
        return self._made(method_of(target, name)(*values))

    def _values(self, tree: Tree) -> list[Any]:
        return [self._of(child) for child in _subtrees(tree)]

    def _element(self, target: Any, tree: Tree) -> Any:
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

    def _selection(self, target: Any, operator: str, criterion: Tree) -> Any:
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

    def _selected(self, item: Any, criterion: Tree) -> bool:
        selected = self._with_this(item, criterion)
        if not isinstance(selected, bool):
            raise NotAllowed("EL1016E: Result of selection criteria is not boolean")
        return selected

    def _projection(self, target: Any, _: str, expression: Tree) -> Any:
        if not isinstance(target, list | Mapping):
            raise NotAllowed(f"EL1019E: Projection is not supported on the type '{class_name(target)}'")
        return self._like(target, [self._with_this(item, expression) for item in self._items(target)])

    def _like(self, target: Any, items: list[Any]) -> Any:
        return self._made(Array(items) if isinstance(target, Array) else items)

    def _items(self, target: Any) -> list[Any]:
        return [Entry(*entry) for entry in target.items()] if isinstance(target, Mapping) else target

    def _with_this(self, item: Any, tree: Tree) -> Any:
        self._this.append(item)
        try:
            return self._of(tree)
        finally:
            self._this.pop()

    # Operators

    def unary(self, tree: Tree) -> Any:
        operator, operand = str(tree.children[0]), self._of(*_subtrees(tree))
        if operator not in ("+", "-"):
            return not as_boolean(operand)
        if not is_number(operand):
            raise unsupported("ADD" if operator == "+" else "SUBTRACT", operand, None)
        # As in Spring, the negative of 0.0 is 0.0.
        return 0 - operand if operator == "-" else operand

    def _arithmetic(self, tree: Tree) -> Any:
        """Evaluate from left to right: the children are values with operators between them."""
        first, *others = _subtrees(tree)
        left = self._of(first)
        for operator, right in zip(_tokens(tree), others, strict=True):
            left = self._made(operate(symbol_of(operator), left, self._of(right)))
        return left

    sum = product = power = _arithmetic

    def relation(self, tree: Tree) -> bool:
        left, right = self._values(tree)
        return RELATIONS[symbol_of(*_tokens(tree))](left, right)

    def conjunction(self, tree: Tree) -> bool:
        return all(as_boolean(self._of(operand)) for operand in _subtrees(tree))

    def disjunction(self, tree: Tree) -> bool:
        return any(as_boolean(self._of(operand)) for operand in _subtrees(tree))

    def ternary(self, tree: Tree) -> Any:
        condition, if_true, if_false = _subtrees(tree)
        return self._of(if_true if as_boolean(self._of(condition)) else if_false)

    def elvis(self, tree: Tree) -> Any:
        expression, default = _subtrees(tree)
        value = self._of(expression)
        return self._of(default) if value is None or value == "" else value
