"""cookiecutter.json: the questions, their texts, and the tables that its hook reads."""

import json
from typing import Any

from accelerator_engine.derive.tables import FRONT_DOOR, Plan
from accelerator_engine.options import Option

_EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"


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
