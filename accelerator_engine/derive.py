"""What follows from accelerator.yaml: cookiecutter.json, template.yaml and docs/options.md.

The engine section becomes tables first: which answers keep which overlay folder, and in which files
placeholders are filled in. It has this shape:

* let with the default of each conditional question that was not asked,
* include of the body's folder, then a chain of
* a condition on options with a finite number of values, and an exclude of `**/variants/<name>/**`,
* RewritePath without a condition, which lays the body's folder and the overlay folders over the project,
* an applyTo with ReplaceText, whose substitutions are the placeholders.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from accelerator_engine.engine import Accelerator, load
from accelerator_engine.java_types import text_of
from accelerator_engine.manifest import InvalidManifest, Map
from accelerator_engine.options import InvalidAnswer, Option, check_answer, section
from accelerator_engine.patterns import matches, matches_any
from accelerator_engine.transforms import Combo, ReplaceText, RewritePath, Transform, path_groups
from accelerator_engine.tree import Resource, read_folder

BODY = "{{cookiecutter.projectName}}"
_PLACEHOLDER = re.compile(r"\{\{ cookiecutter\.(\w+) \}\}")
_BRACES = (b"{{", b"{%", b"{#")
# Where a question stands that is the front door's own: the answer says which door it was.
FRONT_DOOR = "_frontDoor"
# The folder of the body that holds the overlay folders, and an exclude of one of them.
OVERLAYS = "variants"
_OVERLAY = re.compile(rf"{OVERLAYS}/([^/]+)/")
_EXCLUDE = re.compile(rf"\*\*/{OVERLAYS}/([^/*?]+)/\*\*")

_SHAPE = "make derive cannot turn this into a table"
_EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"


# The answers that keep an overlay folder: option → the values that do.
Answers = dict[str, list[Any]]


@dataclass
class Plan:
    """What the engine section comes to, as tables."""

    options: tuple[Option, ...]
    display_name: str
    description: str
    tags: list[str]
    backstage: Mapping[str, Any]
    # Overlay folder by name → the answers that keep it.
    variants: dict[str, Answers]
    # File of an overlay folder → its path in the project.
    overlays: dict[str, str]
    # Files in which placeholders are filled in, and files with braces in which nothing is.
    rendered: list[str]
    verbatim: list[str]


# The plan


def plan(root: Path) -> Plan:
    """Return the tables. Raises InvalidManifest when the engine section cannot be turned into them."""
    files = read_folder(root)
    accelerator = load(files)
    _check_options(accelerator.options)
    body = {
        resource.path.removeprefix(f"{BODY}/"): resource for resource in files if resource.path.startswith(f"{BODY}/")
    }
    reading = _Reading(accelerator, {name: resource.path for name, resource in body.items()})
    reading.read()
    shown = section(accelerator.content, "accelerator")
    verbatim = [
        name
        for name, resource in body.items()
        if name not in reading.rendered and any(braces in resource.content for braces in _BRACES)
    ]
    _check_placeholders(accelerator, body, reading)
    return Plan(
        options=accelerator.options,
        display_name=shown.get("displayName", ""),
        description=" ".join(str(shown.get("description", "")).split()),
        tags=list(shown.get("tags", [])),
        backstage=_backstage(shown),
        variants=dict(sorted(reading.variants.items())),
        overlays={name: path for name, path in sorted(reading.paths.items()) if path != name},
        rendered=sorted(reading.rendered),
        verbatim=sorted(verbatim),
    )


def _backstage(shown: Map) -> Map:
    """Return what only Backstage is told: the template's name and owner, and where projects are published."""
    told = section(shown, "x-backstage")
    for key in ("name", "owner", "repoVisibility", "publish"):
        if key not in told:
            raise InvalidManifest(f"x-backstage of accelerator has no {key}", told.line)
    return told


