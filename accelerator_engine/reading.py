"""Turns the engine section of a manifest into transforms."""

import codecs
import re
from collections.abc import Callable
from typing import TypedDict

from accelerator_engine import java_regex, transforms
from accelerator_engine.expressions import Expression, InvalidExpression, parse
from accelerator_engine.java_types import text_of
from accelerator_engine.manifest import InvalidManifest, Items, Map, line_of
from accelerator_engine.transforms import (
    DEFAULT_PATH_REGEX,
    STRATEGIES,
    YTT,
    Chain,
    Combo,
    Exclude,
    Include,
    InvokeFragment,
    Let,
    Loop,
    Merge,
    OpenRewriteRecipe,
    Provenance,
    ReplaceText,
    RewritePath,
    Selection,
    Substitution,
    Symbol,
    Transform,
    UniquePath,
    UseEncoding,
)


class _Common(TypedDict):
    """The properties that all transforms have."""

    condition: Expression | None
    name: str
    line: int | None


class _Reader:
    """Reads the keys of one transform in the manifest."""

    def __init__(self, fields: Map, kind: str) -> None:
        self.fields = fields
        self.kind = kind

    def line(self, key: str) -> int:
        return self.fields.lines.get(key, self.fields.line)

    def invalid(self, key: str, expected: str) -> InvalidManifest:
        return InvalidManifest(f"{key} of {self.kind} has to be {expected}", self.line(key))

    def common(self) -> _Common:
        condition = self.expression("condition") if self.fields.get("condition") is not None else None
        name = self.fields.get("name")
        return {"condition": condition, "name": name if isinstance(name, str) else "", "line": self.fields.line}

    def text(self, key: str, default: str | None = None) -> str:
        value = self.fields.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.invalid(key, "text")
        return value

    def patterns(self, *keys: str) -> tuple[str, ...] | None:
        for key in keys:
            value = self.fields.get(key)
            if value is None:
                continue
            if isinstance(value, str):
                return (value,)
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return tuple(value)
            raise self.invalid(key, "a list of patterns")
        return None

    def expression(self, key: str) -> Expression:
        return expression(self.fields.get(key), f"{key} of {self.kind}", self.line(key))

    def symbols(self, key: str) -> tuple[Symbol, ...]:
        return tuple(_symbol(item) for item in self.maps(key))

    def maps(self, key: str) -> list[Map]:
        value = self.fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, Map) for item in value):
            raise self.invalid(key, "a list of mappings")
        return value

    def transforms(self, *keys: str) -> tuple[Transform, ...]:
        for key in keys:
            if self.fields.get(key) is not None:
                return tuple(read_transform(item) for item in self.maps(key))
        return ()

    def transform(self, key: str) -> Transform:
        value = self.fields.get(key)
        if not isinstance(value, Map):
            raise self.invalid(key, "a transform")
        return read_transform(value)


def expression(value: object, where: str, line: int | None) -> Expression:
    """Parse an expression of the manifest; true, false and numbers need no quotes.

    Raises InvalidManifest.
    """
    if isinstance(value, bool | int | float):
        value = text_of(value)
    if not isinstance(value, str):
        raise InvalidManifest(f"{where} has to be an expression", line)
    try:
        return parse(value)
    except InvalidExpression as error:
        raise InvalidManifest(f"{where}: {error}", line) from error


def _symbol(fields: Map) -> Symbol:
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidManifest("a symbol of let has no name", fields.line)
    key = "expression" if "expression" in fields else "value"
    return Symbol(name, expression(fields.get(key), f"symbol {name}", fields.lines.get(key, fields.line)))


def _read_combo(reader: _Reader) -> Transform:
    fields = reader.fields
    if not Combo.KEYS & fields.keys() and "condition" not in fields:
        allowed = ", ".join(sorted(Combo.KEYS))
        present = f"; it has {', '.join(fields)}" if fields else ""
        raise InvalidManifest(f"a transform without a type needs at least one of {allowed}{present}", fields.line)
    return Combo(
        let=reader.symbols("let"),
        include=reader.patterns("include", "includes"),
        exclude=reader.patterns("exclude", "excludes"),
        merge=reader.transforms("merge", "sources"),
        chain=reader.transforms("chain"),
        apply_to=reader.patterns("applyTo"),
        on_conflict=_strategy(reader, "onConflict", "UseLast"),
        **reader.common(),
    )


def _strategy(reader: _Reader, key: str, default: str) -> str:
    value = reader.fields.get(key)
    if value is None:
        return default
    if value not in STRATEGIES:
        raise reader.invalid(key, f"one of {', '.join(STRATEGIES)}, not {str(value)[:60]!r}")
    return str(value)


def _read_selection(kind: type[Selection]) -> Callable[[_Reader], Transform]:
    def read(reader: _Reader) -> Transform:
        patterns = reader.patterns("patterns")
        if patterns is None:
            raise reader.invalid("patterns", "a list of patterns")
        return kind(patterns=patterns, **reader.common())

    return read


def _read_chain(reader: _Reader) -> Transform:
    return Chain(
        transformations=reader.transforms("transformations"), apply_to=reader.patterns("applyTo"), **reader.common()
    )


