"""The project's answers (project.yaml), and the names that derive from them."""

import dataclasses
import difflib
import functools
import math
import os
import pathlib
import re
import types
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeGuard

import yaml

from pipeline.errors import StepError

PROJECT_NAME = r"(?!pg-|gp-)[a-z][a-z0-9-]{1,38}[a-z0-9]"
ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGES = ("staging", "production")
DATABASES = ("greenplum", "postgresql")
# Whether labels need a person's review before a model is trained on them.
LABELS = ("reviewed", "automatic")
SOURCE_KEYS = ("schema", "table", "label", "features", "key")


@dataclasses.dataclass(frozen=True)
class Monitoring:
    """The limits of monitor_model: see project.yaml."""

    window: int
    minimum_labels: int
    minimum_predictions: int
    accuracy_floor: float
    maximum_psi: float
    retention_days: int
    labels: str
    maximum_label_share: float
    maximum_label_share_per_subject: float


@dataclasses.dataclass(frozen=True)
class Source:
    """The source table: see project.yaml. `features` is None for all columns; `key` may be empty."""

    schema: str
    table: str
    label: str
    features: tuple[str, ...] | None
    key: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The answers in project.yaml; `model` and `schema` derive from the project's name.

    `promotion_stage` is $MODEL_STAGE where that is set: one project may be deployed once per stage.
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


class Rule(NamedTuple):
    """The allowed type of an answer, its range where it is a number, and both in words."""

    type: type | types.UnionType
    words: str
    least: float = float("-inf")
    most: float = float("inf")

    def allows(self, value: object) -> bool:
        """Return whether an answer keeps the rule; true and false are no numbers."""
        if not isinstance(value, self.type) or (isinstance(value, bool) and self.type is not bool):
            return False
        return not isinstance(value, int | float) or self.least <= value <= self.most


_TEXT = Rule(str, "text")
_SWITCH = Rule(bool, "true or false")
_SHARE = Rule(int | float, "a number from 0 to 0.5", 0, 0.5)
_ROWS = Rule(int, "a whole number from 1 to 1000000", 1, 1_000_000)
RULES = {
    "projectName": _TEXT,
    "owner": _TEXT,
    "description": _TEXT,
    "minimumAccuracy": Rule(int | float, "a number from 0 to 1"),
    "promotionStage": _TEXT,
    "trainingDatabase": _TEXT,
    "authentication": _TEXT,
    "includeMonitoring": _SWITCH,
    "storeInputs": _SWITCH,
}
MONITORING_RULES = {
    "window": _ROWS,
    "minimumLabels": _ROWS,
    "minimumPredictions": _ROWS,
    "accuracyFloor": Rule(int | float, "a number from 0 to 1", 0, 1),
    "maximumPsi": Rule(int | float, "a number from 0 to 100", 0, 100),
    "retentionDays": Rule(int, "a whole number from 1 to 36500", 1, 36_500),
    "labels": _TEXT,
    "maximumLabelShare": _SHARE,
    "maximumLabelSharePerSubject": _SHARE,
}


_CHOICES = (
    ("promotionStage", STAGES),
    ("trainingDatabase", DATABASES),
    ("authentication", ("none", "api-key", "oidc")),
)
SECTIONS = ("monitoring", "search", "source")
# A project may leave them out.
OPTIONAL_KEYS = ("classWeights", "labelSmoothing")
OPTIONAL_KEYS_OF_IMAGES = ("valueRange", "channelOrder")


@functools.cache
def settings() -> Settings:
    """Return the answers in project.yaml. Raises StepError when the file is missing or an answer is not allowed."""
    answers = read_yaml("project.yaml")
    _check_answers(answers)
    return Settings(
        project_name=answers["projectName"],
        owner=answers["owner"],
        description=answers["description"],
        minimum_accuracy=answers["minimumAccuracy"],
        promotion_stage=_own_stage() or answers["promotionStage"],
        training_database=answers["trainingDatabase"],
        include_monitoring=answers["includeMonitoring"],
        # Without monitoring nobody reads the inputs, so they are not stored.
        store_inputs=answers["storeInputs"] and answers["includeMonitoring"],
        monitoring=_monitoring(answers.get("monitoring")),
        source=_source(answers["source"]) if "source" in answers else None,
    )


def _check_answers(answers: dict[str, Any]) -> None:
    """Raise StepError with the first answer outside the sections that is unknown or not allowed."""
    optional = OPTIONAL_KEYS if "source" in answers else (*OPTIONAL_KEYS, *OPTIONAL_KEYS_OF_IMAGES)
    refuse_unknown(answers, (*RULES, *SECTIONS, *optional), "project.yaml: ")
    for name, rule in RULES.items():
        if not rule.allows(answers.get(name)):
            raise StepError(f"project.yaml: {name} is {answers.get(name)!r}; it must be {rule.words}")
    if not re.fullmatch(PROJECT_NAME, answers["projectName"]):
        raise StepError(
            f"project.yaml: projectName is {answers['projectName']!r}; allowed are 3 to 40 lower-case letters, digits "
            "and hyphens, from a letter to a letter or digit, not beginning with pg- or gp-"
        )
    if not 0 <= answers["minimumAccuracy"] <= 1:
        raise StepError(f"project.yaml: minimumAccuracy is {answers['minimumAccuracy']}; allowed is 0 to 1")
    for name, allowed in _CHOICES:
        if answers[name] not in allowed:
            raise StepError(f"project.yaml: {name} is {answers[name]!r}; allowed is {' or '.join(allowed)}")