def _check_options(options: Sequence[Option]) -> None:
    """Refuse questions that not every front door can ask. Raises InvalidManifest."""
    for option in options:
        wanted = {
            "a dataType of string or boolean, numbers as text": option.data_type in ("string", "boolean")
            and not option.is_list,
            "a defaultValue": option.default is not None,
            "a label": option.label,
            "a description": option.description,
            "an x-group": option.group,
            "a validationRegex": option.pattern or option.data_type == "boolean",
        }
        for what, given in wanted.items():
            if not given:
                raise InvalidManifest(f"option {option.name} needs {what}, for the other front doors", option.line)
        try:
            for value in (option.default, *option.values):
                check_answer(option, value)
        except InvalidAnswer as error:
            raise InvalidManifest(f"option {option.name} refuses a value of its own: {error}", option.line) from error
    groups = [group for group, _ in itertools.groupby(option.group for option in options)]
    for option in options:
        if groups.count(option.group) > 1:
            reason = f"the options of the x-group {option.group} have to stand one after the other"
            raise InvalidManifest(reason, option.line)


class _Reading:
    """Follows the body's files through the engine section."""

    def __init__(self, accelerator: Accelerator, paths: dict[str, str]) -> None:
        self._accelerator = accelerator
        # Each file's name in the body, and its path so far.
        self.paths = paths
        self.variants: dict[str, Answers] = {}
        self.rendered: set[str] = set()
        self.substitutions: set[str] = set()

    def read(self) -> None:
        engine = self._accelerator.engine
        if not isinstance(engine, Combo) or engine.include is None or engine.condition or engine.merge:
            raise InvalidManifest(f"{_SHAPE}: engine has to be an include and a chain", engine.line if engine else None)
        self._check_symbols(engine)
        outside = [name for name, path in self.paths.items() if not matches_any(engine.include, path)]
        if outside:
            raise InvalidManifest(f"{_SHAPE}: the include leaves out {outside[0]}", engine.line)
        for transform in engine.chain:
            self._step(transform)

    def _check_overlays(self, line: int | None) -> None:
        """Refuse a body whose files do not land where their overlay folders say, or land twice for some answers."""
        placed: dict[str, list[str]] = {}
        for name, path in self.paths.items():
            variants = variants_of(name)
            expected = "/".join(name.split("/")[2 * len(variants) :])
            if path != expected:
                raise InvalidManifest(f"{_SHAPE}: {name} becomes {path}, not {expected}", line)
            unknown = [variant for variant in variants if variant not in self.variants]
            if unknown:
                raise InvalidManifest(f"no answer excludes the folder {OVERLAYS}/{unknown[0]}", line)
            placed.setdefault(path, []).append(name)
        for names in placed.values():
            self._check_exclusive(names, line)

    def _check_exclusive(self, names: Sequence[str], line: int | None) -> None:
        """Refuse files with one path when some answers keep two of them."""
        for pair in itertools.combinations(names, 2):
            needed = combined(self.variants[variant] for name in pair for variant in variants_of(name))
            if all(needed.values()):
                raise InvalidManifest(f"some answers keep both {' and '.join(pair)}", line)

    def _check_symbols(self, engine: Combo) -> None:
        """Refuse a conditional question that could be answered although it was not asked."""
        symbols = {symbol.name: symbol.expression for symbol in engine.let}
        conditional = {option.name: option for option in self._accelerator.options if option.condition}
        if symbols.keys() != conditional.keys():
            differing = ", ".join(sorted(symbols.keys() ^ conditional.keys()))
            raise InvalidManifest(f"{_SHAPE}: let has to define just what has a dependsOn: {differing}", engine.line)
        for name, option in conditional.items():
            condition = option.condition
            assert condition is not None  # noqa: S101, just chosen by it
            for value in self._domain(condition.name, engine):
                # Any text will do for an answer: it has to come through unless the condition is not met.
                for answer in (False, True) if option.data_type == "boolean" else ("any", "text"):
                    expected = answer if value == condition.value else option.default
                    if symbols[name].value({condition.name: value, name: answer}) != expected:
                        reason = f"the symbol {name} has to be the answer, or the default when it was not asked"
                        raise InvalidManifest(f"{_SHAPE}: {reason}", engine.line)

    def _step(self, transform: Transform) -> None:
        if isinstance(transform, RewritePath) and transform.condition is None:
            self._rewrite(transform)
        elif isinstance(transform, Combo) and transform.exclude and transform.condition and not transform.chain:
            self._drop(transform)
        elif isinstance(transform, Combo) and transform.apply_to and transform.condition is None:
            self._render(transform)
        else:
            raise InvalidManifest(
                f"{_SHAPE}: allowed are RewritePath, a condition with an exclude, and an applyTo with ReplaceText",
                transform.line,
            )

    def _rewrite(self, transform: RewritePath) -> None:
        for name, path in self.paths.items():
            groups = path_groups(transform.regex, path)
            if groups is not None:
                self.paths[name] = transform.rewrite_to.text(groups)
        self._check_overlays(transform.line)

    def _drop(self, transform: Combo) -> None:
        when = self._answers(transform)
        for pattern in transform.exclude or ():
            excluded = _EXCLUDE.fullmatch(pattern)
            if not excluded:
                raise InvalidManifest(f"{_SHAPE}: {pattern!r} is not **/{OVERLAYS}/<name>/**", transform.line)
            if not any(matches(pattern, path) for path in self.paths.values()):
                raise InvalidManifest(f"the exclude pattern {pattern!r} matches no file", transform.line)
            name = excluded[1]
            self.variants[name] = combined([self.variants.get(name, {}), when])

    def _answers(self, transform: Combo) -> dict[str, list[Any]]:
        """Return for which answers the condition is false: what is excluded on it is there for those."""
        condition = transform.condition
        assert condition is not None  # noqa: S101, _step asked
        domains = {name: self._domain(name, transform) for name in sorted(condition.names)}
        combinations = [dict(zip(domains, values, strict=True)) for values in itertools.product(*domains.values())]
        kept = [answers for answers in combinations if not condition.condition(answers)]
        when = {
            name: [value for value in domain if any(answers[name] == value for answers in kept)]
            for name, domain in domains.items()
        }
        if not kept or len(kept) == len(combinations) or math.prod(map(len, when.values())) != len(kept):
            raise InvalidManifest(f"{_SHAPE}: {condition.source} is no table of answers", transform.line)
        return {name: values for name, values in when.items() if values != domains[name]}

    def _domain(self, name: str, transform: Combo) -> list[Any]:
        option = next((option for option in self._accelerator.options if option.name == name), None)
        if option is None:
            raise InvalidManifest(f"the condition names {name}, which is no option", transform.line)
        values = [False, True] if option.data_type == "boolean" else list(option.values)
        if not values:
            raise InvalidManifest(f"{_SHAPE}: the condition names {name}, which has no list of choices", transform.line)
        return values

    def _render(self, transform: Combo) -> None:
        if not all(isinstance(step, ReplaceText) and step.regex is None for step in transform.chain):
            raise InvalidManifest(f"{_SHAPE}: an applyTo takes ReplaceText with substitutions", transform.line)
        for pattern in transform.apply_to or ():
            found = [name for name, path in self.paths.items() if matches(pattern, path)]
            if not found:
                raise InvalidManifest(f"the applyTo pattern {pattern!r} matches no file", transform.line)
            self.rendered.update(found)
        for step in transform.chain:
            if isinstance(step, ReplaceText):
                self._check_substitutions(step)

    def _check_substitutions(self, transform: ReplaceText) -> None:
        for item in transform.substitutions:
            found = _PLACEHOLDER.fullmatch(item.text)
            name = found[1] if found else ""
            wanted = "'accelerator'" if name == FRONT_DOOR else f"#{name}"
            if not name or item.replacement.source.strip() != wanted:
                raise InvalidManifest(
                    f"{_SHAPE}: {item.text!r} with {item.replacement.source} is no placeholder and its option",
                    transform.line,
                )
            self.substitutions.add(name)


