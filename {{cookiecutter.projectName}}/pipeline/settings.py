"""The project's answers (project.yaml), and the names that derive from them."""

import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

import yaml

from pipeline.errors import StepError

PROJECT_NAME = r"(?!pg-|gp-)[a-z][a-z0-9-]{1,38}[a-z0-9]"
ROOT = pathlib.Path(__file__).resolve().parent.parent


STAGES = ("staging", "production")


@dataclasses.dataclass(frozen=True)
class Monitoring:
    """What monitor_model looks at and decides by: see project.yaml."""

    window: int
    minimum_labels: int
    minimum_predictions: int
    accuracy_floor: float
    maximum_psi: float
    retention_days: int


@dataclasses.dataclass(frozen=True)
class Source:
    """The table that is trained on: see project.yaml. `features` is None for all columns, `key` may be empty."""

    schema: str
    table: str
    label: str
    features: tuple[str, ...] | None
    key: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The answers in project.yaml; `model` and `schema` derive from the project's name.

    `promotion_stage` is $MODEL_STAGE where that is set: one project may be deployed for each stage.
    """

    project_name: str
    owner: str
    description: str
    minimum_accuracy: float
    promotion_stage: str
    training_database: str
    include_monitoring: bool
    store_inputs: bool
    monitoring: Monitoring
    source: Source | None = None

    @property
    def schema(self) -> str:
        """Schema in both databases; the roles in them are `<schema>_owner`, `_trainer` and `_app`."""
        return self.project_name.replace("-", "_")

    @property
    def model(self) -> str:
        """Registered model and experiment in MLflow, and model in the inference database."""
        return self.schema


@functools.cache
def settings() -> Settings:
    """Read project.yaml. Raises StepError when it is missing or says something that is not allowed."""
    answers = read_yaml("project.yaml")
    wanted = {
        "projectName": (str, "text"),
        "owner": (str, "text"),
        "description": (str, "text"),
        "minimumAccuracy": (int | float, "a number from 0 to 1"),
        "promotionStage": (str, "text"),
        "trainingDatabase": (str, "text"),
        "includeMonitoring": (bool, "true or false"),
        "storeInputs": (bool, "true or false"),
    }
    for name, (kind, told) in wanted.items():
        if not _is(kind, answers.get(name)):
            raise StepError(f"project.yaml: {name} is {answers.get(name)!r}; it must be {told}")
    if not re.fullmatch(PROJECT_NAME, answers["projectName"]):
        raise StepError(
            f"project.yaml: projectName is {answers['projectName']!r}; allowed are 3 to 40 lower-case letters, digits "
            "and hyphens, from a letter to a letter or digit, not beginning with pg- or gp-"
        )
    if not 0 <= answers["minimumAccuracy"] <= 1:
        raise StepError(f"project.yaml: minimumAccuracy is {answers['minimumAccuracy']}; allowed is 0 to 1")
    for name, allowed in (
        ("promotionStage", STAGES),
        ("trainingDatabase", ("greenplum", "postgresql")),
    ):
        if answers[name] not in allowed:
            raise StepError(f"project.yaml: {name} is {answers[name]!r}; allowed is {' or '.join(allowed)}")
    answers["promotionStage"] = _own_stage() or answers["promotionStage"]
    # What is not monitored is not kept either.
    answers["storeInputs"] &= answers["includeMonitoring"]
    return Settings(
        *(answers[name] for name in wanted),
        monitoring=_monitoring(answers.get("monitoring")),
        source=_source(answers["source"]) if "source" in answers else None,
    )


def _source(given: Any) -> Source:
    """Return the section `source`. Raises StepError when a value is missing, not known or not allowed."""
    values, names = given if isinstance(given, dict) else {}, ("schema", "table", "label", "features", "key")
    for name in values:
        if name not in names:
            raise StepError(f"project.yaml: source.{name} is not known; there are {', '.join(names)}")
    for name in names:
        value = values.get(name)
        if not isinstance(value, str) or "\0" in value or (name != "key" and not value.strip()):
            raise StepError(
                f"project.yaml: source.{name} is {value!r}; it must be text{'' if name == 'key' else ', not empty'}"
            )
    features, key = (_names(f"source.{name}", values[name]) for name in ("features", "key"))
    return Source(values["schema"], values["table"], values["label"], None if features == ("*",) else features, key)


def _names(where: str, text: str) -> tuple[str, ...]:
    """Return the names between commas. Raises StepError when one is empty or stands there twice."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    wrong = [name for name in names if not name or names.count(name) > 1]
    if wrong:
        told = f"names {wrong[0]} twice" if wrong[0] else "has a comma without a name"
        raise StepError(f"project.yaml: {where} {told}; write each column once, with commas between")
    return names


def _own_stage() -> str:
    """Return $MODEL_STAGE, empty when it is not set. Raises StepError when it is no stage."""
    stage = os.environ.get("MODEL_STAGE", "")
    if stage not in ("", *STAGES):
        raise StepError(f"MODEL_STAGE is {stage!r}; allowed is {' or '.join(STAGES)}")
    return stage


def _is(kind: Any, value: Any) -> bool:
    """Whether a value is of a kind; true and false are no numbers."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _monitoring(given: Any) -> Monitoring:
    """Return the section `monitoring`. Raises StepError when a value is missing or not allowed."""
    wanted: dict[str, tuple[Any, float, float, str]] = {
        "window": (int, 1, 1_000_000, "a whole number from 1 to 1000000"),
        "minimumLabels": (int, 1, 1_000_000, "a whole number from 1 to 1000000"),
        "minimumPredictions": (int, 1, 1_000_000, "a whole number from 1 to 1000000"),
        "accuracyFloor": (int | float, 0, 1, "a number from 0 to 1"),
        "maximumPsi": (int | float, 0, 100, "a number from 0 to 100"),
        "retentionDays": (int, 1, 36_500, "a whole number from 1 to 36500"),
    }
    values = given if isinstance(given, dict) else {}
    for name, (kind, least, most, told) in wanted.items():
        value = values.get(name)
        if not _is(kind, value) or not least <= value <= most:
            raise StepError(f"project.yaml: monitoring.{name} is {value!r}; it must be {told}")
    for name in ("minimumLabels", "minimumPredictions"):
        if values[name] > values["window"]:
            raise StepError(
                f"project.yaml: monitoring.{name} is {values[name]}; only {values['window']} are looked at "
                "(monitoring.window), so it must not be more"
            )
    return Monitoring(*(values[name] for name in wanted))


def section(name: str) -> Any:
    """Return a section of project.yaml that one step alone reads, None when there is none. Raises StepError."""
    return read_yaml("project.yaml").get(name)


def read_yaml(name: str) -> dict[str, Any]:
    """Return the mapping in a YAML file of the project. Raises StepError."""
    try:
        content = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise StepError(f"{name} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise StepError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StepError(f"{name} holds no keys and values")
    return content


def chosen_stage(stage: str) -> str:
    """Return a step's parameter `stage`, the project's own where it is empty. Raises StepError when it is none."""
    if stage not in ("", *STAGES):
        raise StepError(f"stage is {stage!r}; allowed is {' or '.join(STAGES)}")
    return stage or settings().promotion_stage


def require_seed(seed: int) -> None:
    """Raise StepError when the seed is none that numpy, TensorFlow and the database all take."""
    if not 0 <= seed < 2**31:
        raise StepError(f"seed is {seed}; allowed is 0 to {2**31 - 1}")
