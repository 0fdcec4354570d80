"""The options of an accelerator, and the check of answers against them.

A plain `cookiecutter` run loads this module, so it imports only the standard library and PyYAML.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerator_engine.manifest import InvalidManifest, Map, line_of, load_bytes, one_line

# Messages cut longer answers, so that the option and the allowed values stay readable.
_EXCERPT = 60

INPUT_TYPES = ("text", "textarea", "checkbox", "select", "radio")
_SCALARS: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "number": (int, float)}
_WORDS = {"string": "text", "boolean": "true or false", "number": "a number"}

Search = Callable[[str, str], object]


class InvalidAnswer(ValueError):
    """An answer is missing or not allowed; the text is one sentence for the user."""


class MissingAnswers(InvalidAnswer):
    """Required options without a default have no answer; `names` lists them."""

    def __init__(self, names: list[str]) -> None:
        """Use the wording of Application Accelerator."""
        self.names = names
        super().__init__(f"Invalid options provided. Expected but not present: [{', '.join(map(one_line, names))}]")


@dataclass(frozen=True)
class Choice:
    """A value of a select and its label."""

    value: Any
    text: str


@dataclass(frozen=True)
class Condition:
    """The value of another option that makes an option apply."""

    name: str
    value: Any


@dataclass(frozen=True)
class Option:
    """A question.

    `data_type` is string, boolean, number or the name of a custom type; with `is_list` the answer is a
    list of such values. `default` is None for an option without a default.
    """

    name: str
    label: str = ""
    description: str = ""
    data_type: str = "string"
    is_list: bool = False
    default: Any = None
    input_type: str = "text"
    required: bool = False
    choices: tuple[Choice, ...] = ()
    pattern: str = ""
    condition: Condition | None = None
    group: str = ""
    backstage: Mapping[str, Any] = field(default_factory=dict)
    fields: "tuple[Option, ...]" = ()
    line: int | None = field(default=None, compare=False)

    @property
    def values(self) -> tuple[Any, ...]:
        """The allowed values; empty for free text."""
        return tuple(choice.value for choice in self.choices)


def read_options(manifest: Path) -> tuple[Option, ...]:
    """Return the options of a manifest, in its order.

    Raises OSError, and InvalidManifest, also if the manifest forbids one of its own defaults.
    """
    return _options(manifest.read_bytes())


# cookiecutter asks for them with every environment that it creates, four times per project.
@functools.lru_cache(maxsize=1)
def _options(manifest: bytes) -> tuple[Option, ...]:
    """Return the options of a manifest's bytes. Raises InvalidManifest."""
    options = parse_options(load_bytes(manifest))
    for option in options:
        if option.default is None:
            raise InvalidManifest(f"option {option.name} has no defaultValue", option.line)
        try:
            check([option], {option.name: option.default})
        except InvalidAnswer as error:
            raise InvalidManifest(f"the defaultValue is refused: {error}", option.line) from error
    return options


def parse_types(content: object) -> dict[str, tuple[Option, ...]]:
    """Return the fields of each custom type in a manifest's content. Raises InvalidManifest."""
    types = maps(section(content, "accelerator"), "types", "accelerator")
    return {text(item, "name", "a type"): tuple(map(_field, options_in(item, "struct"))) for item in types}


def parse_options(
    content: object, imported: Mapping[str, tuple[Option, ...]] = MappingProxyType({})
) -> tuple[Option, ...]:
    """Return the options in a manifest's content.

    Their types may be the manifest's own or imported ones. Raises InvalidManifest.
    """
    types = {**imported, **parse_types(content)}
    return tuple(_with_fields(option, types) for option in options_in(section(content, "accelerator"), "options"))


def section(content: object, key: str) -> Map:
    """Return a top-level mapping, empty if the key is missing. Raises InvalidManifest."""
    if not isinstance(content, Map):
        raise InvalidManifest("a manifest is a mapping with the keys accelerator and engine", line_of(content) or 1)
    value = content.get(key)
    if value is None:
        return _empty(content.lines.get(key, 1))
    if not isinstance(value, Map):
        raise InvalidManifest(f"{key} has to be a mapping, and is {_excerpt(value)}", content.lines[key])
    return value


def _empty(line: int) -> Map:
    mapping = Map()
    mapping.line, mapping.lines, mapping.repeated = line, {}, {}
    return mapping


