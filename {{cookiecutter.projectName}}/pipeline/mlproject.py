"""The entry points of MLproject: the steps of the pipeline, with their parameters."""

import dataclasses
import functools
from typing import NamedTuple

from pipeline.errors import StepError
from pipeline.settings import read_yaml

# The entry points of MLproject up to this one are the chain; the others run on request.
LAST_OF_CHAIN = "deploy_inference_db"
TYPES: dict[str, type[int] | type[float] | type[str]] = {"int": int, "float": float, "string": str}

Value = int | float | str


class Parameter(NamedTuple):
    """A parameter of a step: its type and its default."""

    type: type[int] | type[float] | type[str]
    default: Value


@dataclasses.dataclass(frozen=True)
class Step:
    """An entry point of MLproject with its parameters by name."""

    name: str
    parameters: dict[str, Parameter]

    @property
    def defaults(self) -> dict[str, Value]:
        """Parameter names with their defaults."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


@functools.cache
def steps() -> dict[str, Step]:
    """Return the entry points of MLproject in their order. Raises StepError on an unknown type."""
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
    names = list(steps())
    if LAST_OF_CHAIN not in names:
        raise StepError(f"MLproject: the entry point {LAST_OF_CHAIN}, the last of the chain, is missing")
    return list(steps().values())[: names.index(LAST_OF_CHAIN) + 1]


def _parameter(name: str, declared: object) -> Parameter:
    """Return a parameter's type and default. Raises StepError when one is missing or they do not match."""
    if not isinstance(declared, dict) or declared.get("type") not in TYPES or "default" not in declared:
        raise StepError(f"MLproject: {name} is {declared!r}; write it as " + "{type: int, float or string, default: …}")
    kind, default = TYPES[declared["type"]], declared["default"]
    allowed = (int, float) if kind is float else kind
    if not isinstance(default, allowed) or isinstance(default, bool):
        raise StepError(f"MLproject: the default of {name} is {default!r}; its type is {declared['type']}")
    return Parameter(kind, kind(default))
