"""docs/reference/options.md: the questions as a page for people."""

from accelerator_engine.derive.tables import Plan, allowed, groups
from accelerator_engine.java_types import text_of
from accelerator_engine.options import Option


def options_page(tables: Plan) -> str:
    """Return the page for people."""
    lines = [
        "<!-- Derived from accelerator.yaml by `make derive`: edit that file. -->",
        "",
        "# Options",
        "",
        "The same questions in every front door. An answer that is not allowed is refused before a file is written.",
    ]
    for title, options in groups(tables):
        lines += ["", f"## {title}", "", "| option | question | default | allowed |", "|---|---|---|---|"]
        lines += [_row(option) for option in options]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    answers = allowed(option)
    if option.choices:
        answers = " · ".join(f"`{choice.value}`: {choice.text}" for choice in option.choices)
    if option.condition is not None:
        answers += f" (asked when {option.condition.name} is {text_of(option.condition.value)})"
    cells = (f"`{option.name}`", option.label, f"`{text_of(option.default)}`", answers)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
