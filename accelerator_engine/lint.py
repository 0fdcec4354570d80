"""The search for mistakes in a manifest that the engine accepts.

It compares keys with those that the engine reads, and names in expressions with the declared options.
To check patterns it runs the accelerator once with the defaults, and once per listed value of each
question.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lark

from accelerator_engine import java_regex
from accelerator_engine.engine import IMPLICIT, Accelerator, Project, generate, load_folder
from accelerator_engine.expressions import Expression
from accelerator_engine.manifest import Items, Map
from accelerator_engine.options import InvalidAnswer, Option, check_answer
from accelerator_engine.patterns import matches
from accelerator_engine.reading import keys_of
from accelerator_engine.transforms import (
    YTT,
    Chain,
    Combo,
    GenerationFailed,
    Include,
    InvokeFragment,
    Let,
    Loop,
    RewritePath,
    Transform,
)

_OPTION = {
    "name", "dataType", "defaultValue", "validationRegex", "label", "description", "inputType", "choices", "required",
    "dependsOn",
}  # fmt: skip
_SECTION = {"displayName", "description", "iconUrl", "tags", "options", "types", "imports"}
_EVERY_TRANSFORM = {"type", "condition", "name"}
_SYMBOL = {"name", "expression", "value"}
# The engine's own helper is a variable too.
_IMPLICIT = IMPLICIT | {"files"}
_CATCH_ALL = ("**", "**/*")


@dataclass(frozen=True, order=True)
class Finding:
    """A sentence about a line of a file."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        """Return the finding in the format of compilers."""
        return f"{self.file}:{self.line}: {self.text}"


def findings(folder: Path, fragments: Mapping[str, Path] | None = None) -> list[Finding]:
    """Return the findings about the accelerator in a folder, in the order of its lines.

    Raises OSError, and InvalidManifest for a manifest that the engine cannot run.
    """
    accelerator = load_folder(folder, fragments=fragments)
    if accelerator.content is None:
        return [Finding(accelerator.file, 1, "there is no accelerator.yaml, so every file is copied unchanged")]
    names = set(_names(accelerator))
    # An undeclared name can make all runs fail, and is a finding already.
    return sorted({*_keys(accelerator), *_options(accelerator), *names, *_runs(accelerator, explain=not names)})


# Keys


def _keys(accelerator: Accelerator) -> Iterator[Finding]:
    content = accelerator.content
    assert content is not None  # noqa: S101, the caller checks it
    for line, text in [*_unknown(content, {"accelerator", "engine"}, "the manifest"), *_section_keys(content)]:
        yield Finding(accelerator.file, line, text)
    if isinstance(content.get("engine"), Map):
        for line, text in _transform_keys(content["engine"]):
            yield Finding(accelerator.file, line, text)


def _unknown(fields: Map, known: Iterable[str], where: str) -> Iterator[tuple[int, str]]:
    for key, line in fields.lines.items():
        if key not in known and not key.startswith("x-"):
            yield line, f"{where} has no key {key!r}, which is ignored"
    for key, line in fields.repeated.items():
        yield line, f"{key!r} occurs a second time; the first one is ignored"


def _section_keys(content: Map) -> Iterator[tuple[int, str]]:
    section = content.get("accelerator")
    if not isinstance(section, Map):
        return
    if "engine" in section:
        line = section.lines["engine"]
        yield line, "engine below accelerator is ignored; move it to the first column"
    yield from _unknown(section, {*_SECTION, "engine"}, "accelerator")
    for option in _maps(section.get("options")):
        yield from _unknown(option, _OPTION, f"option {option.get('name')}")
        yield from _unknown_below(option, "choices", {"text", "value"}, "a choice")
        yield from _unknown_below(option, "dependsOn", {"name", "value"}, "dependsOn")
    for custom in _maps(section.get("types")):
        yield from _unknown(custom, {"name", "struct"}, "a type")
        yield from _unknown_below(custom, "struct", _OPTION, "a field")
    for item in _maps(section.get("imports")):
        yield from _unknown(item, {"name", "expose", "exposeTypes"}, "an import")
        yield from _unknown_below(item, "expose", {"name", "as", "dependsOn"}, "expose")


def _maps(value: object) -> list[Map]:
    items = value if isinstance(value, Items) else [value]
    return [item for item in items if isinstance(item, Map)]


def _unknown_below(parent: Map, key: str, known: set[str], where: str) -> Iterator[tuple[int, str]]:
    for item in _maps(parent.get(key)):
        yield from _unknown(item, known, where)


def _transform_keys(fields: Map) -> Iterator[tuple[int, str]]:
    kind = fields.get("type", "Combo")
    if kind == "Combo" and "onConflict" in fields and not fields.keys() & {"merge", "sources"}:
        yield fields.lines["onConflict"], "onConflict does nothing without merge"
    yield from _unknown(fields, {*keys_of(kind), *_EVERY_TRANSFORM}, kind)
    for key, known in (
        ("substitutions", {"text", "with"}),
        ("regex", {"pattern", "with"}),
        ("let", _SYMBOL),
        ("symbols", _SYMBOL),
    ):
        yield from _unknown_below(fields, key, known, key)
    for key in ("merge", "sources", "chain", "transformations", "in", "doAsMerge", "doAsChain"):
        for child in _maps(fields.get(key)):
            yield from _transform_keys(child)


# Options


def _options(accelerator: Accelerator) -> Iterator[Finding]:
    asked = [(option.name, option.condition) for option in accelerator.own_options]
    for number, option in enumerate(accelerator.own_options):
        repeated = ["is asked twice"] if asked[number] in asked[:number] else []
        for text in [*_about(option), *repeated]:
            yield Finding(accelerator.file, option.line or 1, f"option {option.name} {text}")


def _about(option: Option) -> Iterator[str]:
    if option.default is not None:
        try:
            check_answer(option, option.default, java_regex.search)
        except InvalidAnswer as error:
            yield f"forbids its own defaultValue: {error}"
        if option.choices and not option.is_list and option.default not in option.values:
            yield f"has the defaultValue {option.default!r}, which is not one of its choices"
    if option.input_type in ("select", "radio") and not option.choices:
        yield f"is a {option.input_type} without choices"
    for choice in option.choices:
        try:
            check_answer(option, [choice.value] if option.is_list else choice.value, java_regex.search)
        except InvalidAnswer:
            yield f"forbids its own choice {choice.value!r}"


# Names in expressions


def _names(accelerator: Accelerator) -> Iterator[Finding]:
    known = {option.name for option in accelerator.options} | _IMPLICIT
    used = {"projectName"}
    for option in accelerator.options:
        if option.condition is not None:
            used.add(option.condition.name)
            if option.condition.name not in known:
                text = f"dependsOn names {option.condition.name}, which is not an option"
                yield Finding(accelerator.file, option.line or 1, text)
    for transform, unknown in _undeclared(accelerator.engine, known):
        for name in unknown:
            text = f"#{name} is neither an option nor a symbol, so it is null"
            yield Finding(accelerator.file, transform.line or 1, text)
    yield from _dead_comparisons(accelerator)
    yield from _unused(accelerator, used)


def _unused(accelerator: Accelerator, used: set[str]) -> Iterator[Finding]:
    """Find questions that nothing reads. Fragments read the caller's variables; ytt reads all variables."""
    running = [accelerator, *_all_fragments(accelerator)]
    transforms = [transform for item in running for transform in _all(item.engine)]
    if any(isinstance(transform, YTT) for transform in transforms):
        return
    read = used.union(*(expression.names for transform in transforms for expression in transform.expressions()))
    for option in accelerator.own_options:
        if option.name not in read:
            yield Finding(accelerator.file, option.line or 1, f"option {option.name} is asked, but nothing reads it")


