"""The entry points of MLproject: the steps of the pipeline, with their parameters."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline.errors import StepError
from pipeline.help import help_of
from pipeline.settings import read_yaml, refuse_unknown

# The entry points of MLproject up to this one are the chain; the others run on request.
LAST_OF_CHAIN = "deploy_inference_db"
TYPES: dict[str, type[int] | type[float] | type[str]] = {"int": int, "float": float, "string": str}

ENTRY_KEYS = ("parameters", "command")
PARAMETER_KEYS = ("type", "default")

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

    def require_parameters(self, accepted: Iterable[str]) -> None:
        """Raise StepError unless the step's function accepts these parameters and no others."""
        declared = sorted(self.parameters)
        if declared != sorted(accepted):
            raise StepError(f"MLproject: {self.name} has the parameters {declared}; the step takes {sorted(accepted)}")


@functools.cache
def steps() -> dict[str, Step]:
    """Return the entry points of MLproject in their order. Raises StepError on an unknown type."""
    entry_points = read_yaml("MLproject").get("entry_points")
    if not isinstance(entry_points, dict) or not all(isinstance(entry, dict) for entry in entry_points.values()):
        raise StepError("MLproject: entry_points must name the steps, each with its parameters and command")
    return {name: Step(name, _parameters(name, entry)) for name, entry in entry_points.items()}


def chain() -> list[Step]:
    """Return the steps that `all` runs, in their order. Raises StepError when MLproject lacks the last one."""
    names = list(steps())
    if LAST_OF_CHAIN not in names:
        raise StepError(f"MLproject: the entry point {LAST_OF_CHAIN}, the last of the chain, is missing")
    return list(steps().values())[: names.index(LAST_OF_CHAIN) + 1]


def require_modules() -> None:
    """Check that each entry point has a step with its parameters, without importing the steps. Raises StepError."""
    for step in steps().values():
        texts = help_of(f"pipeline.steps.{step.name}")
        if texts is None:
            raise StepError(no_module(step.name))
        if texts.parameters is not None:
            step.require_parameters(texts.parameters)


def no_module(name: str) -> str:
    """Return the message for an entry point without a step."""
    file = f"pipeline/steps/{name}.py"
    return f"MLproject names the entry point {name}; there is no {file}: add it, or remove the entry point"


def _parameters(name: str, entry: dict[str, Any]) -> dict[str, Parameter]:
    """Return the parameters of an entry point. Raises StepError."""
    refuse_unknown(entry, ENTRY_KEYS, "MLproject: ", f"{name}.")
    declared = entry.get("parameters") or {}
    if not isinstance(declared, dict):
        raise StepError(f"MLproject: {name}.parameters is {declared!r}; write one line per parameter, or none")
    return {key: _parameter(f"{name}.{key}", parameter) for key, parameter in declared.items()}


def _parameter(name: str, declared: object) -> Parameter:
    """Return a parameter's type and default. Raises StepError when one is missing or they do not match."""
    if isinstance(declared, dict):
        refuse_unknown(declared, PARAMETER_KEYS, "MLproject: ", f"{name}.")
    if not isinstance(declared, dict) or declared.get("type") not in TYPES or "default" not in declared:
        raise StepError(f"MLproject: {name} is {declared!r}; write it as " + "{type: int, float or string, default: …}")
    kind, default = TYPES[declared["type"]], declared["default"]
    allowed = (int, float) if kind is float else kind
    if not isinstance(default, allowed) or isinstance(default, bool):
        raise StepError(f"MLproject: the default of {name} is {default!r}; its type is {declared['type']}")
    return Parameter(kind, kind(default))
