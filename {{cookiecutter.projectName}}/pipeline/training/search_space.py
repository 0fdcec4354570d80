"""The configurations that `search` tries: the section `search` of project.yaml, read and checked."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.errors import StepError
from pipeline.mlproject import Step
from pipeline.settings import refuse_unknown, suggestion
from pipeline.training import run

METHODS = ("grid", "random")
KEYS = ("method", "number", "seed", "parameters")
MOST_CONFIGURATIONS = 1000
# The step itself has this parameter; it holds for all configurations.
NOT_SEARCHED = ("run",)
WHERE = "project.yaml: search"
RANGE = "{from: …, to: …}"

Kind = type[int] | type[float]


class Range(NamedTuple):
    """The limits between which a parameter is drawn; both are above 0."""

    least: float
    most: float


def configurations(section: Any, train: Step) -> list[dict[str, float]]:
    """Return the configurations of the section, each with every numeric parameter of train_model.

    `section` is what YAML holds, unchecked. `train` is the entry point train_model, whose defaults apply where the
    section is silent. The same section gives the same configurations, without repetition; a larger `number` of random
    configurations starts with those of a smaller number. Raises StepError: one sentence on the first error.
    """
    if not isinstance(section, dict):
        raise StepError(f"{WHERE} is {section!r}; it must have {', '.join(KEYS)} (docs/how-to/experiments.md)")
    refuse_unknown(section, KEYS, "project.yaml: ", "search.")
    method = section.get("method")
    if method not in METHODS:
        raise StepError(f"{WHERE}.method is {method!r}; allowed is {' or '.join(METHODS)}")
    number = _whole(section, "number", 1, MOST_CONFIGURATIONS)
    seed = _whole(section, "seed", 0, 2**31 - 1)
    known: dict[str, Kind] = {
        name: kind
        for name, (kind, _) in train.parameters.items()
        if issubclass(kind, int | float) and name not in NOT_SEARCHED
    }
    choices = _choices(section.get("parameters"), known, method)
    drawn = _grid(choices, number) if method == "grid" else _random(choices, known, number, seed)
    defaults = {name: kind(train.defaults[name]) for name, kind in known.items()}
    complete = [{**defaults, **values} for values in drawn]
    for configuration in complete:
        _check(configuration)
    return complete


def _whole(section: dict[str, Any], name: str, least: int, most: int) -> int:
    value = section.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise StepError(f"{WHERE}.{name} is {value!r}; it must be a whole number from {least} to {most}")
    return value


def _choices(parameters: Any, known: dict[str, Kind], method: str) -> dict[str, list[float] | Range]:
    """Return the values of each parameter of the section. Raises StepError."""
    if not isinstance(parameters, dict) or not parameters:
        raise StepError(f"{WHERE}.parameters is {parameters!r}; it must name at least one of {', '.join(known)}")
    choices: dict[str, list[float] | Range] = {}
    for name, written in parameters.items():
        where = f"{WHERE}.parameters.{name}"
        if name not in known:
            raise StepError(f"{where} cannot be searched; {suggestion(name, known)}")
        if isinstance(written, dict):
            if method == "grid":
                raise StepError(f"{where} is a range; a grid needs a list of values (method: random draws from ranges)")
            choices[name] = _range(written, known[name], where)
        elif isinstance(written, list) and written:
            choices[name] = list(dict.fromkeys(_number(value, known[name], where) for value in written))
        else:
            raise StepError(f"{where} is {written!r}; it must be a list of values, or a range " + RANGE)
    return choices


def _range(written: dict[str, Any], kind: Kind, where: str) -> Range:
    if set(written) != {"from", "to"}:
        raise StepError(f"{where} is {written!r}; a range is written " + RANGE)
    least, most = (_number(written[end], kind, where) for end in ("from", "to"))
    if not 0 < least < most:
        raise StepError(f"{where} is from {least} to {most}; a range goes from a number above 0 to a greater one")
    return Range(least, most)


def _number(value: Any, kind: Kind, where: str) -> float:
    allowed = (int,) if kind is int else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool) or not math.isfinite(value):
        hint = " (YAML takes 1e-3 for text: write 0.001 or 1.0e-3)" if isinstance(value, str) else ""
        wanted = "a whole number" if kind is int else "a number"
        raise StepError(f"{where} holds {value!r}; every value must be {wanted}{hint}")
    return kind(value)


def _grid(choices: dict[str, list[float] | Range], number: int) -> list[dict[str, float]]:
    """Return every combination. Raises StepError when there are more than `number`."""
    count = math.prod(len(values) for values in choices.values())
    if count > number:
        raise StepError(
            f"{WHERE}: the grid has {count} configurations; its number allows {number}: raise it, give fewer values, "
            "or choose method random"
        )
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


def _random(
    choices: dict[str, list[float] | Range], known: dict[str, Kind], number: int, seed: int
) -> list[dict[str, float]]:
    """Draw `number` different combinations, or fewer where there are not so many."""
    generator = random.Random(seed)
    distinct: dict[tuple[float, ...], dict[str, float]] = {}
    # A combination drawn twice is drawn again, but not for ever.
    for _ in range(100 * number):
        values = {name: _draw(choice, known[name], generator) for name, choice in choices.items()}
        distinct.setdefault(tuple(values.values()), values)
        if len(distinct) == number:
            break
    return list(distinct.values())


def _draw(choice: Sequence[float] | Range, kind: Kind, generator: random.Random) -> float:
    """Draw a value: an item of a list, or a number of a range, log-uniform and to three digits."""
    if not isinstance(choice, Range):
        return generator.choice(choice)
    least, most = choice
    value = math.exp(generator.uniform(math.log(least), math.log(most)))
    return min(max(kind(round(value) if kind is int else float(f"{value:.3g}")), least), most)


def _check(configuration: dict[str, float]) -> None:
    try:
        run.check_parameters(configuration)
    except StepError as error:
        raise StepError(f"{WHERE}.parameters: {error}") from error