def _all_fragments(accelerator: Accelerator) -> Iterator[Accelerator]:
    for fragment in accelerator.fragments.values():
        yield fragment
        yield from _all_fragments(fragment)


def _undeclared(transform: Transform | None, known: set[str]) -> Iterator[tuple[Transform, set[str]]]:
    """Return each transform with the undeclared names in its expressions."""
    if transform is None:
        return
    names = {name for expression in transform.expressions() for name in expression.names}
    inner = known | _own_names(transform)
    yield transform, names - (known if isinstance(transform, Loop) else inner)
    for child in transform.children():
        yield from _undeclared(child, inner)


def _own_names(transform: Transform) -> set[str]:
    """Return the variables that a transform adds for its own expressions or its children."""
    if isinstance(transform, Combo | InvokeFragment):
        return {symbol.name for symbol in transform.let}
    if isinstance(transform, Let):
        return {symbol.name for symbol in transform.symbols}
    if isinstance(transform, Loop):
        return {transform.var, transform.index}
    if isinstance(transform, RewritePath):
        compiled = java_regex.compile(transform.regex)
        return {*compiled.groupindex, *(f"g{number}" for number in range(compiled.groups + 1))}
    return set()


def _dead_comparisons(accelerator: Accelerator) -> Iterator[Finding]:
    """Find comparisons of a question with a value that it never has."""
    choices = {option.name: option.values for option in accelerator.options if option.choices and not option.is_list}
    choices |= {option.name: (True, False) for option in accelerator.options if option.data_type == "boolean"}
    for transform in _all(accelerator.engine):
        for expression in transform.expressions():
            for name, value in _comparisons(expression):
                if name in choices and value not in choices[name]:
                    text = f"#{name} is compared with {value!r}, which is not one of its choices"
                    yield Finding(accelerator.file, transform.line or 1, text)


