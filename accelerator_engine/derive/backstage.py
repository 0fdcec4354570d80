"""template.yaml: the form and the steps of Backstage's scaffolder."""

import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import FoldedScalarString

from accelerator_engine.derive.tables import BODY, FRONT_DOOR, OVERLAYS, Plan, allowed, combined, groups, variants_of
from accelerator_engine.options import Option

# Characters of a folded line, and a width that breaks no other line.
_LINE = 90
_UNLIMITED = 100_000
# The folder of the workspace that is published.
_PROJECT = "project"


def template_yaml(tables: Plan) -> str:
    """Return the Backstage template."""
    entity = {
        "apiVersion": "scaffolder.backstage.io/v1beta3",
        "kind": "Template",
        "metadata": {
            "name": tables.backstage["name"],
            "title": tables.display_name,
            "description": tables.description,
            "annotations": {"app.kubernetes.io/version": tables.version},
            "tags": tables.tags,
        },
        "spec": {
            "owner": tables.backstage["owner"],
            "type": "service",
            "parameters": [*(_page(title, options) for title, options in groups(tables)), _repository(tables)],
            "steps": [_fetch(tables), *_overlays(tables), *_publish(tables)],
            "output": {"links": _links(tables)},
        },
    }
    return _dump(entity)


def _dump(entity: dict[str, Any]) -> str:
    """Return the entity as YAML: a comment before each page and step, long texts folded, no references."""
    document = _readable(entity)
    document.yaml_set_start_comment("Derived from accelerator.yaml by `make derive`: edit that file.")
    for heading, items in (("Page", document["spec"]["parameters"]), ("Step", document["spec"]["steps"])):
        for number, item in enumerate(items):
            title = item.get("title") or item.get("name")
            items.yaml_set_comment_before_after_key(number, before=f"{heading}: {title}", indent=4)
    writer = YAML()
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = _UNLIMITED
    text = StringIO()
    writer.dump(document, text)
    return text.getvalue()


def _readable(value: Any) -> Any:
    """Return a value as ruamel.yaml's types, which can hold comments and say how a text is written."""
    if isinstance(value, Mapping):
        return CommentedMap((key, _readable(item)) for key, item in value.items())
    if isinstance(value, list):
        return CommentedSeq(map(_readable, value))
    if isinstance(value, str) and len(value) > _LINE and "${{" not in value and value.count(" ") * 12 > len(value):
        return _folded(value)
    return value


def _folded(text: str) -> Any:
    """Return a text that is written in several lines of at most `_LINE` characters."""
    # The attribute that says where lines end is not part of the class's types.
    folded: Any = FoldedScalarString(text)
    lines = textwrap.wrap(text, _LINE, break_long_words=False, break_on_hyphens=False)
    folded.fold_pos = list(itertools.accumulate((len(line) + 1 for line in lines[:-1]), initial=-1))[1:]
    return folded


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
        option.name: f"Allowed is: {allowed(option)}." for option in free if option.pattern and not option.choices
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
            "targetPath": _PROJECT,
            "cookiecutterCompat": True,
            **({"copyWithoutTemplating": tables.verbatim} if tables.verbatim else {}),
            "values": {**values, FRONT_DOOR: "backstage"},
        },
    }


def _overlays(tables: Plan) -> Iterator[dict[str, Any]]:
    """Yield the steps that lay overlay folders over the project.

    fs:delete leaves empty folders, so all overlay folders leave the project first, and what fits comes back.
    """
    yield {
        "id": "set-aside",
        "name": "Set the variants aside",
        "action": "fs:rename",
        "input": {"files": [{"from": f"{_PROJECT}/{OVERLAYS}", "to": OVERLAYS}]},
    }
    for variants, names in itertools.groupby(sorted(tables.overlays, key=variants_of), variants_of):
        yield {
            "id": "-".join(["add", *variants]),
            "name": f"Add {' and '.join(variants)}",
            "if": f"${{{{ {_when(tables, variants)} }}}}",
            "action": "fs:rename",
            "input": {"files": [{"from": name, "to": f"{_PROJECT}/{tables.overlays[name]}"} for name in names]},
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
                "sourcePath": _PROJECT,
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
    """Return the expression for an output of the publishing step that ran."""
    numbers = range(1, len(tables.backstage["publish"]) + 1)
    return "${{ " + " or ".join(f"steps['publish-{number}'].output.{key}" for number in numbers) + " }}"


def _links(tables: Plan) -> list[dict[str, str]]:
    return [
        {"title": "Repository", "url": _published(tables, "remoteUrl")},
        {"title": "Open in the catalog", "icon": "catalog", "entityRef": "${{ steps['register'].output.entityRef }}"},
    ]