def variants_of(name: str) -> list[str]:
    """Return the overlay folders, outermost first, that hold a file of the body."""
    variants = []
    while match := _OVERLAY.match(name):
        variants.append(match[1])
        name = name[match.end() :]
    return variants


def combined(conditions: Iterable[Answers]) -> Answers:
    """Return the answers that meet all conditions; an option without a value left means that none do."""
    together: Answers = {}
    for when in conditions:
        for option, values in when.items():
            together[option] = [value for value in together.get(option, values) if value in values]
    return together


def _check_placeholders(accelerator: Accelerator, body: Mapping[str, Resource], reading: _Reading) -> None:
    """Refuse a placeholder that nothing fills in: Backstage would leave an empty place."""
    expected = {option.name for option in accelerator.options} | {FRONT_DOOR}
    line = accelerator.engine.line if accelerator.engine else None
    for name in sorted(reading.substitutions ^ expected):
        reason = "no substitution of the engine section fills in" if name in expected else "there is no option for"
        raise InvalidManifest(f"{reason} {{{{ cookiecutter.{name} }}}}", line)
    for name, resource in sorted(body.items()):
        for number, text in enumerate(resource.content.decode(errors="replace").split("\n"), start=1):
            _check_line(text, number, name, expected, rendered=name in reading.rendered)