def _all(transform: Transform | None) -> Iterator[Transform]:
    if transform is not None:
        yield transform
        for child in transform.children():
            yield from _all(child)


def _comparisons(expression: Expression) -> Iterator[tuple[str, str]]:
    """Return each variable and the literal text of its comparison."""
    for node in expression.tree.find_data("relation"):
        left, operator, right = node.children
        if str(operator).lower() not in ("==", "!=", "eq", "ne"):
            continue
        for variable, literal in ((left, right), (right, left)):
            if (
                isinstance(variable, lark.Tree)
                and isinstance(literal, lark.Tree)
                and (variable.data, literal.data) == ("variable", "string")
            ):
                yield str(variable.children[0]), str(literal.children[0])[1:-1]


# Runs


def _runs(accelerator: Accelerator, *, explain: bool) -> Iterator[Finding]:
    projects: list[Project] = []
    reasons: list[str] = []
    for answers in _answers_to_try(accelerator.options):
        try:
            projects.append(generate(accelerator, answers))
        except (InvalidAnswer, GenerationFailed) as error:
            reasons.append(str(error))
    if not projects:
        if explain:
            text = f"patterns were not checked, because no run succeeds: {reasons[0]}"
            yield Finding(accelerator.file, 1, text)
        return
    yield from _unmatched(accelerator, projects)
    yield from _leaks(accelerator, projects)


def _unmatched(accelerator: Accelerator, projects: Iterable[Project]) -> Iterator[Finding]:
    """Find the accelerator's patterns that match no file in any run."""
    matched: dict[tuple[str, int | None, str], bool] = {}
    for project in projects:
        for key, has_match in project.matched.items():
            matched[key] = matched.get(key, False) or has_match
    for (file, line, pattern), has_match in matched.items():
        # A pattern without a line is the engine's own; a fragment's patterns may serve other callers.
        if not has_match and line is not None and file == accelerator.file:
            yield Finding(file, line, f"the pattern {pattern!r} matches no file")


def _answers_to_try(options: Sequence[Option]) -> Iterator[dict[str, object]]:
    """Return the default answers, then answers with each listed value of an option."""
    usual: dict[str, object] = {"projectName": "example"}
    for option in options:
        if option.default is None and option.required:
            usual[option.name] = _example_answer(option)
    yield usual
    for option in options:
        is_flag = option.data_type == "boolean" and not option.is_list
        values: Sequence[object] = (True, False) if is_flag else option.values
        for value in values:
            yield {**usual, option.name: [value] if option.is_list else value}


def _example_answer(option: Option) -> object:
    if option.is_list:
        return []
    first = {"boolean": True, "number": 1, "string": "example"}.get(option.data_type, {})
    return option.values[0] if option.choices else first


def _leaks(accelerator: Accelerator, projects: Iterable[Project]) -> Iterator[Finding]:
    """Find a fragment's own files that reach the project without being selected."""
    lines = {step.reference: step.line for step in _all(accelerator.engine) if isinstance(step, InvokeFragment)}
    results = [{file.path: file.content for file in project.files} for project in projects]
    own = {file.path for file in accelerator.own_files()}
    imported = {item.fragment.name: item.line for item in accelerator.imports}
    for name, fragment in accelerator.fragments.items():
        if name not in lines:
            yield Finding(accelerator.file, imported[name], f"the fragment {name} is imported, but never invoked")
            continue
        for file in fragment.own_files():
            arrives = any(result.get(file.path) == file.content for result in results)
            if arrives and not _selected(fragment, file.path):
                over = " over the accelerator's own" if file.path in own else ""
                text = f"{file.path} of the fragment {name} leaks into the project{over}; no pattern selects it"
                yield Finding(accelerator.file, lines[name] or 1, text)


def _selected(fragment: Accelerator, path: str) -> bool:
    """Return whether a pattern of the fragment names the file; `**` names the caller's files too."""
    for transform in _all(fragment.engine):
        patterns: tuple[str, ...] = ()
        if isinstance(transform, Combo):
            patterns = (*(transform.include or ()), *(transform.apply_to or ()))
        elif isinstance(transform, Include):
            patterns = transform.patterns
        elif isinstance(transform, Chain):
            patterns = transform.apply_to or ()
        if any(pattern not in _CATCH_ALL and matches(pattern, path) for pattern in patterns):
            return True
    # A fragment without an engine contributes all its files, except its own README and licence.
    return fragment.engine is None and not path.upper().startswith(("README", "LICENSE"))
