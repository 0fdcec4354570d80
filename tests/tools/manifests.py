"""Renders a generated project's deploy/ with ytt, in the way that its own App and docs describe."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools import ytt

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
# Values without a default.
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
    """ytt rejects values or templates; the text is its output."""


def run_ytt(project: Path, arguments: list[str], values: list[str], more: Mapping[str, Any]) -> str:
    """Run ytt in a project with its values files and further values. Raises Refused."""
    command = [ytt.folder() / "ytt", *arguments]
    for file in values:
        command += ["--data-values-file", file]
    # Standard input is one more values file.
    command += ["--data-values-file", "-"]
    stdin = yaml.safe_dump(dict(more))
    result = subprocess.run(command, cwd=project, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise Refused(result.stderr)
    return result.stdout


def accounts_and_app(project: Path, values: list[str] | None = None, more: Mapping[str, Any] = CHOSEN) -> str:
    """Render the accounts and the App, with the command in deploy/pipeline_app.yaml."""
    arguments = [argument for file in ACCOUNTS_AND_APP for argument in ("-f", file)]
    return run_ytt(project, arguments, values or [VALUES], more)


def deployed(project: Path, values: list[str] | None = None, more: Mapping[str, Any] = CHOSEN) -> str:
    """Render the objects that the App deploys, with the paths, file marks and values files of its spec."""
    (app,) = of_kind(accounts_and_app(project, values, more), "App")
    (template,) = app["spec"]["template"]
    options = template["ytt"]
    arguments = [argument for path in options["paths"] for argument in ("-f", path)]
    for mark in options["fileMarks"]:
        # ytt rejects a mark that matches no file, and only a checkout has .git.
        if not mark.startswith(".git/") or (project / ".git").exists():
            arguments += ["--file-mark", mark]
    return run_ytt(project, arguments, [entry["path"] for entry in options["valuesFrom"]], more)


def on_event(project: Path, more: Mapping[str, Any] = CHOSEN) -> str:
    """Render the objects for a webhook, with the command in deploy/retrain-on-event.yaml."""
    return run_ytt(project, [word for file in ON_EVENT for word in ("-f", file)], [VALUES], more)


def objects(text: str) -> Iterator[Manifest]:
    """Return the objects of a YAML stream."""
    return (document for document in yaml.safe_load_all(text) if document)


def of_kind(text: str, kind: str) -> list[Manifest]:
    """Return the objects of one kind."""
    return [manifest for manifest in objects(text) if manifest["kind"] == kind]


def training_inputs(text: str) -> str:
    """Return the argument `training-inputs` of the run: a hash over all inputs of the model."""
    (run,) = of_kind(text, "Workflow")
    arguments = {entry["name"]: entry["value"] for entry in run["spec"]["arguments"]["parameters"]}
    return str(arguments["training-inputs"])


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with `more` merged into them, mapping by mapping."""
    combined = dict(values)
    for key, value in more.items():
        old = combined.get(key)
        combined[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return combined


@cache
def chain(project: Path) -> list[str]:
    """Return the pipeline's steps in the order of MLproject, with hyphens as in Kubernetes names."""
    entries = list(yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))["entry_points"])
    return [entry.replace("_", "-") for entry in entries[: entries.index("deploy_inference_db") + 1]]


def tracking_server(project: Path, more: Mapping[str, Any]) -> str:
    """Render deploy/mlflow with the command in docs/how-to/mlflow.md."""
    folder = "deploy/mlflow"
    arguments = ["-f", f"{folder}/schema.yaml", "-f", f"{folder}/tracking-server.yaml"]
    return run_ytt(project, arguments, [f"{folder}/values.yaml"], more)
