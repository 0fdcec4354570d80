"""The entry points of MLproject: the steps of the pipeline, with their parameters."""

import dataclasses
import functools
from typing import Any

from pipeline.errors import StepError
from pipeline.settings import read_yaml

# The entry points of MLproject up to this one are the chain; those after it stand beside it.
LAST_OF_CHAIN = "deploy_inference_db"


@dataclasses.dataclass(frozen=True)
class Step:
    """An entry point of MLproject: parameter names with their (type, default)."""

    name: str
    parameters: dict[str, tuple[type, Any]]

    @property
    def defaults(self) -> dict[str, Any]:
        """Parameter names with their defaults."""
        return {name: default for name, (_, default) in self.parameters.items()}


@functools.cache
def steps() -> dict[str, Step]:
    """Read the entry points of MLproject, in their order. Raises StepError on an unknown type."""
    entry_points = read_yaml("MLproject").get("entry_points")
    if not isinstance(entry_points, dict) or not all(isinstance(entry, dict) for entry in entry_points.values()):
        raise StepError("MLproject: entry_points must name the steps, each with its parameters and command")
    return {
        name: Step(
            name,
            {key: _parameter(f"{name}.{key}", declared) for key, declared in (entry.get("parameters") or {}).items()},
        )
        for name, entry in entry_points.items()
    }


def chain() -> list[Step]:
    """Return the steps that `all` runs, in their order. Raises StepError when MLproject lacks the last one."""
    found = list(steps().values())
    names = [step.name for step in found]
    if LAST_OF_CHAIN not in names:
        raise StepError(f"MLproject: the entry point {LAST_OF_CHAIN}, the last of the chain, is missing")
    return found[: names.index(LAST_OF_CHAIN) + 1]


def _parameter(name: str, declared: Any) -> tuple[type, Any]:
    """Return a parameter's type and default. Raises StepError when they are not given or do not fit."""
    types = {"int": int, "float": float, "string": str}
    if not isinstance(declared, dict) or declared.get("type") not in types or "default" not in declared:
        raise StepError(f"MLproject: {name} is {declared!r}; write it as " + "{type: int, float or string, default: …}")
    kind, default = types[declared["type"]], declared["default"]
    allowed = (int, float) if kind is float else kind
    if not isinstance(default, allowed) or isinstance(default, bool):
        raise StepError(f"MLproject: the default of {name} is {default!r}; its type is {declared['type']}")
    return kind, kind(default)
