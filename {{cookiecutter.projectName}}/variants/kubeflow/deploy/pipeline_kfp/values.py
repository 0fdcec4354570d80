"""The values of a deployment: deploy/values.yaml, completed and checked by deploy/config/schema.yaml."""

import pathlib
import subprocess
from collections.abc import Sequence
from typing import TypedDict, cast

import yaml

from pipeline.errors import StepError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VALUES = "deploy/values.yaml"
ROLES = ("training-deployer", "trainer", "inference-deployer", "inference-app")
SECONDS = {"s": 1, "m": 60, "h": 3600}


class Git(TypedDict):
    """The project's repository."""

    url: str
    branch: str
    secret: str


class Amounts(TypedDict):
    """Quantities of Kubernetes, like 500m and 2Gi."""

    cpu: str
    memory: str


class Limits(TypedDict):
    """The most that a container may use."""

    memory: str


class Resources(TypedDict):
    """A container's resources."""

    requests: Amounts
    limits: Limits


class PipelineValues(TypedDict):
    """How steps run; a period is like 30s, 10m or 24h."""

    image: str
    retries: int
    resources: Resources
    stepDeadline: str
    runDeadline: str


class Mlflow(TypedDict):
    """The tracking server."""

    url: str
    secret: str


class Training(TypedDict):
    """The stage of promoted models, and the tracking server."""

    stage: str
    mlflow: Mlflow


class Monitoring(TypedDict):
    """The schedule of monitoring."""

    enabled: bool
    schedule: str
    timezone: str


class Values(TypedDict):
    """The values that the pipelines read."""

    name: str
    namespace: str
    credentials: str
    imagePullSecret: str
    git: Git
    secrets: dict[str, str]
    pipeline: PipelineValues
    training: Training
    monitoring: Monitoring


def read_values(files: Sequence[str]) -> Values:
    """Return the values of the files, completed and checked by ytt; later files take precedence. Raises StepError."""
    command = ["ytt", "-f", "deploy/config/schema.yaml", "--data-values-inspect"]
    for file in files:
        command += ["--data-values-file", file]
    try:
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        raise StepError("ytt is not on PATH: install it (https://carvel.dev/ytt/), 0.46 or later") from error
    if process.returncode:
        raise StepError(f"ytt does not take {' and '.join(files)}:\n{process.stderr.strip()}")
    values = cast(Values, yaml.safe_load(process.stdout))
    if values["git"]["secret"] and not values["git"]["url"].startswith("https://"):
        raise StepError("git.secret is set; with Kubeflow git.url must begin with https:// then")
    # Kubeflow names a pod's volumes after their Secrets, and a volume's name has no dot.
    names = [secret_name(values, role) for role in ROLES]
    wrong = [name for name in names if names.count(name) > 1 or "." in name]
    if wrong:
        raise StepError(
            f"secrets: {wrong[0]}; with Kubeflow each role has a Secret of its own, with no dot in its name"
        )
    return values


def secret_name(values: Values, role: str) -> str:
    """Return the name of the Secret of a role."""
    return values["secrets"][role] or f"{values['name']}-{role}"


def seconds(period: str) -> int:
    """Return the seconds of a period like 30s, 10m or 24h."""
    return int(period[:-1]) * SECONDS[period[-1]]


def cron(monitoring: Monitoring) -> str:
    """Return monitoring's schedule in Kubeflow's format, which starts with seconds. Raises StepError unless in UTC."""
    if monitoring["timezone"] not in ("Etc/UTC", "UTC"):
        raise StepError(
            f"monitoring.timezone is {monitoring['timezone']}; Kubeflow's schedules are in UTC: convert "
            "monitoring.schedule to UTC and leave monitoring.timezone out"
        )
    schedule = monitoring["schedule"]
    return schedule if schedule.startswith("@") else f"0 {schedule}"
