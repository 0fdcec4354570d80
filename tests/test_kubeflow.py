"""The pipelines of Kubeflow: compiled by the real kfp, and compared step by step with Argo's."""

import http.server
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from tools import doors, ytt
from tools.manifests import CHOSEN, PRODUCTION, ROLES, VALUES, accounts_and_app, deployed, merged, objects, of_kind

pytestmark = pytest.mark.slow
KFP = ["/usr/bin/python3", "-m", "local", "run", "--environment", "kubeflow", "--no-servers", "--"]
KFP += ["python", "-m", "deploy.pipeline_kfp"]
Json = dict[str, Any]


def generate(place: Path, **answers: object) -> Path:
    folder = doors.accelerator(ROOT, answers, place).folder
    assert folder is not None
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project for Kubeflow, which no test changes."""
    return generate(tmp_path_factory.mktemp("kubeflow") / "p", orchestrator="kubeflow", appPlatform="kubernetes")


@pytest.fixture(scope="module")
def of_argo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project for Argo."""
    return generate(tmp_path_factory.mktemp("argo") / "p", appPlatform="kubernetes")


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(project, tmp_path / "copied"))


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


@pytest.fixture(scope="module")
def train(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The training pipeline."""
    return compiled(project, tmp_path_factory.mktemp("train"), "train")


@pytest.fixture(scope="module")
def monitor(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The monitoring pipeline."""
    return compiled(project, tmp_path_factory.mktemp("monitor"), "monitor")


@cache
def argo_templates(project: Path) -> Json:
    (template,) = of_kind(deployed(project), "WorkflowTemplate")
    return {item["name"]: item for item in template["spec"]["templates"]} | {"": template["spec"]}


def seconds_of(text: str) -> int:
    """Return the seconds of a period like 10s or 24h."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


# The same as Argo's


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


def test_the_end_of_a_run_is_told_however_it_ended(train: Pipeline, of_argo: Path) -> None:
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


# Secrets


def test_no_secret_is_written(project: Path, tmp_path: Path) -> None:
    """They are referenced by name: as volumes, and as variables for git and MLflow."""
    more = {
        "git": {"secret": "repository"}, "imagePullSecret": "registry", "secrets": {"trainer": "other"},
        "training": {"mlflow": {"secret": "tracking"}},
    }  # fmt: skip
    pipeline = compiled(project, tmp_path, "train", more=more)
    pod = pipeline.pod("train-model")
    assert [entry["secretName"] for entry in pod["imagePullSecret"]] == ["registry"]
    variables = {entry["secretName"]: {key["envVar"] for key in entry["keyToEnv"]} for entry in pod["secretAsEnv"]}
    assert variables == {
        "repository": {"GIT_USERNAME", "GIT_PASSWORD"},
        "tracking": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    }
    assert "other" in {volume["secretName"] for volume in pod["secretAsVolume"]}
    assert "secretAsVolume" not in pipeline.pod("fetch-git-revision")
    for executor in pipeline.executors.values():
        assert "password" not in " ".join(executor["container"]["args"])


def test_where_a_secret_lacks_the_address_the_step_lays_both_together(project: Path, tmp_path: Path) -> None:
    """The result equals Argo's projected volume."""
    pipeline = compiled(project, tmp_path, "train", more={"credentials": "kubernetes-secret"})
    pod = pipeline.pod("train-model")
    assert {volume["mountPath"] for volume in pod["secretAsVolume"]} == {f"/credentials/{role}" for role in ROLES}
    maps = {volume["mountPath"]: volume["configMapName"] for volume in pod["configMapAsVolume"]}
    assert maps == {f"/addresses/{role}": f"image-classifier-{role}-db" for role in ROLES}
    volumes = [volume["secretName"] for volume in pod["secretAsVolume"]] + list(maps.values())
    assert len(set(volumes)) == len(volumes) == 2 * len(ROLES)
    rendered = of_kind(deployed(project, more=merged(CHOSEN, {"credentials": "kubernetes-secret"})), "ConfigMap")
    assert {manifest["metadata"]["name"] for manifest in rendered} == set(maps.values())


def test_a_second_environment_is_another_pipeline(project: Path, tmp_path: Path) -> None:
    pipeline = compiled(project, tmp_path, "train", VALUES, PRODUCTION)
    stages = {
        variable["value"]
        for executor in pipeline.executors.values()
        for variable in executor["container"]["env"]
        if variable["name"] == "MODEL_STAGE"
    }
    assert stages == {"production"}


# The scripts that a container runs


def scripts(pipeline: Pipeline) -> dict[str, str]:
    return {name: executor["container"]["command"][2] for name, executor in pipeline.executors.items()}


def test_shellcheck_has_nothing_against_the_scripts(train: Pipeline) -> None:
    final = [argument for argument in train.container("finish-run")["args"] if "esac" in argument]
    assert len(final) == 1
    for script in {*scripts(train).values(), *final}:
        process = subprocess.run(
            ["shellcheck", "--shell=sh", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert process.stdout == ""


def run_script(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script, "step", *arguments], env={"PATH": os.environ["PATH"], **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for command in (["init", "--quiet", "-b", "main", folder], ["-C", folder, "add", "--all"]):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text("1", encoding="utf-8")
        subprocess.run(["git", *command], check=True, capture_output=True)
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, "commit", "--quiet", "--all", "--message=x"], cwd=folder, check=True)
    process = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def test_the_commit_is_found_once_and_every_step_works_on_it(train: Pipeline, repository: Path, tmp_path: Path) -> None:
    """A later commit, an empty option and a glob change nothing; the outcome is the text that the step wrote."""
    output = tmp_path / "outputs" / "sha"
    process = run_script(scripts(train)["exec-fetch-git-revision"], str(repository), "main", str(output))
    assert process.returncode == 0, process.stderr
    sha = output.read_text(encoding="utf-8")
    (repository / "file").write_text("2", encoding="utf-8")
    assert commit(repository) != sha
    command = [
        "sh",
        "-c",
        'cat file; printf " %s" "$GIT_COMMIT" "$PIPELINE_RUN" "$@"; echo yes > "$STEP_OUTPUTS/promoted"',
        "x",
    ]
    arguments = [
        str(repository),
        sha,
        "run-1",
        "--epochs=3 --seed= --glob=*",
        "promoted",
        "no",
        str(tmp_path / "promoted"),
    ]
    process = run_script(scripts(train)["exec-promote-model"], *arguments, *command, TMPDIR=str(tmp_path))
    assert process.stdout == f"1 {sha} run-1 --epochs=3 --glob=*", process.stderr
    assert (tmp_path / "promoted").read_text(encoding="utf-8") == "yes\n"
    process = run_script(scripts(train)["exec-promote-model"], *arguments, "true", TMPDIR=str(tmp_path))
    assert (tmp_path / "promoted").read_text(encoding="utf-8") == "no"
    process = run_script(
        scripts(train)["exec-train-model"], *arguments[:4], "", "", "", "sh", "-c", "exit 75", TMPDIR=str(tmp_path)
    )
    assert process.returncode == 75


def test_a_branch_that_is_not_there_ends_the_run(train: Pipeline, repository: Path, tmp_path: Path) -> None:
    process = run_script(scripts(train)["exec-fetch-git-revision"], str(repository), "other", str(tmp_path / "sha"))
    assert process.returncode != 0
    assert not (tmp_path / "sha").exists()


@pytest.mark.parametrize(
    ("final_status", "status"),
    [('{"state":"SUCCEEDED"}', "Succeeded"), ('{"state": "FAILED"}', "Failed"), ("CANCELLED", ""), ("{}", "Failed")],
)
def test_the_end_is_told_in_the_steps_words(train: Pipeline, final_status: str, status: str) -> None:
    (script,) = [argument for argument in train.container("finish-run")["args"] if "esac" in argument]
    assert run_script(script, final_status, "echo").stdout == f"--status={status}\n"


# Mistakes


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (["compile", "tarin", "--output", "x"], {}, "there is no pipeline tarin; there are train, step, monitor"),
        (["compile", "--output", "x.txt"], {}, "--output is x.txt; a pipeline's file ends with .yaml"),
        (["submit", "-P", "train_model_epochs"], {}, "-P train_model_epochs has no value; write it as NAME=VALUE"),
        (["submit", "step"], {}, "step is ''; -P step=NAME names one of deploy_training_code, "),
        (["submit", "step", "-P", "step=rollbak"], {}, "step is 'rollbak'; -P step=NAME names one of "),
        (["submit", "-P", "epochs=3"], {}, "train takes no parameter epochs; it takes upload_dataset_seed, "),
        (
            ["compile", "--output", "x"],
            {"pipeline": {"image": "x:latest"}},
            "ytt does not take deploy/values.yaml and ",
        ),
        (["compile", "--output", "/nowhere/x.yaml"], {}, "/nowhere/x.yaml"),
        (
            ["schedule"],
            {"monitoring": {"timezone": "Europe/Berlin"}},
            "monitoring.timezone is Europe/Berlin; Kubeflow's",
        ),
        (["compile", "--output", "x"], {"git": {"url": "ssh://git@git.example.com/a.git", "secret": "x"}}, "https://"),
        (["local"], {}, "is on no branch of a git repository: commit what is to run"),
        (["--host", "http://127.0.0.1:9", "submit"], {}, "Kubeflow does not answer at http://127.0.0.1:9"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    project: Path, tmp_path: Path, words: list[str], more: dict[str, Any], message: str
) -> None:
    process = kfp(project, "--values", VALUES, "--values", str(chosen(tmp_path, more)), *words)
    assert process.returncode == 1, process.stdout
    assert "Traceback" not in process.stdout + process.stderr
    assert message in process.stderr.splitlines()[-1] if "ytt" not in message else message in process.stderr


# Other files of the project


def test_argo_leaves_no_trace(project: Path) -> None:
    """The App still deploys the app and its bindings; no account gets rights on Argo's objects."""
    text = accounts_and_app(project)
    assert "argoproj" not in text + deployed(project)
    assert {manifest["metadata"]["name"] for manifest in of_kind(text, "ServiceAccount")} == {
        "image-classifier-deployer", "image-classifier-app",
    }  # fmt: skip
    assert {manifest["kind"] for manifest in objects(deployed(project))} == {"Deployment", "Service"}
    stores = merged(CHOSEN, {"credentials": "external-secrets"})
    assert {manifest["kind"] for manifest in objects(deployed(project, more=stores))} == {
        "Config", "Deployment", "ExternalSecret", "Service",
    }  # fmt: skip
    names = {str(path.relative_to(project)) for path in project.rglob("*")}
    assert not names & {"deploy/config/argo.star", "deploy/config/pipeline.yaml", "deploy/retrain-on-event.yaml"}
    for kind in ("how-to", "reference"):
        assert "Argo" not in (project / "docs" / kind / "orchestrator.md").read_text(encoding="utf-8")


def test_kubeflow_leaves_no_trace_where_argo_runs(of_argo: Path) -> None:
    names = {str(path.relative_to(of_argo)) for path in of_argo.rglob("*")}
    assert not {name for name in names if re.search("kfp|kubeflow", name)}
    for name in ("README.md", "deploy/values.yaml", "docs/how-to/kubernetes.md", "docs/index.md", "Makefile"):
        text = (of_argo / name).read_text(encoding="utf-8")
        assert not re.search("kubeflow|kfp", text, re.IGNORECASE), name


# Calls of Kubeflow


def test_a_schedule_replaces_the_one_before(project: Path, tmp_path: Path) -> None:
    """A server in Kubeflow's place records the requests."""
    with Kubeflow() as server:
        values = ["--values", VALUES, "--values", str(chosen(tmp_path, {})), "--host", server.address]
        for _ in range(2):
            process = kfp(project, *values, "--multi-user", "schedule")
            assert process.returncode == 0, process.stdout + process.stderr
            assert process.stdout.endswith("image-classifier-monitor: 0 0 3 * * *\n")
        (job,) = server.jobs.values()
        assert job["display_name"] == "image-classifier-monitor"
        assert job["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
        assert (job["max_concurrency"], job["no_catchup"], job["mode"]) == (1, True, "ENABLE")
        assert job["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "image-classifier-monitor"
        assert server.namespaces == {"ml"}
        process = kfp(project, *values, "submit", "-P", "train_model_epochs=3")
        assert process.returncode == 0, process.stdout + process.stderr
        (run,) = server.runs
        assert run["runtime_config"]["parameters"] == {"train_model_epochs": "3"}
        off = chosen(tmp_path, {"monitoring": {"enabled": False}})
        process = kfp(project, "--values", VALUES, "--values", str(off), "--host", server.address, "schedule")
        assert process.stdout.endswith("image-classifier-monitor: not scheduled\n"), process.stderr
        assert not server.jobs
        server.refusing = True
        process = kfp(project, *values, "submit")
        assert process.returncode == 1
        assert process.stderr.splitlines()[-1].startswith("error: Kubeflow refuses: 403 Forbidden")


def test_the_pages_commands_do_what_the_page_says(copied: Path) -> None:
    """Every command of the page, run against a server in Kubeflow's place."""
    page = (copied / "docs" / "how-to" / "orchestrator.md").read_text(encoding="utf-8")
    shortened, commands, *_ = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    values = yaml.safe_load((copied / VALUES).read_text(encoding="utf-8"))
    (copied / VALUES).write_text(yaml.safe_dump(merged(values, CHOSEN)), encoding="utf-8")
    with Kubeflow() as server:
        script = f"set -e\n{shortened}{commands}".replace("https://KUBEFLOW", server.address)
        path = f"{ytt.folder()}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.run(
            ["bash", "-c", script], cwd=copied, env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        assert yaml.safe_load_all((copied.parent / "train.yaml").read_text(encoding="utf-8"))
        assert [run["runtime_config"].get("parameters", {}) for run in server.runs] == [
            {},
            {"train_model_epochs": "20"},
            {"step": "rollback", "options": "--to-version 1"},
        ]
        assert len(server.jobs) == 1
    # Compiled pipelines are not for git: they derive from committed files.
    assert not list(copied.rglob("*train*.yaml"))


class Kubeflow:
    """The part of Kubeflow Pipelines' REST API that kfp's client calls; it records the requests."""

    def __init__(self) -> None:
        self.jobs: dict[str, Json] = {}
        self.numbers = map(str, itertools.count())
        self.runs: list[Json] = []
        self.namespaces: set[str] = set()
        self.refusing = False

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Json]:
        """Return status and object."""
        content = json.loads(body or b"{}")
        kind, _, name = path.partition("?")[0].removeprefix("/apis/v2beta1/").partition("/")
        if self.refusing and kind != "healthz":
            return 403, {"error": "no"}
        return getattr(self, f"{method.lower()}_{kind}")(name, content)

    def get_healthz(self, *_: object) -> tuple[int, Json]:
        """Report health."""
        return 200, {"multi_user": True}

    def get_experiments(self, *_: object) -> tuple[int, Json]:
        """Return no experiment."""
        return 200, {"experiments": []}

    def post_experiments(self, _name: str, content: Json) -> tuple[int, Json]:
        """Create an experiment."""
        self.namespaces |= {content["namespace"]} if content.get("namespace") else set()
        return 200, {"experiment_id": "e", **content}

    def get_recurringruns(self, *_: object) -> tuple[int, Json]:
        """Return the recurring runs."""
        return 200, {"recurringRuns": list(self.jobs.values())}

    def post_recurringruns(self, _name: str, content: Json) -> tuple[int, Json]:
        """Create a recurring run."""
        number = next(self.numbers)
        self.jobs[number] = {"recurring_run_id": number, **content}
        return 200, self.jobs[number]

    def delete_recurringruns(self, name: str, _given: Json) -> tuple[int, Json]:
        """Delete a recurring run."""
        del self.jobs[name]
        return 200, {}

    def post_runs(self, _name: str, content: Json) -> tuple[int, Json]:
        """Create a run."""
        self.runs.append(content)
        return 200, {"run_id": "r", **content}

    def __enter__(self) -> "Kubeflow":
        kubeflow = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = kubeflow.answer(self.command, self.path, body)
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that the library calls

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
