"""A project's pipelines: generated, compiled by kfp and taken apart."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from tools import doors, ytt
from tools.manifests import CHOSEN, VALUES, deployed, merged, of_kind

KFP = ["/usr/bin/python3", "-m", "local", "run", "--environment", "kubeflow", "--no-servers", "--"]
KFP += ["python", "-m", "deploy.pipeline_kfp"]
Json = dict[str, Any]


def generate(place: Path, **answers: object) -> Path:
    """Generate a project with these answers, and the defaults for the others."""
    folder = doors.accelerator(ROOT, answers, place).folder
    assert folder is not None
    return folder


def kfp(project: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/pipeline_kfp as docs/how-to/orchestrator.md describes."""
    path = f"{ytt.folder()}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [*KFP, *words], cwd=project, env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def chosen(place: Path, more: dict[str, Any]) -> Path:
    """Write a file with the values that have no default."""
    file = place / "chosen.yaml"
    file.write_text(yaml.safe_dump(merged(CHOSEN, more)), encoding="utf-8")
    return file


class Pipeline:
    """A compiled pipeline, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spec, self.platform = yaml.safe_load_all(text)
        self.executors: Json = self.spec["deploymentSpec"]["executors"]

    def tasks(self, component: str = "") -> Json:
        """Return the tasks of a group, or of the whole pipeline."""
        place = self.spec["components"][component] if component else self.spec["root"]
        return place["dag"]["tasks"]

    def group(self, name: str, inside: str = "") -> str:
        """Return the component of the group with this display name."""
        (match,) = [task for task in self.tasks(inside).values() if task["taskInfo"]["name"] == name]
        return match["componentRef"]["name"]

    def order(self, component: str) -> list[str]:
        """Return the names of a group's tasks in their only possible order."""
        remaining, names = dict(self.tasks(component)), []
        while remaining:
            (free,) = [
                name for name, task in remaining.items() if not set(task.get("dependentTasks", [])) & set(remaining)
            ]
            names.append(remaining.pop(free)["taskInfo"]["name"])
        return names

    def container(self, step: str) -> Json:
        """Return the container of a step."""
        return self.executors[f"exec-{step}"]["container"]

    def pod(self, step: str) -> Json:
        """Return the settings of kfp-kubernetes for a step's pod."""
        spec = self.platform["platforms"]["kubernetes"]["deploymentSpec"]
        return spec["executors"][f"exec-{step}"]

    def every_task(self) -> list[Json]:
        """Return the tasks that are pods, of every group."""
        places = [self.spec["root"], *self.spec["components"].values()]
        tasks = [task for place in places if "dag" in place for task in place["dag"]["tasks"].values()]
        return [
            task for task in tasks if f"exec-{task['componentRef']['name'].removeprefix('comp-')}" in self.executors
        ]


def compiled(project: Path, place: Path, which: str, *files: str, more: dict[str, Any] | None = None) -> Pipeline:
    """Compile a pipeline of a project."""
    values = [word for file in (*(files or (VALUES,)), str(chosen(place, more or {}))) for word in ("--values", file)]
    output = place / f"{which}.yaml"
    process = kfp(project, *values, "compile", which, "--output", str(output))
    assert process.returncode == 0, process.stdout + process.stderr
    return Pipeline(output.read_text(encoding="utf-8"))


@cache
def argo_templates(project: Path) -> Json:
    """Return the templates of Argo's WorkflowTemplate by name, and its spec under the empty name."""
    (template,) = of_kind(deployed(project), "WorkflowTemplate")
    return {item["name"]: item for item in template["spec"]["templates"]} | {"": template["spec"]}
