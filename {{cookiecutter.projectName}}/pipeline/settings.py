"""The project's answers (project.yaml), its steps (MLproject) and the names that derive from them."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import subprocess
import time
from typing import Any

import yaml

from pipeline.errors import StepError

PROJECT_NAME = r"(?!pg-|gp-)[a-z][a-z0-9-]{1,38}[a-z0-9]"
ROOT = pathlib.Path(__file__).resolve().parent.parent


STAGES = ("staging", "production")
# The entry points of MLproject up to this one are the chain; those after it stand beside it.
LAST_OF_CHAIN = "deploy_inference_db"
# It stands in MLflow's searches, in Liquibase's lock (255 characters with host and address) and on a command line.
RUN_NAME = "[A-Za-z0-9._-]{1,100}"


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
def settings() -> Settings:
    """Read project.yaml. Raises StepError when it is missing or says something that is not allowed."""
    answers = _read_yaml("project.yaml")
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
    return _read_yaml("project.yaml").get(name)


@functools.cache
def steps() -> dict[str, Step]:
    """Read the entry points of MLproject, in their order. Raises StepError on an unknown type."""
    entry_points = _read_yaml("MLproject").get("entry_points")
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


def _read_yaml(name: str) -> dict[str, Any]:
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


def pipeline_run() -> str:
    """Return the name that all steps of a pipeline run share: $PIPELINE_RUN, for this process alone made up here.

    Raises StepError when the name given holds what it may not.
    """
    made_up = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"
    name = os.environ.get("PIPELINE_RUN") or made_up
    if not re.fullmatch(RUN_NAME, name):
        raise StepError(f"PIPELINE_RUN is {name!r}; allowed are 1 to 100 letters, digits, dots, hyphens, underscores")
    os.environ["PIPELINE_RUN"] = name
    return name


@functools.cache
def git_commit() -> str:
    """Return $GIT_COMMIT, else the commit checked out here, else `uncommitted`."""
    if os.environ.get("GIT_COMMIT"):
        return os.environ["GIT_COMMIT"]
    return _git("rev-parse", "HEAD") or "uncommitted"


def code_tag(folder: str) -> str:
    """Return the Liquibase tag for a changelog folder: the commit, or a hash of what is not committed.

    $GIT_COMMIT is believed: whoever gives it has checked that commit out, and git may be missing or refuse.
    """
    commit = git_commit()
    if os.environ.get("GIT_COMMIT"):
        return commit
    if commit != "uncommitted" and not _git("status", "--porcelain", "--", folder):
        return commit
    digest = hashlib.sha256()
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return f"uncommitted-{digest.hexdigest()[:12]}"


def _git(*arguments: str) -> str:
    """Return git's answer for this folder; empty when there is no git, or the folder is not a work tree's root."""
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        if pathlib.Path(top).resolve() != ROOT:
            return ""
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_outcome(name: str, value: str) -> None:
    """Write an outcome as the file $STEP_OUTPUTS/<name>, for an orchestrator; nothing without it.

    Raises StepError when it cannot be written: what comes next would be decided without it.
    """
    folder = os.environ.get("STEP_OUTPUTS")
    if not folder:
        return
    path = pathlib.Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value, encoding="utf-8")
    except OSError as error:
        raise StepError(f"STEP_OUTPUTS is {folder}; {path} cannot be written: {error.strerror}") from error