def _check_line(text: str, number: int, name: str, expected: set[str], *, rendered: bool) -> None:
    """Refuse what stands in braces where it is filled in, and an answer's place where nothing is."""
    known = [found[0] for found in _PLACEHOLDER.finditer(text) if found[1] in expected]
    file = f"{BODY}/{name}"
    if known and not rendered:
        raise InvalidManifest(f"{known[0]} is not filled in, because no applyTo names the file", number, file)
    rest = _PLACEHOLDER.sub(lambda found: "" if found[1] in expected else found[0], text)
    if rendered and any(braces.decode() in rest for braces in _BRACES):
        raise InvalidManifest(f"{rest.strip()[:80]!r} is no placeholder of an option", number, file)


# cookiecutter.json


def cookiecutter_json(tables: Plan) -> str:
    """Return the questions, texts and tables for cookiecutter."""
    context: dict[str, Any] = {option.name: _cookiecutter_default(option) for option in tables.options}
    context["__prompts__"] = {option.name: _cookiecutter_prompt(option) for option in tables.options}
    context["_extensions"] = [_EXTENSION]
    context[FRONT_DOOR] = "cookiecutter"
    context["_copy_without_render"] = tables.verbatim
    context["_variants"] = tables.variants
    return json.dumps(context, indent=4, ensure_ascii=False) + "\n"


def _cookiecutter_default(option: Option) -> Any:
    if option.choices:
        # The first of a list is cookiecutter's default.
        return [option.default, *(value for value in option.values if value != option.default)]
    return option.default


def _cookiecutter_prompt(option: Option) -> str | dict[str, str]:
    if not option.choices:
        return option.label
    return {"__prompt__": option.label, **{choice.value: choice.text for choice in option.choices}}


# template.yaml

_HEADER = "# Derived from accelerator.yaml by `make derive`: edit that file.\n"


def template_yaml(tables: Plan) -> str:
    """Return the Backstage template."""
    entity = {
        "apiVersion": "scaffolder.backstage.io/v1beta3",
        "kind": "Template",
        "metadata": {
            "name": tables.backstage["name"],
            "title": tables.display_name,
            "description": tables.description,
            "tags": tables.tags,
        },
        "spec": {
            "owner": tables.backstage["owner"],
            "type": "service",
            "parameters": [*(_page(title, options) for title, options in _groups(tables)), _repository(tables)],
            "steps": [_fetch(tables), *_overlays(tables), *_publish(tables)],
            "output": {"links": _links(tables)},
        },
    }
    return _HEADER + _yaml(entity)


