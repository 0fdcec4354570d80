"""The transforms of an engine section: each turns a list of resources into another.

Several resources may share a path until UniquePath decides between them. A transform whose condition
is false contributes nothing to a Merge, and changes nothing in a Chain.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import merge3
import regex
import yaml

from accelerator_engine import java_regex
from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.java_types import Helper, text_of
from accelerator_engine.log import Log, shortened
from accelerator_engine.manifest import InvalidManifest, one_line
from accelerator_engine.patterns import InvalidPattern, matches
from accelerator_engine.tree import MOST_BYTES, InvalidTree, Resource, placed, read_folder, write_folder

Files = list[Resource]
Variables = Mapping[str, Any]

PROVENANCE = "accelerator-info.yaml"
YTT_SECONDS = 120
_DEEPEST_INVOCATION = 30
# A run that takes longer is the manifest's mistake, and must not hold a server's thread.
_SECONDS = 120
# A manifest of a few lines can ask for billions of files: no accelerator that is meant comes near these.
_MOST_HANDLED = 2_000_000
_MOST_BYTES = 2 * MOST_BYTES
_MOST_VALUES = 100_000


class GenerationFailed(Exception):
    """A run that cannot go on; the text is one sentence that begins with file and line."""


class Fragment(Protocol):
    """What InvokeFragment needs of a fragment."""

    @property
    def file(self) -> str:
        """The manifest's name in messages."""

    @property
    def engine(self) -> "Transform | None":
        """Its transform, None when it has none."""

    def own_files(self) -> Files:
        """Return its files without the manifest."""

    @property
    def fragments(self) -> "Mapping[str, Fragment]":
        """The fragments that it may invoke itself, by name."""

    def renamed_variables(self, given: Variables) -> dict[str, Any]:
        """Return the options that the caller asks under other names, under the fragment's own."""

    def variables(self, given: Variables) -> dict[str, Any]:
        """Return the caller's variables completed with the fragment's defaults, and checked."""


@dataclass
class Run:
    """What all transforms of one run share."""

    log: Log = field(default_factory=Log)
    answers: Variables = field(default_factory=dict)
    accelerator: str = ""
    source: str = ""
    username: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    # How many fragments were invoked so far, the accelerator itself not counted.
    invocations: int = 0
    # The names of all fragments that the accelerator imports, whether or not they are invoked.
    imported: frozenset[str] = frozenset()
    # How many files all transforms so far returned, and fifty for each transform.
    handled: int = 0

    # Whether a pattern matched anything so far, by file, line and pattern.
    matched: dict[tuple[str, int | None, str], bool] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def counted(self, files: Files) -> Files:
        """Return what a transform made. Raises EvaluationFailed when the run gets out of hand."""
        self.handled += 50 + len(files)
        if self.handled > _MOST_HANDLED:
            raise EvaluationFailed(f"the transforms handle more than {_MOST_HANDLED} files, each time counted")
        if sum(len(resource.content) for resource in files) > _MOST_BYTES or self.log.length > _MOST_BYTES:
            raise EvaluationFailed(f"the files or the trace come to more than {_MOST_BYTES} bytes")
        return files

    def check_time(self) -> None:
        """Raise EvaluationFailed when the run has taken too long."""
        if time.monotonic() - self.began > _SECONDS:
            raise EvaluationFailed(f"the run takes longer than {_SECONDS} seconds")


@dataclass(frozen=True)
class Scope:
    """What one transform sees: variables, and the accelerator or fragment that is running."""

    run: Run
    variables: Variables
    file: str
    fragments: Mapping[str, Fragment]
    origin: int = 0
    depth: int = 0

    @property
    def log(self) -> Log:
        """The trace of this run."""
        return self.run.log

    def including(self, /, **variables: Any) -> "Scope":
        """Return the scope with more variables."""
        return replace(self, variables={**self.variables, **variables})


def helpers(files: Iterable[Resource]) -> dict[str, Helper]:
    """Return the variables that read an accelerator's own files: `#files.contentsOf(path)`."""
    contents = {resource.path: resource.content for resource in files}

    def contents_of(path: str) -> str:
        if path not in contents:
            raise EvaluationFailed(f"there is no file {path!r}")
        return contents[path].decode("utf-8", errors="replace")

    return {"files": Helper({"contentsOf": contents_of})}