def _source(section: object) -> Source:
    """Return the section `source`. Raises StepError when a value is missing, unknown or not allowed."""
    values = section if isinstance(section, dict) else {}
    refuse_unknown(values, SOURCE_KEYS, "project.yaml: ", "source.")
    for name in SOURCE_KEYS:
        value = values.get(name)
        if not isinstance(value, str) or "\0" in value or (name != "key" and not value.strip()):
            raise StepError(
                f"project.yaml: source.{name} is {value!r}; it must be text{'' if name == 'key' else ', not empty'}"
            )
    features, key = (_names(f"source.{name}", values[name]) for name in ("features", "key"))
    return Source(values["schema"], values["table"], values["label"], None if features == ("*",) else features, key)


def _names(where: str, text: str) -> tuple[str, ...]:
    """Return the names between commas. Raises StepError when one is empty or repeated."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    wrong = [name for name in names if not name or names.count(name) > 1]
    if wrong:
        mistake = f"names {wrong[0]} twice" if wrong[0] else "has a comma without a name"
        raise StepError(f"project.yaml: {where} {mistake}; write each column once, with commas between")
    return names


def _own_stage() -> str:
    """Return $MODEL_STAGE, empty when it is not set. Raises StepError when it is not a stage."""
    stage = os.environ.get("MODEL_STAGE", "")
    if stage not in ("", *STAGES):
        raise StepError(f"MODEL_STAGE is {stage!r}; allowed is {' or '.join(STAGES)}")
    return stage


def _monitoring(section: object) -> Monitoring:
    """Return the section `monitoring`. Raises StepError when a value is missing or not allowed."""
    values = section if isinstance(section, dict) else {}
    refuse_unknown(values, tuple(MONITORING_RULES), "project.yaml: ", "monitoring.")
    for name, rule in MONITORING_RULES.items():
        if not rule.allows(values.get(name)):
            raise StepError(f"project.yaml: monitoring.{name} is {values.get(name)!r}; it must be {rule.words}")
    for name in ("minimumLabels", "minimumPredictions"):
        if values[name] > values["window"]:
            raise StepError(
                f"project.yaml: monitoring.{name} is {values[name]}; use at most {values['window']} (monitoring.window)"
            )
    if values["labels"] not in LABELS:
        raise StepError(f"project.yaml: monitoring.labels is {values['labels']!r}; allowed is {' or '.join(LABELS)}")
    return Monitoring(
        window=values["window"],
        minimum_labels=values["minimumLabels"],
        minimum_predictions=values["minimumPredictions"],
        accuracy_floor=values["accuracyFloor"],
        maximum_psi=values["maximumPsi"],
        retention_days=values["retentionDays"],
        labels=values["labels"],
        maximum_label_share=values["maximumLabelShare"],
        maximum_label_share_per_subject=values["maximumLabelSharePerSubject"],
    )


def refuse_unknown(values: Mapping[str, object], known: Collection[str], file: str, path: str = "") -> None:
    """Raise StepError with the first unknown key, which is at `path` in the file, and what may be meant."""
    for name in values:
        if name not in known:
            raise StepError(f"{file}{path}{name} is unknown; {suggestion(name, known)}")


def suggestion(name: object, known: Collection[str]) -> str:
    """Return the known name that is nearest to an unknown one, or all where none is near."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value of project.yaml is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def section(name: str) -> object:
    """Return a section of project.yaml that only one step reads, None when it is absent. Raises StepError."""
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
    """Return a step's parameter `stage`, or the project's stage when it is empty. Raises StepError."""
    if stage not in ("", *STAGES):
        raise StepError(f"stage is {stage!r}; allowed is {' or '.join(STAGES)}")
    return stage or settings().promotion_stage


def require_seed(seed: int) -> None:
    """Raise StepError when numpy, TensorFlow or the database would refuse the seed."""
    if not 0 <= seed < 2**31:
        raise StepError(f"seed is {seed}; allowed is 0 to {2**31 - 1}")


def declared_range() -> tuple[float, float] | None:
    """Return `valueRange` of project.yaml, None when it is absent. Raises StepError."""
    value = section("valueRange")
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 2 or not all(map(is_number, numbers)) or not -math.inf < numbers[0] < numbers[1] < math.inf:
        raise StepError(
            f"project.yaml: valueRange is {value!r}; use the values of black and white, for example [0, 255]"
        )
    return float(numbers[0]), float(numbers[1])