def maps(parent: Map, key: str, where: str) -> list[Map]:
    """Return a list of mappings, empty if the key is missing. Raises InvalidManifest."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Map) for item in value):
        raise InvalidManifest(f"{key} of {where} has to be a list of mappings", parent.lines[key])
    return value


def options_in(parent: Map, key: str) -> tuple[Option, ...]:
    """Return a list of options. Raises InvalidManifest."""
    return tuple(_option(fields) for fields in maps(parent, key, "accelerator"))


def _field(option: Option) -> Option:
    if option.data_type not in _SCALARS:
        reason = f"field {option.name} has the dataType {option.data_type!r}; a type's fields are {', '.join(_SCALARS)}"
        raise InvalidManifest(reason, option.line)
    return option


def _with_fields(option: Option, types: Mapping[str, tuple[Option, ...]]) -> Option:
    if option.data_type in _SCALARS:
        return option
    if option.data_type not in types:
        known = ", ".join([*_SCALARS, *types])
        raise InvalidManifest(
            f"option {option.name} has the dataType {option.data_type!r}; known are {known}", option.line
        )
    return replace(option, fields=types[option.data_type])


def _option(fields: Map) -> Option:
    name = text(fields, "name", "an option")
    where = f"option {name}"
    data_type = fields.get("dataType", "string")
    is_list = isinstance(data_type, list)
    if is_list:
        data_type = data_type[0] if len(data_type) == 1 else None
    if not isinstance(data_type, str):
        raise InvalidManifest(f"dataType of {where} has to be a name or a list of one name", fields.lines["dataType"])
    input_type = optional_text(fields, "inputType", where) or "text"
    if input_type not in INPUT_TYPES:
        allowed = ", ".join(INPUT_TYPES)
        raise InvalidManifest(
            f"inputType of {where} is {input_type!r}; allowed are {allowed}", fields.lines["inputType"]
        )
    return Option(
        name=name,
        label=optional_text(fields, "label", where),
        description=optional_text(fields, "description", where),
        data_type=data_type,
        is_list=is_list,
        default=fields.get("defaultValue"),
        input_type=input_type,
        required=fields.get("required") is True,
        choices=tuple(_choice(choice, where) for choice in maps(fields, "choices", where)),
        pattern=optional_text(fields, "validationRegex", where),
        condition=condition_in(fields, f"dependsOn of {where}"),
        group=optional_text(fields, "x-group", where),
        backstage=section(fields, "x-backstage"),
        line=fields.line,
    )


def _choice(fields: Map, where: str) -> Choice:
    if "value" not in fields:
        raise InvalidManifest(f"a choice of {where} has no value", fields.line)
    return Choice(value=fields["value"], text=str(fields.get("text", fields["value"])))


def condition_in(fields: Map, where: str) -> Condition | None:
    """Return the condition in `dependsOn`, None if the key is missing. Raises InvalidManifest."""
    depends_on = fields.get("dependsOn")
    if depends_on is None:
        return None
    if not isinstance(depends_on, Map):
        raise InvalidManifest(f"{where} has to be a mapping with the keys name and value", fields.line)
    return Condition(text(depends_on, "name", where), depends_on.get("value", True))


def text(fields: Map, key: str, where: str) -> str:
    """Return a required text. Raises InvalidManifest if it is missing or empty."""
    if fields.get(key) is None:
        raise InvalidManifest(f"{where} has no {key}", fields.line)
    value = optional_text(fields, key, where)
    if not value:
        raise InvalidManifest(f"{key} of {where} is empty", fields.lines[key])
    return value


def optional_text(fields: Map, key: str, where: str) -> str:
    """Return a text, empty if the key is missing. Raises InvalidManifest for another type."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        reason = f"{key} of {where} has to be text, and is {_excerpt(value)} (quotes make it text)"
        raise InvalidManifest(reason, fields.lines[key])
    return value


def defaults(options: Iterable[Option]) -> dict[str, Any]:
    """Return the default answers; of options with the same name the first one counts."""
    answers: dict[str, Any] = {}
    for option in options:
        if option.default is not None:
            answers.setdefault(option.name, option.default)
    return answers


def is_asked(option: Option, answers: Mapping[str, object]) -> bool:
    """Return whether the answers meet the option's condition; `true` does not equal 1."""
    if option.condition is None:
        return True
    return _same(answers.get(option.condition.name), option.condition.value)


