"""The options of an accelerator: what is asked, what is allowed, and the sentence that refuses the rest.

This module is part of the ring that a plain `cookiecutter` run loads: it imports the standard
library and PyYAML, nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Longer answers are cut in messages: the option and what is allowed have to stay readable.
_SHOWN = 60


class InvalidManifest(ValueError):
    """The manifest cannot be read, or an option in it is declared wrongly."""


class InvalidAnswer(ValueError):
    """An answer is missing or not allowed; the text is one sentence for the person who gave it."""


@dataclass(frozen=True)
class Choice:
    """One value of a select and the text that people see for it."""

    value: str
    text: str


@dataclass(frozen=True)
class Option:
    """One question. Its answer is text: numbers are asked for in one canonical spelling."""

    name: str
    label: str
    description: str
    default: str
    input_type: str
    required: bool
    choices: tuple[Choice, ...]
    pattern: str

    @property
    def values(self) -> tuple[str, ...]:
        """The values to choose from; empty for free text."""
        return tuple(choice.value for choice in self.choices)


def read_options(manifest: Path) -> tuple[Option, ...]:
    """Return the options that the manifest declares, in its order.

    Raises InvalidManifest when it is not YAML, lacks something, or refuses one of its own defaults,
    and OSError when it cannot be opened.
    """
    try:
        content = yaml.safe_load(manifest.read_text(encoding="utf-8-sig"))
        declared = content["accelerator"]["options"]
        options = tuple(_option(fields) for fields in declared)
        check(options, defaults(options))
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidManifest(f"{manifest.name} cannot be used: {_reason(error)}") from error
    return options


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return " ".join(str(error).split())


def _option(fields: Mapping[str, Any]) -> Option:
    name = _text(fields, "name")
    if fields["dataType"] != "string":
        raise InvalidManifest(f"{name} has the dataType {fields['dataType']!r}, and only string is known")
    pattern = _text(fields, "validationRegex")
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidManifest(f"the validationRegex of {name} is not a pattern: {error}") from error
    return Option(
        name=name,
        label=_text(fields, "label"),
        description=_text(fields, "description"),
        default=_text(fields, "defaultValue"),
        input_type=_text(fields, "inputType"),
        required=bool(fields["required"]),
        choices=tuple(_choice(choice) for choice in fields.get("choices", ())),
        pattern=pattern,
    )


def _choice(fields: Mapping[str, Any]) -> Choice:
    return Choice(value=_text(fields, "value"), text=_text(fields, "text"))


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise InvalidManifest(f"{key} has to be text, and is {value!r} (quotes make it text)")
    return value


def defaults(options: Iterable[Option]) -> dict[str, str]:
    """Return the default answer of every option."""
    return {option.name: option.default for option in options}


def check(options: Iterable[Option], answers: Mapping[str, object], *, partial: bool = False) -> None:
    """Check the answers against the options; answers to no option are nobody's business here.

    With `partial` an option may be unanswered so far.

    Raises InvalidAnswer for the first option, in the manifest's order, that is refused.
    """
    for option in options:
        if option.name in answers:
            _check_answer(option, answers[option.name])
        elif not partial:
            raise InvalidAnswer(f"{option.name} is missing; {_allowed(option)}.")


def _check_answer(option: Option, answer: object) -> None:
    if not isinstance(answer, str):
        kind = type(answer).__name__
        raise InvalidAnswer(f"{option.name} cannot be {_shown(answer)} ({kind}, not text); {_allowed(option)}.")
    chosen = not option.choices or answer in option.values
    # `search`, not `fullmatch`: the engine of Application Accelerator looks for the pattern
    # anywhere, so a manifest says itself where it is anchored.
    if not chosen or re.search(option.pattern, answer) is None:
        raise InvalidAnswer(f"{option.name} cannot be {_shown(answer)}; {_allowed(option)}.")


def _shown(answer: object) -> str:
    """Return the answer as Python would write it: what cannot be printed is escaped."""
    if isinstance(answer, str) and len(answer) > _SHOWN:
        return f"{answer[:_SHOWN]!r}… ({len(answer)} characters)"
    text = repr(answer)
    return text if isinstance(answer, str) or len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _allowed(option: Option) -> str:
    description = option.description.rstrip(". ")
    return f"allowed is {description[:1].lower()}{description[1:]}, for example {option.default}"