class _Dumper(yaml.SafeDumper):
    """Lists are indented, and nothing is written as a reference to something above."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)
_Dumper.add_multi_representer(list, yaml.SafeDumper.represent_list)


def _yaml(data: object) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=150)


def _groups(tables: Plan) -> Iterator[tuple[str, list[Option]]]:
    for title, options in itertools.groupby(tables.options, lambda option: option.group):
        yield title, list(options)


def _page(title: str, options: Sequence[Option]) -> dict[str, Any]:
    """Return a page of the form; a conditional question is there when its condition is met."""
    free = [option for option in options if option.condition is None]
    page: dict[str, Any] = {
        "title": title,
        "required": [option.name for option in free],
        "properties": {option.name: _property(option) for option in free},
    }
    conditional = [option for option in options if option.condition is not None]
    if conditional:
        page["allOf"] = [_conditional(option) for option in conditional]
    messages = {
        option.name: f"Allowed is: {_allowed(option)}." for option in free if option.pattern and not option.choices
    }
    if messages:
        page["errorMessage"] = {"properties": messages}
    return page


def _conditional(option: Option) -> dict[str, Any]:
    condition = option.condition
    assert condition is not None  # noqa: S101, the caller chose these
    return {
        "if": {"properties": {condition.name: {"const": condition.value}}, "required": [condition.name]},
        "then": {"properties": {option.name: _property(option)}, "required": [option.name]},
    }


def _allowed(option: Option) -> str:
    return option.description[:1].lower() + option.description[1:].rstrip(". ")


def _property(option: Option) -> dict[str, Any]:
    shown: dict[str, Any] = {"title": option.label, "description": option.description, "type": option.data_type}
    if option.choices:
        shown["enum"] = list(option.values)
        shown["enumNames"] = [choice.text for choice in option.choices]
    elif option.data_type == "string":
        shown["pattern"] = _entity_pattern(option)
    shown["default"] = option.default
    return {**shown, **option.backstage}


def _is_entity(option: Option) -> bool:
    return option.backstage.get("ui:field") == "OwnerPicker"


def _entity_pattern(option: Option) -> str:
    """Return the pattern; a picker of groups answers `group:default/name` for `name`."""
    if not _is_entity(option):
        return option.pattern
    return option.pattern.replace("^", "^(?:group:default/)?", 1)


def _value(option: Option) -> str:
    """Return the expression for an answer; a question that was not asked has its default."""
    value = f"parameters.{option.name}"
    if _is_entity(option):
        value = f"({value} | parseEntityRef({{defaultKind:'group'}})).name"
    if option.condition is None:
        return value
    asked = f"parameters.{option.condition.name} === {_literal(option.condition.value)}"
    return f"{value} if {asked} else {_literal(option.default)}"


def _literal(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def _fetch(tables: Plan) -> dict[str, Any]:
    values = {option.name: f"${{{{ {_value(option)} }}}}" for option in tables.options}
    return {
        "id": "fetch",
        "name": "Generate the project",
        "action": "fetch:template",
        "input": {
            "url": f"./{BODY}",
            "cookiecutterCompat": True,
            **({"copyWithoutTemplating": tables.verbatim} if tables.verbatim else {}),
            "values": {**values, FRONT_DOOR: "backstage"},
        },
    }


def _overlays(tables: Plan) -> Iterator[dict[str, Any]]:
    """Yield a step for each overlay folder whose files are laid over the project, and the removal of the rest."""
    for variants, names in itertools.groupby(sorted(tables.overlays, key=variants_of), variants_of):
        yield {
            "id": "-".join(["add", *variants]),
            "name": f"Add {' and '.join(variants)}",
            "if": f"${{{{ {_when(tables, variants)} }}}}",
            "action": "fs:rename",
            "input": {"files": [{"from": name, "to": tables.overlays[name]} for name in names]},
        }
    yield {
        "id": "tidy",
        "name": "Leave out the other variants",
        "action": "fs:delete",
        "input": {"files": [OVERLAYS]},
    }


def _when(tables: Plan, variants: Sequence[str]) -> str:
    """Return the condition under which a variant within a variant is kept."""
    options = {option.name: option for option in tables.options}
    together = combined(tables.variants[variant] for variant in variants)
    return " and ".join(_any_of(_value(options[name]), values) for name, values in together.items())


def _any_of(expression: str, values: Sequence[object]) -> str:
    shown = f"({expression})" if " " in expression else expression
    equal = [f"{shown} === {_literal(value)}" for value in values]
    return equal[0] if len(equal) == 1 else f"({' or '.join(equal)})"


def _repository(tables: Plan) -> dict[str, Any]:
    field = {
        "title": "Repository",
        "description": "Where the project is published",
        "type": "string",
        "ui:field": "RepoUrlPicker",
        "ui:options": {"allowedHosts": list(tables.backstage["publish"])},
    }
    return {"title": "Repository", "required": ["repoUrl"], "properties": {"repoUrl": field}}


def _publish(tables: Plan) -> Iterator[dict[str, Any]]:
    """Return a step for each host, of which one runs, and the registration."""
    for number, (host, action) in enumerate(tables.backstage["publish"].items(), start=1):
        yield {
            "id": f"publish-{number}",
            "name": f"Publish to {host}",
            "if": f"${{{{ (parameters.repoUrl | parseRepoUrl).host === '{host}' }}}}",
            "action": action,
            "input": {
                "repoUrl": "${{ parameters.repoUrl }}",
                "defaultBranch": "main",
                "repoVisibility": tables.backstage["repoVisibility"],
            },
        }
    yield {
        "id": "register",
        "name": "Register in the catalog",
        "action": "catalog:register",
        "input": {"repoContentsUrl": _published(tables, "repoContentsUrl"), "catalogInfoPath": "/catalog-info.yaml"},
    }


def _published(tables: Plan, key: str) -> str:
    """Return the expression for what the step that ran has put out."""
    numbers = range(1, len(tables.backstage["publish"]) + 1)
    return "${{ " + " or ".join(f"steps['publish-{number}'].output.{key}" for number in numbers) + " }}"


def _links(tables: Plan) -> list[dict[str, str]]:
    return [
        {"title": "Repository", "url": _published(tables, "remoteUrl")},
        {"title": "Open in the catalog", "icon": "catalog", "entityRef": "${{ steps['register'].output.entityRef }}"},
    ]


# docs/options.md


def options_page(tables: Plan) -> str:
    """Return the page for people."""
    lines = [
        "<!-- Derived from accelerator.yaml by `make derive`: edit that file. -->",
        "",
        "# Options",
        "",
        "The same questions in every front door. An answer that is not allowed is refused before a file is written.",
    ]
    for title, options in _groups(tables):
        lines += ["", f"## {title}", "", "| option | question | default | allowed |", "|---|---|---|---|"]
        lines += [_row(option) for option in options]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    allowed = _allowed(option)
    if option.choices:
        allowed = " · ".join(f"`{choice.value}`: {choice.text}" for choice in option.choices)
    if option.condition is not None:
        allowed += f" (asked when {option.condition.name} is {text_of(option.condition.value)})"
    cells = (f"`{option.name}`", option.label, f"`{text_of(option.default)}`", allowed)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# Files

_FILES: dict[str, Callable[[Plan], str]] = {
    "cookiecutter.json": cookiecutter_json,
    "template.yaml": template_yaml,
    "docs/options.md": options_page,
}


def derived(root: Path) -> dict[Path, str]:
    """Return the text of each derived file. Raises InvalidManifest, and OSError."""
    tables = plan(root)
    return {root / name: make(tables) for name, make in _FILES.items()}


def stale(files: Mapping[Path, str]) -> Iterable[Path]:
    """Return the files that do not hold what they should."""
    return [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
