"""The compiled pipelines do the same as Argo's, step by step."""

from pathlib import Path

import pytest
import yaml
from tools.manifests import ROLES

from .pipelines import Pipeline, argo_templates, compiled, generate

pytestmark = pytest.mark.slow


def seconds_of(text: str) -> int:
    """Return the seconds of a period like 10s or 24h."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def test_the_steps_and_their_order_are_argos(train: Pipeline, of_argo: Path) -> None:
    """The last step is in the group that runs only after a promotion."""
    run = train.group("run")
    order = train.order(run)
    assert order[-1] == "promoted"
    order[-1:] = train.order(train.group("promoted", run))
    assert order == [step["name"] for (step,) in argo_templates(of_argo)["run"]["steps"]]
    assert len(order) == 8


def test_a_step_that_is_added_to_mlproject_is_run(copied: Path, tmp_path: Path) -> None:
    file = copied / "MLproject"
    text = file.read_text(encoding="utf-8")
    extra = "  check_fairness:\n    command: python -m pipeline check_fairness\n  promote_model:\n"
    file.write_text(text.replace("  promote_model:\n", extra), encoding="utf-8")
    pipeline = compiled(copied, tmp_path, "train")
    assert pipeline.order(pipeline.group("run"))[-3:] == ["check-fairness", "promote-model", "promoted"]


def test_a_step_runs_argos_command_in_a_checkout_of_the_commit(train: Pipeline, of_argo: Path) -> None:
    run = train.group("run")
    inner = train.tasks(run) | train.tasks(train.group("promoted", run))
    for (step,) in argo_templates(of_argo)["run"]["steps"][1:]:
        name = step["name"]
        arguments = train.container(name)["args"]
        assert arguments[-4:] == argo_templates(of_argo)[name]["container"]["command"]
        assert arguments[:4] == [f"{{{{$.inputs.parameters['{key}']}}}}" for key in ("url", "sha", "run", "options")]
        (sha,) = inner[name]["inputs"]["parameters"]["sha"].values()
        assert sha == "pipelinechannel--fetch-git-revision-sha" or sha["producerTask"] == "fetch-git-revision"
        assert inner[name]["inputs"]["parameters"]["run"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}


def test_nothing_is_deployed_when_nothing_is_promoted(train: Pipeline, of_argo: Path) -> None:
    (group,) = [task for task in train.tasks(train.group("run")).values() if task["taskInfo"]["name"] == "promoted"]
    channel = "pipelinechannel--promote-model-promoted"
    assert group["triggerPolicy"] == {"condition": f"inputs.parameter_values['{channel}'] == 'true'"}
    assert group["inputs"]["parameters"][channel]["taskOutputParameter"] == {
        "outputParameterKey": "promoted", "producerTask": "promote-model",
    }  # fmt: skip
    (output,) = argo_templates(of_argo)["promote-model"]["outputs"]["parameters"]
    assert train.container("promote-model")["args"][4:6] == [output["name"], output["valueFrom"]["default"]]


def test_the_parameters_are_mlprojects(train: Pipeline, project: Path) -> None:
    """The commit has the defaults of empty parameters: none of an old commit is compiled in."""
    entries = yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    chain = list(entries)[: list(entries).index("deploy_inference_db") + 1]
    expected = {f"{step}_{name}" for step in chain for name in entries[step].get("parameters", {})}
    declared = train.spec["root"]["inputDefinitions"]["parameters"]
    assert set(declared) == expected
    assert len(expected) > 8
    assert {parameter["defaultValue"] for parameter in declared.values()} == {""}
    options = train.tasks(train.group("run"))["train-model"]["inputs"]["parameters"]["options"]["runtimeValue"][
        "constant"
    ]
    assert options.split()[0] == "--epochs={{$.inputs.parameters['pipelinechannel--train_model_epochs']}}"


def test_finish_run_follows_a_run_however_it_ended(train: Pipeline, of_argo: Path) -> None:
    tasks = train.tasks()
    assert set(tasks) == {"exit-handler-1", "finish-run"}
    assert tasks["finish-run"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert tasks["finish-run"]["inputs"]["parameters"]["status"] == {
        "taskFinalStatus": {"producerTask": "exit-handler-1"}
    }
    command = argo_templates(of_argo)["finish-run"]["container"]["command"]
    assert [*train.container("finish-run")["args"][-4:], command[-1]] == command


def test_pods_are_as_argos(train: Pipeline, of_argo: Path) -> None:
    """Image, resources, deadline, user, environment, Secrets and labels."""
    spec = argo_templates(of_argo)[""]
    for step in [
        "fetch-git-revision",
        *(step["name"] for (step,) in argo_templates(of_argo)["run"]["steps"]),
        "finish-run",
    ]:
        theirs, ours, pod = argo_templates(of_argo)[step], train.container(step), train.pod(step)
        assert ours["image"] == theirs["container"]["image"]
        resources, expected = ours["resources"], theirs["container"]["resources"]
        assert resources["resourceCpuRequest"] == expected["requests"]["cpu"]
        assert resources["resourceMemoryRequest"] == expected["requests"]["memory"]
        assert resources["resourceMemoryLimit"] == expected["limits"]["memory"]
        assert pod["activeDeadlineSeconds"] == str(theirs["activeDeadlineSeconds"])
        assert pod["imagePullPolicy"] == theirs["container"]["imagePullPolicy"]
        assert {key: int(pod["securityContext"][key]) for key in ("runAsUser", "runAsGroup")} == {
            key: spec["securityContext"][key] for key in ("runAsUser", "runAsGroup")
        }
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["podMetadata"]["labels"] == spec["podMetadata"]["labels"]
        if step != "fetch-git-revision":
            # The script exports the variables that differ per run.
            theirs_by_name = {variable["name"]: variable.get("value") for variable in theirs["container"]["env"]}
            own = {"GIT_COMMIT", "PIPELINE_RUN", "STEP_OUTPUTS", "RUN_STATUS"}
            variables = {variable["name"]: variable["value"] for variable in ours["env"]}
            assert set(variables) == set(theirs_by_name) - own
            same = set(variables) - {"SERVICE_BINDING_ROOT"}
            assert {name: variables[name] for name in same} == {name: theirs_by_name[name] for name in same}
            mounted = {volume["mountPath"]: volume["secretName"] for volume in pod["secretAsVolume"]}
            assert mounted == {
                f"{variables['SERVICE_BINDING_ROOT']}/{role}": f"image-classifier-{role}" for role in ROLES
            }
    deadline = train.platform["platforms"]["kubernetes"]["pipelineConfig"]["activeDeadlineSeconds"]
    assert deadline == spec["activeDeadlineSeconds"]


def test_tries_are_argos(train: Pipeline, of_argo: Path) -> None:
    """The same number and waits; only Kubeflow cannot exclude exit codes that mark a mistake."""
    tasks = train.every_task()
    assert len(tasks) == 9
    for task in tasks:
        policy, theirs = task["retryPolicy"], argo_templates(of_argo)[task["taskInfo"]["name"]]["retryStrategy"]
        assert policy["maxRetryCount"] == int(theirs["limit"])
        assert policy["backoffDuration"] == theirs["backoff"]["duration"]
        assert policy["backoffFactor"] == int(theirs["backoff"]["factor"])
        # The maximum counts from the start of the first attempt.
        assert seconds_of(policy["backoffMaxDuration"]) == argo_templates(of_argo)[""]["activeDeadlineSeconds"]


def test_nothing_comes_from_a_cache(train: Pipeline, monitor: Pipeline) -> None:
    """The steps themselves recognise finished work."""
    for task in (*train.every_task(), *monitor.every_task()):
        assert task["cachingOptions"] == {}


def test_monitoring_trains_again_as_argos_does(
    monitor: Pipeline, train: Pipeline, of_argo: Path, tmp_path: Path
) -> None:
    """Retraining is not a separate run: its steps follow in the same one."""
    run = monitor.group("run")
    retrain = monitor.group("retrain", run)
    *before, last = (step["name"] for (step,) in argo_templates(of_argo)["monitor"]["steps"])
    assert [*monitor.order(run)[:-1], monitor.order(retrain)[0]] == before
    assert (monitor.order(run)[-1], last) == ("retrain", "retrain")
    assert monitor.order(retrain)[1:] == train.order(train.group("run"))[1:]
    (group,) = [task for task in monitor.tasks(run).values() if task["taskInfo"]["name"] == "retrain"]
    assert group["triggerPolicy"]["condition"].endswith("'pipelinechannel--monitor-model-decision'] == 'retrain'")
    without = generate(tmp_path / "p", orchestrator="kubeflow", storeInputs=False)
    pipeline = compiled(without, tmp_path, "monitor")
    assert "collect-labels" not in pipeline.text
