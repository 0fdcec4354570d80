"""What a generated project's deploy/ renders to: by the real ytt, and as its own App says."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools import ytt

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
# What nobody has a default for.
CHOSEN: dict[str, Any] = {
    "training": {
        "mlflow": {"url": "http://mlflow.example.com:5000"},
        "databases": {
            "training": {"host": "training.example.com", "database": "ml", "caCertificate": AUTHORITY},
            "inference": {"host": "inference.example.com", "database": "ml", "caCertificate": AUTHORITY},
        },
    },
    "externalSecrets": {"store": "vault"},
    "pipeline": {"image": "registry.example.com/ml/pipeline:1"},
    "app": {"image": "registry.example.com/ml/app:1"},
}
ROLES = ("training-deployer", "trainer", "inference-deployer", "inference-app")
ACCOUNTS_AND_APP = ["deploy/config/schema.yaml", "deploy/pipeline_app.yaml"]
ON_EVENT = ["deploy/config/schema.yaml", "deploy/retrain-on-event.yaml"]
VALUES = "deploy/values.yaml"
PRODUCTION = "deploy/values-production.yaml"

Manifest = dict[str, Any]


class Refused(Exception):
    """What ytt says of values or templates that it does not take."""


def run_ytt(project: Path, arguments: list[str], values: list[str], more: Mapping[str, Any]) -> str:
    """Run ytt in a project with its values files and further values. Raises Refused."""
    command = [ytt.folder() / "ytt", *arguments]
    for file in values:
        command += ["--data-values-file", file]
    # A file of its own for what stands in none.
    command += ["--data-values-file", "-"]
    done = subprocess.run(
        command, cwd=project, input=yaml.safe_dump(dict(more)), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def accounts_and_app(project: Path, values: list[str] | None = None, more: Mapping[str, Any] = CHOSEN) -> str:
    """Render what a person applies, with the command that deploy/pipeline_app.yaml names."""
    arguments = [argument for file in ACCOUNTS_AND_APP for argument in ("-f", file)]
    return run_ytt(project, arguments, values or [VALUES], more)


def deployed(project: Path, values: list[str] | None = None, more: Mapping[str, Any] = CHOSEN) -> str:
    """Render what the App deploys: with the paths, file marks and values files that it names itself."""
    (app,) = of_kind(accounts_and_app(project, values, more), "App")
    (template,) = app["spec"]["template"]
    told = template["ytt"]
    arguments = [argument for path in told["paths"] for argument in ("-f", path)]
    for mark in told["fileMarks"]:
        # ytt wants a mark to be of use, and what is not pushed yet has no .git.
        if not mark.startswith(".git/") or (project / ".git").exists():
            arguments += ["--file-mark", mark]
    return run_ytt(project, arguments, [entry["path"] for entry in told["valuesFrom"]], more)


def on_event(project: Path, more: Mapping[str, Any] = CHOSEN) -> str:
    """Render what a person applies for a webhook, with the command that deploy/retrain-on-event.yaml names."""
    return run_ytt(project, [word for file in ON_EVENT for word in ("-f", file)], [VALUES], more)


def objects(text: str) -> Iterator[Manifest]:
    """Return the objects of a YAML stream."""
    return (found for found in yaml.safe_load_all(text) if found)


def of_kind(text: str, kind: str) -> list[Manifest]:
    """Return the objects of one kind."""
    return [found for found in objects(text) if found["kind"] == kind]


def training_inputs(text: str) -> str:
    """Return the one argument of the run that says what the model comes from."""
    (run,) = of_kind(text, "Workflow")
    found = {each["name"]: each["value"] for each in run["spec"]["arguments"]["parameters"]}
    return str(found["training-inputs"])


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with others laid over them."""
    both = dict(values)
    for key, value in more.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


@cache
def chain(project: Path) -> list[str]:
    """Return the steps of a project's pipeline in Kubernetes's spelling, as MLproject orders them."""
    entries = list(yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))["entry_points"])
    return [entry.replace("_", "-") for entry in entries[: entries.index("deploy_inference_db") + 1]]


def tracking_server(project: Path, more: Mapping[str, Any]) -> str:
    """Render deploy/mlflow with the command that docs/mlflow.md names."""
    folder = "deploy/mlflow"
    arguments = ["-f", f"{folder}/schema.yaml", "-f", f"{folder}/tracking-server.yaml"]
    return run_ytt(project, arguments, [f"{folder}/values.yaml"], more)
