"""The pipeline of Kubeflow, run by kfp's local runner: the scripts of its pods, on real databases and MLflow."""

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import commit_all, head
from .project import LOCAL, Project, chain, step_lines

KFP = ("run", "--environment", "kubeflow", "--", "python", "-m", "deploy.pipeline_kfp")


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Project:
    """A project that Kubeflow runs, committed to git."""
    answers = {"orchestrator": "kubeflow", "epochs": "1", "minimumAccuracy": "0"}
    project = Project.generate(work, default_project.servers, projectName="kubeflow-run", **answers)
    commit_all(project.folder)
    return project


def run(project: Project, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command of docs/kubeflow.md for a laptop; it runs all steps, so its time limit is longer."""
    completed = subprocess.run(
        [*LOCAL, *KFP, *words], cwd=project.folder, env=project.environment,
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    project.servers.outputs.append(completed.stdout + completed.stderr)
    assert completed.returncode == status, completed.stdout + completed.stderr
    return completed


def test_every_step_runs_in_a_checkout_of_the_commit(project: Project) -> None:
    """Uncommitted changes have no effect; every step answers and is tagged with the commit."""
    (project.folder / "model.py").write_text("broken", encoding="utf-8")
    completed = run(project, "local")
    answers = re.sub(r"^ +", "", completed.stdout + completed.stderr, flags=re.MULTILINE)
    assert step_lines(answers, [*chain(project), "finish_run"]) == [*chain(project), "finish_run"]
    (name,) = re.findall(
        r"^finish_run: run (\S+) ended as Succeeded; .*MLflow's run is FINISHED", answers, re.MULTILINE
    )
    tracking = project.servers.tracking
    parent, children = tracking.children(project.schema, name)
    assert parent["info"]["status"] == "FINISHED"
    assert len(children) >= 3
    tagged = {tag["value"] for child in children for tag in child["data"]["tags"] if tag["key"] == "git_commit"}
    assert tagged == {head(project.folder)}
    with project.database("inference-app") as database:
        assert database.query("SELECT alias, version FROM {schema}.model_info") == [("staging", 1)]


def test_a_step_that_fails_ends_the_run_as_failed(project: Project) -> None:
    """finish_run runs all the same, and no later step does."""
    completed = run(project, "local", "step", "-P", "step=train_model", "-P", "options=--epochs=0", status=1)
    assert "error: epochs is 0" in completed.stdout + completed.stderr
    assert re.search(r"finish_run: run \S+ ended as Failed;", completed.stdout + completed.stderr)
    assert completed.stderr.strip().splitlines()[-1].startswith("error: the run has failed: ")