@dataclass(frozen=True, kw_only=True)
class Transform:
    """What all transforms have: a condition, a name for the trace, and a line for messages."""

    KEYS: ClassVar[frozenset[str]] = frozenset()

    condition: Expression | None = None
    name: str = ""
    line: int | None = None

    @property
    def type_name(self) -> str:
        """The word that stands behind `type:`."""
        return type(self).__name__

    def apply(self, files: Files, scope: Scope, title: str, *, merging: bool = False) -> Files:
        """Return what becomes of the files; `merging` says that the parent is a Merge.

        Raises GenerationFailed.
        """
        title = self.name or title
        with scope.log.node(f"{title} ({self.type_name})"):
            return self.inside(files, scope, title, merging=merging)

    def inside(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Do the same in a node of the trace that is open already."""
        try:
            scope.run.check_time()
            if not self._active(scope):
                scope.log.title("null ()")
                return [] if merging else files
            return scope.run.counted(self.work(files, scope, title, merging=merging))
        except (EvaluationFailed, InvalidPattern, InvalidTree, java_regex.InvalidRegex, InvalidManifest) as error:
            place = scope.file if self.line is None else f"{scope.file}:{self.line}"
            reason = str(error) if not isinstance(error, InvalidManifest) else error.reason
            raise GenerationFailed(one_line(f"{place}: {reason}")) from error

    def _active(self, scope: Scope) -> bool:
        if self.condition is None:
            return True
        active = self.condition.condition(scope.variables)
        scope.log.info(f"Condition ({self.condition.source}) evaluated to {text_of(active)}")
        return active

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Do what this kind of transform does."""
        raise NotImplementedError

    def children(self) -> "Sequence[Transform]":
        """Return the transforms within this one, as the manifest has them."""
        return ()

    def expressions(self) -> Sequence[Expression]:
        """Return the expressions of this transform, its condition included."""
        return () if self.condition is None else (self.condition,)


# Selecting


def _matched(transform: Transform, patterns: Iterable[str], resource: Resource, scope: Scope) -> bool:
    """Whether any pattern matches; which ones do is kept for whoever checks the manifest."""
    found = False
    for pattern in patterns:
        key = (scope.file, transform.line, pattern)
        matched = matches(pattern, resource.path)
        scope.run.matched[key] = scope.run.matched.get(key, False) or matched
        found = found or matched
    return found


@dataclass(frozen=True, kw_only=True)
class Selection(Transform):
    """What Include and Exclude have in common."""

    patterns: tuple[str, ...]

    KEYS = frozenset({"patterns"})
    VERB: ClassVar[str]
    KEEPS_MATCHES: ClassVar[bool]

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Keep or drop what matches any pattern."""
        shown = f"[{', '.join(self.patterns)}]"
        scope.log.info(f"Will {self.VERB} {shown}")
        kept = []
        for resource in files:
            matched = _matched(self, self.patterns, resource, scope)
            keeps = matched == self.KEEPS_MATCHES
            said = "matched" if matched else "didn't match"
            scope.log.debug(f"{resource.path} {said} {shown} -> {'included' if keeps else 'excluded'}")
            if keeps:
                kept.append(resource)
        return kept


class Include(Selection):
    """Keep the resources that match any of the patterns."""

    VERB, KEEPS_MATCHES = "include", True


class Exclude(Selection):
    """Drop the resources that match any of the patterns."""

    VERB, KEEPS_MATCHES = "exclude", False


# Putting transforms together


@dataclass(frozen=True, kw_only=True)
class Chain(Transform):
    """One transform after the other; with `applyTo` only for the resources that match it."""

    transformations: tuple[Transform, ...] = ()
    apply_to: tuple[str, ...] | None = None

    KEYS = frozenset({"transformations", "applyTo"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run the transforms in order."""
        scope.log.info(f"Running Chain({_kinds(self.transformations)})")
        untouched: Files = []
        if self.apply_to is not None:
            chosen = [_matched(self, self.apply_to, resource, scope) for resource in files]
            untouched = [resource for resource, is_chosen in zip(files, chosen, strict=True) if not is_chosen]
            files = [resource for resource, is_chosen in zip(files, chosen, strict=True) if is_chosen]
        for index, transform in enumerate(self.transformations):
            files = transform.apply(files, scope, f"{title}.transformations[{index}]")
        return untouched + files

    def children(self) -> Sequence[Transform]:
        """Return the transforms of the chain."""
        return self.transformations


@dataclass(frozen=True, kw_only=True)
class Merge(Transform):
    """What several transforms make of the same resources, one after the other in one list."""

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
    """More variables for the transform within; each symbol sees those before it."""

    symbols: tuple[Symbol, ...]
    body: Transform

    KEYS = frozenset({"symbols", "in"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Evaluate the symbols and run the body."""
        return self.body.apply(files, _with_symbols(self.symbols, scope), f"{title}.in", merging=merging)

    def children(self) -> Sequence[Transform]:
        """Return the body."""
        return (self.body,)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the symbols' expressions."""
        return (*super().expressions(), *(symbol.expression for symbol in self.symbols))


def _with_symbols(symbols: Iterable[Symbol], scope: Scope) -> Scope:
    for symbol in symbols:
        value = _limited(symbol.expression.required(scope.variables))
        scope.log.debug(f"Adding symbol {symbol.name} with value '{text_of(value)}'")
        scope = scope.including(**{symbol.name: value})
    return scope


def _limited(value: Any) -> Any:
    """Return a value. Raises EvaluationFailed for one that holds too many, lists within lists counted."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if isinstance(item, list | Mapping):
            waiting += item.values() if isinstance(item, Mapping) else item
        if count + len(waiting) > _MOST_VALUES:
            raise EvaluationFailed(f"a variable would hold more than {_MOST_VALUES} values")
    return value


@dataclass(frozen=True, kw_only=True)
class Combo(Transform):
    """The transform without a type: let, include, exclude, merge and chain in this order."""

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
        """The transforms that this one stands for."""
        parts: list[Transform] = []
        if self.include is not None:
            parts.append(Include(patterns=self.include, line=self.line))
        if self.exclude is not None:
            parts.append(Exclude(patterns=self.exclude, line=self.line))
        if self.merge:
            # Without a merge there is nothing to resolve: onConflict alone does nothing.
            parts += [Merge(sources=self.merge, line=self.line), UniquePath(strategy=self.on_conflict, line=self.line)]
        if self.chain and self.apply_to is not None and parts:
            # It concerns the chain alone: what was merged before goes by it.
            parts.append(Chain(transformations=self.chain, apply_to=self.apply_to, line=self.line))
            apply_to = None
        else:
            parts += self.chain
            apply_to = self.apply_to if self.chain else None
        alone = len(parts) == 1 and not self.chain and not self.let
        body = parts[0] if alone else Chain(transformations=tuple(parts), apply_to=apply_to, line=self.line)
        return Let(symbols=self.let, body=body, line=self.line) if self.let else body

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run what the properties stand for."""
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
    """The same transform for each element of a list, merged or one after the other."""

    on: Expression
    var: str
    index: str
    body: Transform
    as_merge: bool

    KEYS = frozenset({"on", "var", "index", "doAsMerge", "doAsChain"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run the body once for each element; the index counts from 0."""
        elements = self.on.required(scope.variables)
        if not isinstance(elements, list):
            raise EvaluationFailed(f"Loop needs a list, and {self.on.source} is {text_of(elements)!r}")
        scope.log.info(f"Looping over {text_of(elements)}")
        merged: Files = []
        for number, element in enumerate(elements):
            more = {name: value for name, value in ((self.var, element), (self.index, number)) if name}
            for name, value in more.items():
                scope.log.debug(f"Adding symbol {name} with value '{text_of(value)}'")
            result = self.body.apply(files, scope.including(**more), f"{title}[{number}]", merging=self.as_merge)
            merged += result if self.as_merge else []
            files = files if self.as_merge else result
        return merged if self.as_merge else files

    def children(self) -> Sequence[Transform]:
        """Return the body."""
        return (self.body,)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the list's expression."""
        return (*super().expressions(), self.on)


# One resource a path

STRATEGIES = ("Fail", "UseFirst", "UseLast", "Append", "FavorOwn", "FavorForeign", "NWayDiff")


@dataclass(frozen=True, kw_only=True)
class UniquePath(Transform):
    """One resource for each path, where there were several."""

    strategy: str = "Fail"

    KEYS = frozenset({"strategy"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Decide for each path, in the order in which paths came first."""
        by_path: dict[str, Files] = {}
        for resource in files:
            by_path.setdefault(resource.path, []).append(resource)
        return [same[0] if len(same) == 1 else self._resolve(path, same, scope) for path, same in by_path.items()]

    def _resolve(self, path: str, same: Files, scope: Scope) -> Resource:
        several = f"Multiple representations for path '{path}'"
        if self.strategy == "Fail":
            raise EvaluationFailed(f"{several}, and onConflict (or a UniquePath) does not say which to use")
        resolve, words = {
            "UseFirst": (_first, "will use the one appearing first "),
            "UseLast": (_last, "will use the one appearing last "),
            "Append": (_appended, "will concatenate them together"),
            "FavorOwn": (_own, "will favor own"),
            "FavorForeign": (_foreign, "will favor foreign"),
            "NWayDiff": (_merged, "will merge their changes"),
        }[self.strategy]
        scope.log.debug(f"{several}, {words}")
        return resolve(same, scope)


def _first(same: Files, _: Scope) -> Resource:
    return same[0]


def _last(same: Files, _: Scope) -> Resource:
    return same[-1]


def _appended(same: Files, _: Scope) -> Resource:
    return replace(same[0], content=b"".join(resource.content for resource in same))


def _own(same: Files, scope: Scope) -> Resource:
    own = [resource for resource in same if resource.origin >= scope.origin]
    return (own or same)[-1]


def _foreign(same: Files, scope: Scope) -> Resource:
    foreign = [resource for resource in same if resource.origin < scope.origin]
    return (foreign or same)[-1]


def _merged(same: Files, _: Scope) -> Resource:
    """Merge changes against what the file was before: Khanna, Kunal and Pierce's diff3 (2007)."""
    first, *others = same
    base = (first.ancestor or b"").splitlines(keepends=True)
    merged = first.content.splitlines(keepends=True)
    for other in others:
        changes = merge3.Merge3(base, merged, other.content.splitlines(keepends=True), is_cherrypick=False)
        parts = list(changes.merge_groups())
        if any(part[0] == "conflict" for part in parts):
            raise EvaluationFailed(f"NWayDiff cannot merge the changes to {first.path!r}: they contradict")
        merged = [line for part in parts for line in part[1]]
    return replace(first, content=b"".join(merged))


# Contents


@dataclass(frozen=True)
class Substitution:
    """A text, and the expression for what stands in its place."""

    text: str
    replacement: Expression


@dataclass(frozen=True, kw_only=True)
class ReplaceText(Transform):
    """Other text in place of literal texts, or of what a regular expression matches."""

    substitutions: tuple[Substitution, ...] = ()
    regex: str | None = None
    replacement: Expression | None = None

    KEYS = frozenset({"substitutions", "regex"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Replace in every file."""
        if self.regex is not None and self.replacement is not None:
            return self._by_regex(files, scope, self.regex, self.replacement)
        return self._literally(files, scope)

    def _by_regex(self, files: Files, scope: Scope, pattern: str, replacement: Expression) -> Files:
        new = replacement.text(scope.variables)
        scope.log.info(f"Will replace regex '{pattern}' with '{shortened(new)}'")
        java_regex.compile(pattern)
        return [
            self._changed(resource, scope, lambda text: java_regex.replace_all(pattern, new, text))
            for resource in files
        ]

    def _literally(self, files: Files, scope: Scope) -> Files:
        new = {item.text: item.replacement.text(scope.variables) for item in self.substitutions}
        if not new:
            return files
        shown = ", ".join(f"{text}->{shortened(value)}" for text, value in new.items())
        scope.log.info(f"Will replace [{shown}]")
        # One pass, the longest text first: what was put in is not looked at again.
        found = regex.compile("|".join(map(regex.escape, sorted(new, key=len, reverse=True))))
        return [self._changed(resource, scope, lambda text: _replaced(text, found, new)) for resource in files]

    def _changed(self, resource: Resource, scope: Scope, change: Callable[[str], str]) -> Resource:
        """Return the resource with its text changed; one that is no text stays as it is."""
        scope.run.check_time()
        charset = resource.charset or "utf-8"
        try:
            text = resource.content.decode(charset)
            content = change(text).encode(charset)
        except UnicodeError:
            scope.log.debug(f"{resource.path} is not {charset} text and stays as it is")
            return resource
        return replace(resource, content=content)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and all replacements."""
        new = [item.replacement for item in self.substitutions]
        return (*super().expressions(), *new, *([self.replacement] if self.replacement else []))


def _replaced(text: str, found: "regex.Pattern[str]", new: Mapping[str, str]) -> str:
    """Return the text with another for each that is found. Raises EvaluationFailed when it gets too long."""
    size = 0

    def replacement(match: "regex.Match[str]") -> str:
        nonlocal size
        size += len(new[match[0]])
        if size > _MOST_BYTES:
            raise EvaluationFailed(f"a file would grow to more than {_MOST_BYTES} characters")
        return new[match[0]]

    return found.sub(replacement, text)


DEFAULT_PATH_REGEX = r"^(?<folder>.*/)?(?<filename>([^/]+?|)(?=(?<ext>\.[^/.]*)?)$)"


@dataclass(frozen=True, kw_only=True)
class RewritePath(Transform):
    """Another path for each resource whose whole path matches."""

    regex: str = DEFAULT_PATH_REGEX
    rewrite_to: Expression
    match_or_fail: bool = False

    KEYS = frozenset({"regex", "rewriteTo", "matchOrFail"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Rewrite every path."""
        return [self._rewritten(resource, scope) for resource in files]

    def _rewritten(self, resource: Resource, scope: Scope) -> Resource:
        groups = path_groups(self.regex, resource.path)
        if groups is None:
            if self.match_or_fail:
                raise EvaluationFailed(f"path {resource.path!r} does not match {self.regex!r}, and matchOrFail is true")
            return resource
        path = self.rewrite_to.text({**scope.variables, **groups})
        shown = ", ".join(f"{name}={text_of(value)}" for name, value in groups.items())
        scope.log.debug(
            f"Path '{resource.path}' matched '{self.regex}' with groups {{{shown}}} and was rewritten to '{path}'"
        )
        return replace(resource, path=path)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the new path's expression."""
        return (*super().expressions(), self.rewrite_to)


def path_groups(pattern: str, path: str) -> dict[str, str | None] | None:
    """Return the groups of a path by name and as g0 … gN, None when the whole path does not match.

    Raises InvalidRegex.
    """
    found = java_regex.full_match(pattern, path)
    if found is None:
        return None
    numbered = {f"g{index}": found[index] for index in range(found.re.groups + 1)}
    groups = {**found.groupdict(), **numbered}
    if pattern == DEFAULT_PATH_REGEX:
        # Java keeps what a look-ahead captured when it goes back; the regex package does not.
        name = groups["filename"] or ""
        dot = name.rfind(".")
        groups["ext"] = groups["g4"] = name[dot:] if dot > 0 else None
    return groups


@dataclass(frozen=True, kw_only=True)
class UseEncoding(Transform):
    """The charset in which the transforms after this one read and write the resources."""

    encoding: str

    KEYS = frozenset({"encoding"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Mark every resource."""
        for resource in files:
            if resource.charset is not None:
                raise EvaluationFailed(f"{resource.path!r} has the encoding {resource.charset} already")
        return [replace(resource, charset=self.encoding) for resource in files]


@dataclass(frozen=True, kw_only=True)
class OpenRewriteRecipe(Transform):
    """A recipe of OpenRewrite, which is a program of its own: refused."""

    recipe: str

    KEYS = frozenset({"recipe", "options"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Refuse."""
        raise EvaluationFailed(
            f"the OpenRewrite recipe {self.recipe} cannot be run by this engine; use ReplaceText or RewritePath instead"
        )


@dataclass(frozen=True, kw_only=True)
class YTT(Transform):
    """The real `ytt` over all resources, with all variables as data values."""

    extra_args: tuple[Expression, ...] = ()

    KEYS = frozenset({"extraArgs"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run it in a folder of its own."""
        program = shutil.which("ytt")
        if program is None:
            raise EvaluationFailed("the transform YTT needs the program ytt (carvel.dev/ytt), which is not on PATH")
        extra = [_harmless(expression.text(scope.variables)) for expression in self.extra_args]
        with tempfile.TemporaryDirectory(prefix="accelerator-ytt-") as place:
            try:
                return self._run(program, extra, files, scope, Path(place))
            except (OSError, UnicodeError, TypeError) as error:
                raise EvaluationFailed(f"ytt cannot be given these files and values: {error}") from error

    def _run(self, program: str, extra: list[str], files: Files, scope: Scope, place: Path) -> Files:
        (place / "in").mkdir()
        write_folder(files, place / "in")
        values = {name: value for name, value in scope.variables.items() if not isinstance(value, Helper)}
        (place / "values.json").write_text(json.dumps(values, default=str), encoding="utf-8")
        arguments = ["-f", "in", "--data-values-file", "values.json", "--output-files", "out", *extra]
        scope.log.debug(
            f"Wrote values file with json content:   {json.dumps(values, separators=(',', ':'), default=str)}"
        )
        scope.log.info(f"Shelling out to YTT with args: [{', '.join(['ytt', *arguments])}]")
        # ytt takes settings and values from the environment as well, where a server's secrets may be.
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR")}
        try:
            done = subprocess.run(
                [program, *arguments], cwd=place, env=environment, capture_output=True, text=True,
                errors="replace", timeout=YTT_SECONDS, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise EvaluationFailed(f"ytt took longer than {YTT_SECONDS} seconds") from error
        if done.returncode != 0:
            raise EvaluationFailed(f"ytt failed: {' '.join(done.stderr.split())}")
        return self._result(place / "out", files, scope)

    @staticmethod
    def _result(folder: Path, files: Files, scope: Scope) -> Files:
        """Return what ytt wrote; a file that was there before keeps its permission bits."""
        before = placed(files)
        written = [] if not folder.is_dir() else read_folder(folder)
        made = Resource("", b"", origin=scope.origin)
        return [replace(before.get(new.path, made), path=new.path, content=new.content) for new in written]

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and all extra arguments."""
        return (*super().expressions(), *self.extra_args)


def _harmless(argument: str) -> str:
    """Refuse an argument that could make ytt read or write outside its folder, or run programs."""
    # A path may stand behind a short flag, a key or the name of a library: -f/x, a=/x, @library:/x.
    parts = re.split(r"[=:,]", re.sub(r"^-[A-Za-z]", "", argument))
    outside = any(part.startswith(("/", "~")) or ".." in part.split("/") for part in parts)
    if outside or argument.startswith("--dangerous") or "\0" in argument:
        raise EvaluationFailed(f"ytt may not be given the argument {argument!r}, which leads outside the project")
    return argument


# Fragments and provenance


@dataclass(frozen=True, kw_only=True)
class InvokeFragment(Transform):
    """The engine of a fragment, run over the resources at hand and the fragment's own."""

    reference: str
    let: tuple[Symbol, ...] = ()
    anchor: str = ""

    KEYS = frozenset({"reference", "let", "anchor"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run it with its own files behind the caller's."""
        fragment = scope.fragments.get(self.reference)
        if fragment is None:
            raise EvaluationFailed(
                f"the fragment {self.reference!r} is not imported; imports lists what can be invoked"
            )
        if scope.depth >= _DEEPEST_INVOCATION:
            raise EvaluationFailed(f"fragments invoke one another more than {_DEEPEST_INVOCATION} deep")
        run = scope.run
        run.invocations += 1
        own = [replace(resource, origin=run.invocations) for resource in fragment.own_files()]
        caller = _with_symbols(self.let, scope.including(**fragment.renamed_variables(scope.variables)))
        variables = {**fragment.variables(caller.variables), **helpers(own)}
        inner = Scope(run, variables, fragment.file, fragment.fragments, run.invocations, scope.depth + 1)
        return self._anchored(files, own, inner, fragment, title, merging=merging)

    def _anchored(
        self, files: Files, own: Files, inner: Scope, fragment: Fragment, title: str, *, merging: bool
    ) -> Files:
        prefix = f"{self.anchor}/" if self.anchor else ""
        outside = [resource for resource in files if not resource.path.startswith(prefix)]
        below = [
            replace(resource, path=resource.path.removeprefix(prefix))
            for resource in files
            if resource.path.startswith(prefix)
        ]
        result = below + own
        if fragment.engine is not None:
            result = fragment.engine.apply(result, inner, f"{title}.validated", merging=merging)
        # What lies outside the anchor is nobody's business here and stays, but only once in a Merge.
        return [replace(resource, path=prefix + resource.path) for resource in result] + ([] if merging else outside)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the symbols' expressions."""
        return (*super().expressions(), *(symbol.expression for symbol in self.let))


@dataclass(frozen=True, kw_only=True)
class Provenance(Transform):
    """A file that says where the project comes from."""

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Add the file, or in a Merge contribute it alone."""
        run = scope.run
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts: dict[str, Any] = {
            "id": run.id,
            "timestamp": now,
            "source": run.source,
            "username": run.username,
            "options": _plain(run.answers),
            "accelerator": {"name": run.accelerator},
            "fragments": [{"name": name} for name in sorted(run.imported)],
        }
        told = {name: value for name, value in facts.items() if value not in ("", [], {}, {"name": ""})}
        text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
        made = Resource(PROVENANCE, text.encode(), origin=scope.origin)
        return [made] if merging else [*files, made]


def _plain(value: Any) -> Any:
    """Return a value without the line numbers that came with it."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if not isinstance(item, Helper)}
    return [_plain(item) for item in value] if isinstance(value, list) else value