def _read_loop(reader: _Reader) -> Transform:
    bodies = [key for key in ("doAsMerge", "doAsChain") if reader.fields.get(key) is not None]
    if len(bodies) != 1:
        raise InvalidManifest("Loop needs exactly one of doAsMerge and doAsChain", reader.fields.line)
    on = reader.fields.get("on")
    if isinstance(on, str) and re.fullmatch(r"[A-Za-z_]\w*", on):
        reader.fields["on"] = f"#{on}"
    return Loop(
        on=reader.expression("on"),
        var=reader.text("var", ""),
        index=reader.text("index", ""),
        body=reader.transform(bodies[0]),
        as_merge=bodies[0] == "doAsMerge",
        **reader.common(),
    )


def _read_replace_text(reader: _Reader) -> Transform:
    by_regex = reader.fields.get("regex")
    pattern, replacement = None, None
    if by_regex is not None:
        if not isinstance(by_regex, Map):
            raise reader.invalid("regex", "a mapping with the keys pattern and with")
        inner = _Reader(by_regex, "regex")
        pattern, replacement = _regex(inner, "pattern"), inner.expression("with")
    substitutions = tuple(_substitution(item) for item in reader.maps("substitutions"))
    return ReplaceText(substitutions=substitutions, regex=pattern, replacement=replacement, **reader.common())


def _substitution(fields: Map) -> Substitution:
    reader = _Reader(fields, "a substitution")
    if isinstance(fields.get("text"), int | float):
        fields["text"] = text_of(fields["text"])
    return Substitution(reader.text("text"), reader.expression("with"))


def _regex(reader: _Reader, key: str) -> str:
    pattern = reader.text(key)
    try:
        java_regex.compile(pattern)
    except java_regex.InvalidRegex as error:
        raise InvalidManifest(str(error), reader.line(key)) from error
    return pattern


def _read_rewrite_path(reader: _Reader) -> Transform:
    default = "(#folder != null ? #folder : '') + #filename"
    fields = reader.fields
    match_or_fail = fields.get("matchOrFail", False)
    if not isinstance(match_or_fail, bool):
        raise reader.invalid("matchOrFail", "true or false")
    return RewritePath(
        regex=_regex(reader, "regex") if fields.get("regex") is not None else DEFAULT_PATH_REGEX,
        rewrite_to=reader.expression("rewriteTo") if fields.get("rewriteTo") is not None else parse(default),
        match_or_fail=match_or_fail,
        **reader.common(),
    )


def _read_use_encoding(reader: _Reader) -> Transform:
    name = reader.text("encoding")
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise reader.invalid("encoding", f"the name of a charset, not {name!r}") from None
    return UseEncoding(encoding=codecs.lookup(name).name, **reader.common())


def _read_ytt(reader: _Reader) -> Transform:
    value = reader.fields.get("extraArgs", [])
    if not isinstance(value, list):
        raise reader.invalid("extraArgs", "a list of expressions")
    lines = value.lines if isinstance(value, Items) else [reader.fields.line] * len(value)
    arguments = (expression(item, "extraArgs of YTT", line) for item, line in zip(value, lines, strict=True))
    return YTT(extra_args=tuple(arguments), **reader.common())


def _read_invoke_fragment(reader: _Reader) -> Transform:
    anchor = reader.text("anchor", "").strip("/")
    if ".." in anchor.split("/"):
        raise reader.invalid("anchor", "a folder within the project")
    return InvokeFragment(
        reference=reader.text("reference"), let=reader.symbols("let"), anchor=anchor, **reader.common()
    )


_READERS: dict[str, Callable[[_Reader], Transform]] = {
    "Include": _read_selection(Include),
    "Exclude": _read_selection(Exclude),
    "Chain": _read_chain,
    "Merge": lambda reader: Merge(sources=reader.transforms("sources"), **reader.common()),
    "Combo": _read_combo,
    "Let": lambda reader: Let(symbols=reader.symbols("symbols"), body=reader.transform("in"), **reader.common()),
    "Loop": _read_loop,
    "UniquePath": lambda reader: UniquePath(strategy=_strategy(reader, "strategy", "Fail"), **reader.common()),
    "ReplaceText": _read_replace_text,
    "RewritePath": _read_rewrite_path,
    "UseEncoding": _read_use_encoding,
    "OpenRewriteRecipe": lambda reader: OpenRewriteRecipe(recipe=reader.text("recipe"), **reader.common()),
    "YTT": _read_ytt,
    "InvokeFragment": _read_invoke_fragment,
    "Provenance": lambda reader: Provenance(**reader.common()),
}


def read_transform(value: object) -> Transform:
    """Return the transform that a mapping of the manifest describes. Raises InvalidManifest."""
    if not isinstance(value, Map):
        raise InvalidManifest("a transform has to be a mapping", line_of(value))
    kind = value.get("type", "Combo")
    if not isinstance(kind, str) or kind not in _READERS:
        raise InvalidManifest(f"there is no transform {kind!r}; use one of {', '.join(_READERS)}", value.lines["type"])
    return _READERS[kind](_Reader(value, kind))


def keys_of(kind: str) -> frozenset[str]:
    """Return the keys that a kind of transform reads, besides type, condition and name."""
    # The kind of a transform is the name of its class.
    keys: frozenset[str] = getattr(transforms, kind).KEYS
    return keys
