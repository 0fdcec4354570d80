"""The Workflow of the pipeline: its steps, its pods, and Argo's refusal of mistakes."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tools import argo
from tools.manifests import Manifest, chain, deployed, objects, of_kind

from .conftest import generate
from .lookups import pods, templates, workflow_template

# Each test renders manifests.
pytestmark = pytest.mark.slow


def test_the_steps_are_those_of_mlproject_in_their_order(project: Path) -> None:
    steps = [step for (step,) in templates(deployed(project))["run"]["steps"]]
    assert [step["name"] for step in steps] == ["fetch-git-revision", *chain(project)]
    assert len(steps) == 8
    for step in steps[1:]:
        command = templates(deployed(project))[step["template"]]["container"]["command"]
        assert command == ["python", "-m", "pipeline", step["name"].replace("-", "_")]


def test_a_step_added_to_mlproject_runs(copied: Path) -> None:
    file = copied / "MLproject"
    text = file.read_text(encoding="utf-8")
    extra = "  check_fairness:\n    command: python -m pipeline check_fairness\n  promote_model:\n"
    file.write_text(text.replace("  promote_model:\n", extra), encoding="utf-8")
    names = [step["name"] for (step,) in templates(deployed(copied))["run"]["steps"]]
    assert names[-3:] == ["check-fairness", "promote-model", "deploy-inference-db"]


def test_every_step_after_the_first_works_on_its_commit(project: Path) -> None:
    by_name = templates(deployed(project))
    (first,) = by_name["fetch-git-revision"]["inputs"]["artifacts"]
    assert "revision" not in first["git"]
    for (step,) in by_name["run"]["steps"][1:]:
        assert step["arguments"]["parameters"] == [
            {"name": "sha", "value": "{{steps.fetch-git-revision.outputs.parameters.sha}}"}
        ]
        (source,) = by_name[step["template"]]["inputs"]["artifacts"]
        assert source["git"]["revision"] == "{{inputs.parameters.sha}}"


def test_deployment_requires_a_promotion(project: Path) -> None:
    by_name = templates(deployed(project))
    conditions = {step["name"]: step.get("when") for (step,) in by_name["run"]["steps"]}
    promoted = "{{steps.promote-model.outputs.parameters.promoted}} == true"
    assert conditions == dict.fromkeys(conditions) | {"deploy-inference-db": promoted}
    (output,) = by_name["promote-model"]["outputs"]["parameters"]
    assert output["valueFrom"]["default"] == "false"


def test_pods_are_restricted(project: Path) -> None:
    spec = workflow_template(deployed(project))["spec"]
    (deployment, _) = of_kind(deployed(project), "Deployment")
    for pod in (spec, deployment["spec"]["template"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = [template["container"] for template in pods(deployed(project)).values()]
    containers += deployment["spec"]["template"]["spec"]["containers"]
    # The commit, seven steps, the exit handler, a step by hand, two of monitoring, and the app.
    assert len(containers) == 1 + 7 + 1 + 1 + 2 + 1
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}


def test_parameters_reach_no_script(project: Path) -> None:
    """Argo substitutes parameters as text, which would be code in a command line or a script."""
    for template in pods(deployed(project)).values():
        assert "{{" not in " ".join(template["container"]["command"])


def test_every_pod_has_a_deadline_and_retries(project: Path) -> None:
    spec = workflow_template(deployed(project))["spec"]
    assert spec["activeDeadlineSeconds"] == 24 * 3600
    (run,) = of_kind(deployed(project), "Workflow")
    assert set(run["spec"]["ttlStrategy"].values()) == {10 * 365 * 24 * 3600}
    for name, template in pods(deployed(project)).items():
        assert template["activeDeadlineSeconds"] in (600, 4 * 3600), name
        assert template["retryStrategy"]["limit"] == "3"
        # Argo counts it from the start of the first attempt, so no long step would be retried.
        assert "maxDuration" not in template["retryStrategy"]["backoff"]
        if name != "fetch-git-revision":
            assert "in [75, 137, 143]" in template["retryStrategy"]["expression"]


def test_monitoring_collects_labels_only_if_inputs_are_stored(project: Path, tmp_path: Path) -> None:
    steps = [step["name"] for (step,) in templates(deployed(project))["monitor"]["steps"]]
    assert steps == ["fetch-git-revision", "monitor-model", "collect-labels", "retrain"]
    without = generate(tmp_path / "p", appPlatform="kubernetes", storeInputs=False)
    steps = [step["name"] for (step,) in templates(deployed(without))["monitor"]["steps"]]
    assert steps == ["fetch-git-revision", "monitor-model", "retrain"]


def test_the_run_that_monitoring_starts_is_valid(project: Path, tmp_path: Path) -> None:
    text = deployed(project)
    manifest = templates(text)["retrain"]["resource"]["manifest"]
    file = tmp_path / "retrain.yaml"
    file.write_text(f"{text}\n---\n{manifest}\n", encoding="utf-8")
    assert argo.validate([file]) == []
    file.write_text(f"{text}\n---\n{manifest.replace('-pipeline', '-other')}\n", encoding="utf-8")
    (line,) = argo.validate([file])
    assert "image-classifier-other" in line


Break = Callable[[Manifest], None]


def step_of_run(template: Manifest, name: str) -> Manifest:
    run = next(candidate for candidate in template["spec"]["templates"] if candidate["name"] == "run")
    return next(step for (step,) in run["steps"] if step["name"] == name)


def omit_a_parameter(template: Manifest) -> None:
    del step_of_run(template, "train-model")["arguments"]


def name_an_unknown_template(template: Manifest) -> None:
    step_of_run(template, "train-model")["template"] = "train-modle"


def make_steps_wait_for_each_other(template: Manifest) -> None:
    run = next(candidate for candidate in template["spec"]["templates"] if candidate["name"] == "run")
    tasks = [copy.deepcopy(step) for (step,) in run.pop("steps")]
    for task, next_task in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        task["dependencies"] = [next_task["name"]]
        task.pop("when", None)
        if "arguments" in task:
            task["arguments"] = {"parameters": [{"name": "sha", "value": "x"}]}
    run["dag"] = {"tasks": tasks}


def add_an_unknown_field(template: Manifest) -> None:
    template["spec"]["mutex"] = {"name": "x"}


def read_an_output_that_no_step_has(template: Manifest) -> None:
    when = "{{steps.evaluate-model.outputs.parameters.promoted}} == true"
    step_of_run(template, "deploy-inference-db")["when"] = when


BROKEN: dict[Break, str] = {
    omit_a_parameter: "inputs.parameters.sha was not supplied",
    name_an_unknown_template: "template name 'train-modle' undefined",
    make_steps_wait_for_each_other: "cycle",
    add_an_unknown_field: 'unknown field "spec.mutex"',
    read_an_output_that_no_step_has: "steps.evaluate-model.outputs.parameters.promoted",
}


@pytest.mark.parametrize("change", BROKEN)
def test_argo_refuses_a_broken_workflow(project: Path, tmp_path: Path, change: Break) -> None:
    manifests = list(objects(deployed(project)))
    change(next(manifest for manifest in manifests if manifest["kind"] == "WorkflowTemplate"))
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    assert BROKEN[change] in "\n".join(argo.validate([file]))
