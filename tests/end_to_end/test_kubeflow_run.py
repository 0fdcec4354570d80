"""The pipeline of Kubeflow, run by kfp's own runner: the same scripts as in its pods, on real databases and MLflow."""

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import commit_all
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
    """Run what the page says for this machine; all steps in one command take longer than others' commands may."""
    done = subprocess.run(
        [*LOCAL, *KFP, *words], cwd=project.folder, env=project.environment,
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    project.servers.outputs.append(done.stdout + done.stderr)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_every_step_runs_in_a_checkout_of_the_commit(project: Project) -> None:
    """What is not committed is not run; the answer of each step, its commit and its run are the run's own."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.folder, capture_output=True, text=True, check=True)
    (project.folder / "model.py").write_text("broken", encoding="utf-8")
    told = run(project, "local")
    answers = re.sub(r"^ +", "", told.stdout + told.stderr, flags=re.MULTILINE)
    assert step_lines(answers, [*chain(project), "finish_run"]) == [*chain(project), "finish_run"]
    (name,) = re.findall(
        r"^finish_run: run (\S+) ended as Succeeded; .*MLflow's run is FINISHED", answers, re.MULTILINE
    )
    tracking = project.servers.tracking
    parent, children = tracking.children(project.schema, name)
    assert parent["info"]["status"] == "FINISHED"
    assert len(children) >= 3
    tagged = {tag["value"] for child in children for tag in child["data"]["tags"] if tag["key"] == "git_commit"}
    assert tagged == {head.stdout.strip()}
    with project.database("inference-app") as database:
        assert database.query("SELECT alias, version FROM {schema}.model_info") == [("staging", 1)]


def test_a_step_that_fails_ends_the_run_as_failed(project: Project) -> None:
    """The end is told all the same; a later step does not run."""
    done = run(project, "local", "step", "-P", "step=train_model", "-P", "options=--epochs=0", status=1)
    assert "error: epochs is 0" in done.stdout + done.stderr
    assert re.search(r"finish_run: run \S+ ended as Failed;", done.stdout + done.stderr)
    assert done.stderr.strip().splitlines()[-1].startswith("error: the run has failed: ")