def _same(left: object, right: object) -> bool:
    """Return whether two values of JSON are equal; `true` does not equal 1 at any depth."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def completed(options: Iterable[Option], answers: Mapping[str, object]) -> dict[str, object]:
    """Return the answers with the default of each option that is unanswered or does not apply.

    The order of the options matters: a condition sees the defaults of the options before it.
    """
    result = dict(answers)
    for option in options:
        if option.default is not None and (option.name not in result or not is_asked(option, result)):
            result[option.name] = option.default
    return result


def check(
    options: Iterable[Option], answers: Mapping[str, object], *, partial: bool = False, search: Search = re.search
) -> None:
    """Check the answers against the options, and ignore answers to unknown options.

    With `partial` an option may have no answer yet. `search` searches a text for a pattern.

    Raises InvalidAnswer for the first invalid option in the manifest's order, and InvalidManifest for
    an invalid validationRegex.
    """
    for error in mistakes(options, answers, partial=partial, search=search).values():
        raise error


def mistakes(
    options: Iterable[Option], answers: Mapping[str, object], *, partial: bool = False, search: Search = re.search
) -> dict[str, InvalidAnswer]:
    """Return the error of each invalid option by its name, in the manifest's order; arguments as for `check`.

    Raises InvalidManifest for an invalid validationRegex.
    """
    errors: dict[str, InvalidAnswer] = {}
    for option in options:
        try:
            if option.name in answers:
                check_answer(option, answers[option.name], search)
            elif not partial:
                raise InvalidAnswer(f"{option.name} is missing; {_allowed(option)}.")
        except InvalidAnswer as error:
            errors.setdefault(option.name, error)
    return errors


def check_answer(option: Option, answer: object, search: Search = re.search) -> None:
    """Check one answer; raises as `check` does."""
    if option.is_list:
        if not isinstance(answer, list):
            raise InvalidAnswer(f"{option.name} cannot be {_excerpt(answer)} (not a list); {_allowed(option)}.")
        for item in answer:
            _check_value(option, item, search)
    else:
        _check_value(option, answer, search)


def _check_value(option: Option, answer: object, search: Search) -> None:
    if option.data_type not in _SCALARS:
        if not isinstance(answer, Mapping):
            raise InvalidAnswer(f"{option.name} cannot be {_excerpt(answer)} (not a mapping); {_allowed(option)}.")
        for part in option.fields:
            if part.name in answer:
                check_answer(replace(part, name=f"{option.name}.{part.name}"), answer[part.name], search)
        return
    if not isinstance(answer, _SCALARS[option.data_type]) or (
        option.data_type == "number" and isinstance(answer, bool)
    ):
        difference = f"{_kind(answer)}, not {_WORDS[option.data_type]}"
        if option.data_type == "string" and isinstance(answer, bool | int | float):
            difference += f': write "{_text(answer)}"'
        raise InvalidAnswer(f"{option.name} cannot be {_excerpt(answer)} ({difference}); {_allowed(option)}.")
    if not _fits(option, _text(answer), search):
        raise InvalidAnswer(f"{option.name} cannot be {_excerpt(answer)}; {_allowed(option)}.")


def _fits(option: Option, answer: str, search: Search) -> bool:
    """Return whether the pattern matches anywhere in the answer."""
    # Application Accelerator accepts a blank answer to an optional question.
    if not option.pattern or (not answer.strip() and not option.required):
        return True
    try:
        return bool(search(option.pattern, answer))
    except (ValueError, re.error) as error:
        reason = f"the validationRegex of option {option.name} is not a pattern: {error}"
        raise InvalidManifest(reason, option.line) from error


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: object) -> str:
    """Return the JSON type of a value, for messages."""
    if isinstance(value, bool):
        return "true or false"
    kinds = ((str, "text"), (int | float, "a number"), (list, "a list"), (Mapping, "a mapping"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing" if value is None else "no JSON")


def _excerpt(answer: object) -> str:
    """Return text as a Python literal, which escapes unprintable characters, and other values as JSON."""
    if isinstance(answer, str):
        return repr(answer) if len(answer) <= _EXCERPT else f"{answer[:_EXCERPT]!r}… ({len(answer)} characters)"
    literal = json.dumps(answer, default=repr)
    return literal if len(literal) <= _EXCERPT else f"{literal[:_EXCERPT]}…"


def _allowed(option: Option) -> str:
    if option.description and option.default not in (None, ""):
        description = one_line(option.description).rstrip(". ")
        return f"allowed is {description[:1].lower()}{description[1:]}, for example {one_line(_text(option.default))}"
    allowed = _WORDS.get(option.data_type, f"a mapping of type {option.data_type}")
    if option.is_list:
        allowed = f"a list, each item {allowed}"
    return f"allowed is {allowed}{f' that matches {one_line(option.pattern)}' if option.pattern else ''}"
