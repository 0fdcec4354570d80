"""Which configurations `search` tries: the section of that name in project.yaml, read and checked."""

import itertools
import math
import random
from typing import Any

from pipeline.errors import StepError
from pipeline.mlproject import Step
from pipeline.training import run

METHODS = ("grid", "random")
KEYS = ("method", "number", "seed", "parameters")
MOST_CONFIGURATIONS = 1000
# The step sets it for all configurations at once.
NOT_SEARCHED = ("run",)
WHERE = "project.yaml: search"
RANGE = "{from: …, to: …}"


def configurations(section: Any, train: Step) -> list[dict[str, Any]]:
    """Return the configurations that the section means, each with every numeric parameter of train_model.

    `train` is the entry point train_model, whose defaults count for what the section does not name. The same section
    gives the same configurations, each once; a larger `number` of random ones begins with those of a smaller.
    Raises StepError: one sentence on the first thing that is wrong.
    """
    if not isinstance(section, dict):
        raise StepError(f"{WHERE} is {section!r}; it must have {', '.join(KEYS)} (docs/experiments.md)")
    for name in section:
        if name not in KEYS:
            raise StepError(f"{WHERE}.{name} is unknown; allowed are {', '.join(KEYS)}")
    method = section.get("method")
    if method not in METHODS:
        raise StepError(f"{WHERE}.method is {method!r}; allowed is {' or '.join(METHODS)}")
    number = _whole(section, "number", 1, MOST_CONFIGURATIONS)
    seed = _whole(section, "seed", 0, 2**31 - 1)
    known = {name: kind for name, (kind, _) in train.parameters.items() if kind is not str and name not in NOT_SEARCHED}
    values = _values(section.get("parameters"), known, method)
    drawn = _grid(values, number) if method == "grid" else _random(values, known, number, seed)
    defaults = {name: train.defaults[name] for name in known}
    found = [{**defaults, **chosen} for chosen in drawn]
    for configuration in found:
        _check(configuration)
    return found


def _whole(section: dict[str, Any], name: str, least: int, most: int) -> int:
    value = section.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise StepError(f"{WHERE}.{name} is {value!r}; it must be a whole number from {least} to {most}")
    return value


def _values(given: Any, known: dict[str, type], method: str) -> dict[str, Any]:
    """Return what each parameter may be: a list, or a range as (least, most)."""
    if not isinstance(given, dict) or not given:
        raise StepError(f"{WHERE}.parameters is {given!r}; it must name at least one of {', '.join(known)}")
    found: dict[str, Any] = {}
    for name, told in given.items():
        where = f"{WHERE}.parameters.{name}"
        if name not in known:
            raise StepError(f"{where} cannot be searched; allowed are {', '.join(known)}")
        if isinstance(told, dict):
            if method == "grid":
                raise StepError(f"{where} is a range; a grid needs a list of values (method: random draws from ranges)")
            found[name] = _range(told, known[name], where)
        elif isinstance(told, list) and told:
            found[name] = list(dict.fromkeys(_number(value, known[name], where) for value in told))
        else:
            raise StepError(f"{where} is {told!r}; it must be a list of values, or a range " + RANGE)
    return found


def _range(told: dict[str, Any], kind: type, where: str) -> tuple[Any, Any]:
    if set(told) != {"from", "to"}:
        raise StepError(f"{where} is {told!r}; a range is written " + RANGE)
    least, most = (_number(told[end], kind, where) for end in ("from", "to"))
    if not 0 < least < most:
        raise StepError(f"{where} is from {least} to {most}; a range goes from a number above 0 to a greater one")
    return least, most


def _number(value: Any, kind: type, where: str) -> Any:
    allowed = (int,) if kind is int else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool) or not math.isfinite(value):
        told = " (YAML takes 1e-3 for text: write 0.001 or 1.0e-3)" if isinstance(value, str) else ""
        wanted = "a whole number" if kind is int else "a number"
        raise StepError(f"{where} holds {value!r}; every value must be {wanted}{told}")
    return kind(value)


def _grid(values: dict[str, list[Any]], number: int) -> list[dict[str, Any]]:
    count = math.prod(len(each) for each in values.values())
    if count > number:
        raise StepError(
            f"{WHERE}: the grid has {count} configurations; its number allows {number}: raise it, give fewer values, "
            "or choose method random"
        )
    return [dict(zip(values, chosen)) for chosen in itertools.product(*values.values())]


def _random(values: dict[str, Any], known: dict[str, type], number: int, seed: int) -> list[dict[str, Any]]:
    generator = random.Random(seed)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    # What has been drawn before is drawn again; there may be fewer different ones than are asked for.
    for _ in range(100 * number):
        drawn = {name: _drawn(each, known[name], generator) for name, each in values.items()}
        found.setdefault(tuple(drawn.values()), drawn)
        if len(found) == number:
            break
    return list(found.values())


def _drawn(each: Any, kind: type, generator: random.Random) -> Any:
    """Draw one value: any of a list, or from a range by its logarithm, to three digits."""
    if isinstance(each, list):
        return generator.choice(each)
    least, most = each
    value = math.exp(generator.uniform(math.log(least), math.log(most)))
    return min(max(kind(round(value) if kind is int else float(f"{value:.3g}")), least), most)


def _check(configuration: dict[str, Any]) -> None:
    try:
        run.check(configuration)
    except StepError as error:
        raise StepError(f"{WHERE}.parameters: {error}") from error
