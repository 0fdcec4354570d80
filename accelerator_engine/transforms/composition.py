"""The transforms that combine other transforms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.java_types import text_of
from accelerator_engine.transforms.conflicts import UniquePath
from accelerator_engine.transforms.frame import Files, Scope, Transform
from accelerator_engine.transforms.selection import Exclude, Include, matches_any

_MOST_VALUES = 100_000


@dataclass(frozen=True, kw_only=True)
class Chain(Transform):
    """Runs transforms one after the other, with `applyTo` only on the resources that match."""

    transformations: tuple[Transform, ...] = ()
    apply_to: tuple[str, ...] | None = None

    KEYS = frozenset({"transformations", "applyTo"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run the transforms in order."""
        scope.log.info(f"Running Chain({_kinds(self.transformations)})")
        untouched: Files = []
        if self.apply_to is not None:
            selected = [matches_any(self, self.apply_to, resource, scope) for resource in files]
            untouched = [resource for resource, is_selected in zip(files, selected, strict=True) if not is_selected]
            files = [resource for resource, is_selected in zip(files, selected, strict=True) if is_selected]
        for index, transform in enumerate(self.transformations):
            files = transform.apply(files, scope, f"{title}.transformations[{index}]")
        return untouched + files

    def children(self) -> Sequence[Transform]:
        """Return the transforms of the chain."""
        return self.transformations


@dataclass(frozen=True, kw_only=True)
class Merge(Transform):
    """Concatenates the results of several transforms of the same resources."""

    sources: tuple[Transform, ...] = ()

    KEYS = frozenset({"sources"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run each transform on all files."""
        scope.log.info(f"Running Merge({_kinds(self.sources)})")
        merged: Files = []
        for index, source in enumerate(self.sources):
            merged += source.apply(files, scope, f"{title}.sources[{index}]", merging=True)
        return merged

    def children(self) -> Sequence[Transform]:
        """Return the sources."""
        return self.sources


def _kinds(transforms: Iterable[Transform]) -> str:
    return ", ".join(transform.type_name for transform in transforms)


@dataclass(frozen=True)
class Symbol:
    """A variable that `let` adds."""

    name: str
    expression: Expression


@dataclass(frozen=True, kw_only=True)
class Let(Transform):
    """Adds variables for the transform within; each symbol sees the ones before it."""

    symbols: tuple[Symbol, ...]
    body: Transform

    KEYS = frozenset({"symbols", "in"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Evaluate the symbols and run the body."""
        return self.body.apply(files, with_symbols(self.symbols, scope), f"{title}.in", merging=merging)

    def children(self) -> Sequence[Transform]:
        """Return the body."""
        return (self.body,)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the symbols' expressions."""
        return (*super().expressions(), *(symbol.expression for symbol in self.symbols))


def with_symbols(symbols: Iterable[Symbol], scope: Scope) -> Scope:
    """Return the scope with the values of the symbols. Raises EvaluationFailed."""
    for symbol in symbols:
        value = symbol.expression.required(scope.variables)
        _check_value_count(value)
        scope.log.debug(f"Adding symbol {symbol.name} with value '{text_of(value)}'")
        scope = scope.including(**{symbol.name: value})
    return scope


def _check_value_count(value: object) -> None:
    """Raise EvaluationFailed when a value holds too many values, nested ones included."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if isinstance(item, list | Mapping):
            waiting += item.values() if isinstance(item, Mapping) else item
        if count + len(waiting) > _MOST_VALUES:
            raise EvaluationFailed(f"a variable holds more than {_MOST_VALUES} values")


@dataclass(frozen=True, kw_only=True)
class Combo(Transform):
    """The transform without a type: let, include, exclude, merge and chain, in this order."""

    let: tuple[Symbol, ...] = ()
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    merge: tuple[Transform, ...] = ()
    chain: tuple[Transform, ...] = ()
    apply_to: tuple[str, ...] | None = None
    on_conflict: str = "UseLast"

    KEYS = frozenset(
        {"let", "include", "includes", "exclude", "excludes", "merge", "sources", "chain", "applyTo", "onConflict"}
    )

    @cached_property
    def reduced(self) -> Transform:
        """The equivalent transform without a Combo."""
        parts: list[Transform] = []
        if self.include is not None:
            parts.append(Include(patterns=self.include, line=self.line))
        if self.exclude is not None:
            parts.append(Exclude(patterns=self.exclude, line=self.line))
        if self.merge:
            # onConflict does nothing without a merge.
            parts += [Merge(sources=self.merge, line=self.line), UniquePath(strategy=self.on_conflict, line=self.line)]
        if self.chain and self.apply_to is not None and parts:
            # applyTo concerns the chain only; other merged files bypass it.
            parts.append(Chain(transformations=self.chain, apply_to=self.apply_to, line=self.line))
            apply_to = None
        else:
            parts += self.chain
            apply_to = self.apply_to if self.chain else None
        is_single = len(parts) == 1 and not self.chain and not self.let
        body = parts[0] if is_single else Chain(transformations=tuple(parts), apply_to=apply_to, line=self.line)
        return Let(symbols=self.let, body=body, line=self.line) if self.let else body

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run the equivalent transform."""
        kind = self.reduced.type_name
        scope.log.info(f"Combo running as {kind}")
        scope.log.title(f"{title}.delegate ({kind})")
        return self.reduced.inside(files, scope, f"{title}.delegate", merging=merging)

    def children(self) -> Sequence[Transform]:
        """Return the transforms of merge and chain."""
        return (*self.merge, *self.chain)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the symbols' expressions."""
        return (*super().expressions(), *(symbol.expression for symbol in self.let))


@dataclass(frozen=True, kw_only=True)
class Loop(Transform):
    """Runs a transform once per element of a list, as a Merge or a Chain."""

    on: Expression
    var: str
    index: str
    body: Transform
    as_merge: bool

    KEYS = frozenset({"on", "var", "index", "doAsMerge", "doAsChain"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run the body once per element; the index starts at 0."""
        elements = self.on.required(scope.variables)
        if not isinstance(elements, list):
            raise EvaluationFailed(f"Loop needs a list, but {self.on.source} is {text_of(elements)!r}")
        scope.log.info(f"Looping over {text_of(elements)}")
        merged: Files = []
        for number, element in enumerate(elements):
            symbols = {name: value for name, value in ((self.var, element), (self.index, number)) if name}
            for name, value in symbols.items():
                scope.log.debug(f"Adding symbol {name} with value '{text_of(value)}'")
            result = self.body.apply(files, scope.including(**symbols), f"{title}[{number}]", merging=self.as_merge)
            merged += result if self.as_merge else []
            files = files if self.as_merge else result
        return merged if self.as_merge else files

    def children(self) -> Sequence[Transform]:
        """Return the body."""
        return (self.body,)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the list's expression."""
        return (*super().expressions(), self.on)
