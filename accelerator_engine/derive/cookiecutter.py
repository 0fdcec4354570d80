"""cookiecutter.json: the questions, their texts, and the tables that its hook reads."""

import json
from collections.abc import Iterable
from typing import Any

from accelerator_engine.derive.tables import FRONT_DOOR, Plan
from accelerator_engine.options import Option

_EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"


def cookiecutter_json(tables: Plan) -> str:
    """Return the questions, texts and tables for cookiecutter."""
    context: dict[str, Any] = {option.name: _cookiecutter_default(option) for option in tables.options}
    context["__prompts__"] = {option.name: _cookiecutter_prompt(option, tables.options) for option in tables.options}
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


def _cookiecutter_prompt(option: Option, options: Iterable[Option]) -> str | dict[str, str]:
    label = option.label + _condition(option, options)
    if not option.choices:
        return label
    return {"__prompt__": label, **{choice.value: choice.text for choice in option.choices}}


def _condition(option: Option, options: Iterable[Option]) -> str:
    """Return the condition under which the answer has an effect, in parentheses; empty when it always has one."""
    if not option.condition:
        return ""
    value = option.condition.value
    labels = {other.name: other.label for other in options}
    return f" ({labels[option.condition.name].lower() if isinstance(value, bool) else value} only)"
