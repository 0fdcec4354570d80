"""From one commit to a served model on a real Kubernetes; each test goes on where the one before it stopped.

Twenty minutes: what is proven here are runs of the whole pipeline, and each takes its minute and a half.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from end_to_end.conftest import work  # noqa: F401
from end_to_end.project import Project
from end_to_end.servers import CommandLines, Servers, tags, wait_until
from PIL import Image
from tools import doors, manifests

from .delivery import (
    APP_IMAGE,
    NAME,
    NAMESPACE,
    PIPELINE_IMAGE,
    Delivery,
    Object,
    phase,
    pipeline_run,
    steps,
    tries,
)
from .errors import CommandFailed
from .kubernetes import Cluster
from .places import LOGS

CHAIN = [
    "fetch-git-revision",
    "deploy-training-code",
    "deploy-training-db",
    "upload-dataset",
    "train-model",
    "evaluate-model",
    "promote-model",
    "deploy-inference-db",
]
ANSWERS = {"appPlatform": "kubernetes", "trainingDatabase": "postgresql", "projectName": NAME}


@pytest.fixture(scope="module")
def command_lines() -> Iterator[CommandLines]:
    """Every command line of this machine, those in pods among them."""
    with CommandLines() as watched:
        yield watched


@pytest.fixture(scope="module")
def project(work: Path, command_lines: CommandLines) -> Iterator[Project]:  # noqa: F811
    """The project, and its servers, which stay outside the cluster."""
    found = Project.generate(work, Servers(work / "state"), own=True, **ANSWERS)
    try:
        found.local("start")
        found.servers.mlflow = found.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
        yield found
    finally:
        found.local("stop")


@pytest.fixture(scope="module")
def delivery(cluster: Cluster, project: Project, work: Path) -> Delivery:  # noqa: F811
    """The project as a person has prepared it: images, values, Secrets, repository; nothing is deployed yet."""
    for tag, name in ((PIPELINE_IMAGE, "pipeline"), (APP_IMAGE, "app")):
        dockerfile = project.folder / "deploy" / "images" / f"{name}.Dockerfile"
        cluster.load_image(cluster.build_image(project.folder, dockerfile, tag))
    found = Delivery(cluster, project, cluster.repository(NAME))
    cluster.create_namespace(NAMESPACE)
    found.create_secrets(work)
    mlflow = cluster.publish(int(project.servers.mlflow.rpartition(":")[2]))
    found.choose_values(
        {
            "git": {"url": found.repository.url},
            "syncPeriod": "30s",
            "training": {"mlflow": {"url": f"http://{mlflow}"}},
            "pipeline": {"image": PIPELINE_IMAGE, "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
            "app": {"image": APP_IMAGE},
        }
    )
    # Learns little, so that what comes later is better.
    rate = "learning_rate: {type: float, default: 0.002}"
    found.edit("MLproject", rate, rate.replace("0.002", "0.0005"))
    found.edit("project.yaml", "minimumLabels: 50", "minimumLabels: 5")
    return found


def image() -> bytes:
    """Return a picture."""
    content = io.BytesIO()
    Image.new("L", (8, 8), 120).save(content, "PNG")
    return content.getvalue()


def served(delivery: Delivery) -> dict[str, Any]:
    """Return what the inference database says of the served version."""
    with delivery.project.database("inference-deployer") as database:
        (row,) = database.query(
            "SELECT v.version, v.git_commit, v.data_hash, v.mlflow_run, length(v.onnx) FROM {schema}.model_version v "
            "JOIN {schema}.model_alias a USING (model, version) WHERE a.alias = 'staging'"
        )
    return dict(zip(("version", "git_commit", "data_hash", "mlflow_run", "bytes"), row, strict=True))


def newest_training(delivery: Delivery) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """Return the training that was chosen last, and its epochs."""
    with delivery.project.database("trainer") as database:
        (row,) = database.query(
            "SELECT run_hash, parameters, status, git_commit FROM {schema}.training_run "
            "ORDER BY selected_at DESC LIMIT 1"
        )
        epochs = database.query(
            "SELECT epoch, train_loss, train_accuracy, val_loss, val_accuracy FROM {schema}.training_epoch "
            "WHERE run_hash = %s ORDER BY epoch",
            (row[0],),
        )
    return dict(zip(("run_hash", "parameters", "status", "git_commit"), row, strict=True)), epochs


def tracked(delivery: Delivery, run: Object) -> tuple[Object, list[Object]]:
    """Return MLflow's run of a run, and those of its steps."""
    return delivery.project.servers.tracking.children(delivery.project.schema, pipeline_run(run))


def assert_nothing_new(delivery: Delivery, count: int, syncs: int = 1) -> None:
    """Sync so often; no run may have begun."""
    for _ in range(syncs):
        delivery.sync()
        assert len(delivery.runs()) == count


def assert_succeeded(run: Object, skipped: tuple[str, ...] = ()) -> None:
    expected = [(step, "Skipped" if step in skipped else "Succeeded") for step in CHAIN]
    assert (phase(run), steps(run)) == ("Succeeded", expected), run["status"].get("message")


def assert_no_password(delivery: Delivery, run: Object) -> None:
    """Neither a run's object nor its logs hold a password."""
    told = json.dumps(run) + "".join(delivery.log(run, step) for step in [*CHAIN, "finish-run"])
    assert "deploy_training_db: " in told
    for password in delivery.project.servers.passwords():
        assert password not in told


# One commit


@pytest.fixture(scope="module")
def first_commit(delivery: Delivery) -> str:
    """The first commit, and the App that watches for it."""
    commit = delivery.push("The project")
    delivery.apply_app()
    delivery.wait_for_app()
    return commit


def test_the_app_deploys_one_run_and_waits_for_no_model(delivery: Delivery, first_commit: str) -> None:
    """The App is done long before the first training is."""
    (run,) = delivery.runs()
    assert run["metadata"]["name"] == f"{NAME}-pipeline-ver-1"
    assert phase(run) in ("Pending", "Running")
    assert delivery.get("cronworkflow", f"{NAME}-monitor")["spec"]["schedules"] == ["0 3 * * *"]


def test_pods_may_write_nothing_but_tmp_and_the_checkout(delivery: Delivery, first_commit: str) -> None:
    pod = delivery.wait_for_pod(f"{NAME}-pipeline-ver-1", "deploy-training-code")
    script = "id -u; touch /tmp/x /source/x && echo written"
    told = delivery.kubectl("exec", pod, "--container=main", "--", "sh", "-c", script)
    assert told.split() == ["10001", "written"]
    for place in ("/x", "/usr/x", "/opt/environment/x", "/bindings/trainer/x"):
        with pytest.raises(CommandFailed, match=r"Read-only file system|Permission denied"):
            delivery.kubectl("exec", pod, "--container=main", "--", "touch", place)


def test_the_api_is_not_ready_before_there_is_a_model(delivery: Delivery, first_commit: str) -> None:
    def started() -> Object | None:
        pods = delivery.get("pod", selector=f"app.kubernetes.io/name={NAME}-api")["items"]
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
        return next((status for status in statuses if status.get("started")), None)

    found = delivery.cluster.wait_for("the API's process", started, 120)
    assert not found["ready"]
    assert delivery.get("deployment", f"{NAME}-api")["status"].get("readyReplicas", 0) == 0


def test_neither_a_readme_nor_a_sync_starts_a_run(delivery: Delivery, first_commit: str) -> None:
    with (delivery.folder / "README.md").open("a", encoding="utf-8") as file:
        file.write("\nOne more line.\n")
    delivery.push("README")
    assert_nothing_new(delivery, 1, syncs=5)


def test_all_steps_succeed_in_their_order(delivery: Delivery, first_commit: str) -> None:
    run = delivery.wait_for_run(1)
    assert_succeeded(run)
    assert "staging is now version 1" in delivery.log(run, "deploy-inference-db")
    assert "Succeeded" in delivery.log(run, "finish-run")
    assert_no_password(delivery, run)


def test_lineage_agrees_everywhere(delivery: Delivery, first_commit: str) -> None:
    (run,) = delivery.runs()
    (commit,) = [each["value"] for each in run["status"]["outputs"]["parameters"] if each["name"] == "sha"]
    # It was looked up once; the branch may have moved on since.
    assert commit in (first_commit, delivery.repository.head())
    parent, children = tracked(delivery, run)
    assert parent["info"]["status"] == "FINISHED"
    assert {tags(child)["git_commit"] for child in [parent, *children]} == {commit}
    by_step = {tags(child)["step"]: child for child in children}
    assert sorted(by_step) == sorted(step.replace("-", "_") for step in CHAIN[1:])
    tagged = {tags(by_step[step])["liquibase_tag"] for step in ("deploy_training_db", "deploy_inference_db")}
    assert tagged == {commit}
    for role in ("training-deployer", "inference-deployer"):
        with delivery.project.database(role) as database:
            tag = "SELECT tag FROM {schema}.databasechangelog ORDER BY orderexecuted DESC LIMIT 1"
            assert database.value(tag) == commit
    found = served(delivery)
    assert (found["version"], found["git_commit"]) == (1, commit)
    assert {found["data_hash"]} == {tags(by_step[step])["data_hash"] for step in ("train_model", "promote_model")}
    assert found["mlflow_run"] == by_step["promote_model"]["info"]["run_id"]
    training, epochs = newest_training(delivery)
    assert (training["git_commit"], training["status"], len(epochs)) == (commit, "finished", 10)


def test_the_api_answers_through_its_service(delivery: Delivery, first_commit: str) -> None:
    for process in ("api", "ui"):
        delivery.cluster.wait_for_condition("deployment", f"{NAME}-{process}", "condition=Available", NAMESPACE, 120)
    assert delivery.ask("api", "/readyz")[0] == 200
    status, answer = delivery.ask("api", "/predictions", image())
    assert (status, answer["version"], answer["model"]) == (200, 1, "image_classifier")
    assert delivery.ask("ui", "/_stcore/health") == (200, "ok")


# The next commits


def test_more_epochs_are_one_run_that_outlives_its_databases(delivery: Delivery) -> None:
    """One commit, one run; the training database restarts under it, the inference database is away for a try."""
    delivery.edit("MLproject", "epochs: {type: int, default: 10}", "epochs: {type: int, default: 15}")
    commit = delivery.push("More epochs")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-2"
    delivery.wait_for_pod(name, "train-model")
    with delivery.away("training"):
        pass
    with delivery.away("inference"):

        def failed() -> Object | None:
            found = tries(delivery.get("workflow", name), "deploy-inference-db")
            return next((node for node in found if node["phase"] == "Failed"), None)

        first = delivery.cluster.wait_for("a failed try of deploy-inference-db", failed, 240)
        assert first["outputs"]["exitCode"] == "75"
    run = delivery.wait_for_run(2)
    assert_succeeded(run)
    training, epochs = newest_training(delivery)
    assert (training["git_commit"], len(epochs)) == (commit, 15)
    _, children = tracked(delivery, run)
    (trained,) = [child for child in children if tags(child)["step"] == "train_model"]
    assert {each["key"]: each["value"] for each in trained["data"]["params"]}["epochs"] == "15"
    assert served(delivery)["version"] == 2
    assert_nothing_new(delivery, 2)


def test_a_label_on_a_run_starts_none(delivery: Delivery) -> None:
    delivery.kubectl("label", "workflow", f"{NAME}-pipeline-ver-2", "someone=else")
    assert_nothing_new(delivery, 2)


def test_another_layer_needs_no_new_image(delivery: Delivery) -> None:
    """The same commit changes to Secrets that hold names and passwords alone: the other variant that can run here."""
    before = served(delivery)
    delivery.edit("model.py", "max(64, 8 * classes)", "max(96, 8 * classes)")
    delivery.edit("MLproject", "default: 0.0005", "default: 0.002")
    for role in manifests.ROLES:
        whole = delivery.get("secret", f"{NAME}-{role}")["data"]
        keys = {key: whole[key] for key in ("username", "password")}
        patch = json.dumps([{"op": "replace", "path": "/data", "value": keys}])
        delivery.kubectl("patch", "secret", f"{NAME}-{role}", "--type=json", f"--patch={patch}")
    databases = {
        "training": database_values(delivery, "trainer"),
        "inference": database_values(delivery, "inference-app"),
    }
    delivery.choose_values({"credentials": "kubernetes-secret", "training": {"databases": databases}})
    commit = delivery.push("Another layer, other Secrets")
    delivery.sync()
    run = delivery.wait_for_run(3)
    assert_succeeded(run)
    after = served(delivery)
    assert (after["version"], after["git_commit"]) == (3, commit)
    assert after["bytes"] > before["bytes"]
    delivery.cluster.wait_for_condition("deployment", f"{NAME}-api", "condition=Available", NAMESPACE, 120)
    status, answer = delivery.ask("api", "/predictions", image())
    assert (status, answer["version"]) == (200, 3)
    assert_no_password(delivery, run)


def database_values(delivery: Delivery, role: str) -> dict[str, Any]:
    """Return a database's address as deploy/values.yaml holds it."""
    keys = delivery.project.servers.binding(role)
    return {
        "type": "postgresql",
        "host": delivery.cluster.host,
        "port": int(keys["port"]),
        "database": keys["database"],
        "sslmode": "verify-ca",
        "caCertificate": keys["ca.crt"] + "\n",
    }


def test_a_run_that_a_person_stops_stays_stopped(delivery: Delivery) -> None:
    seed = "seed: {type: int, default: 1}\n      patience"
    delivery.edit("MLproject", seed, seed.replace("default: 1", "default: 7"))
    delivery.push("Another seed")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-4"
    delivery.wait_for_pod(name, "deploy-training-code")
    delivery.kubectl("patch", "workflow", name, "--type=merge", '--patch={"spec": {"shutdown": "Stop"}}')
    run = delivery.wait_for_run(4)
    assert phase(run) == "Failed"
    assert_nothing_new(delivery, 4, syncs=2)


def test_a_killed_training_goes_on_where_it_was(delivery: Delivery) -> None:
    """The same again under another number, its pod killed on the way: the same metrics, epoch by epoch."""
    _, undisturbed = newest_training(delivery)
    assert len(undisturbed) == 15
    delivery.edit("MLproject", "seed: {type: int, default: 7}", "seed: {type: int, default: 1}")
    delivery.edit("MLproject", "run: {type: int, default: 1}", "run: {type: int, default: 2}")
    delivery.push("Once more")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-5"
    pod = delivery.wait_for_pod(name, "train-model")
    killed = delivery.get("pod", pod)["metadata"]["uid"]
    count = "SELECT count(*) FROM {schema}.training_epoch WHERE run_hash = {run}"
    wait_until(lambda: delivery.project.training_runs(count, 2)[0][0] >= 2, 60, "two epochs")
    delivery.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    run = delivery.wait_for_run(5)
    assert_succeeded(run)
    # Argo may give the next try another name, or the same.
    assert killed not in [found["metadata"]["uid"] for found in delivery.get("pod")["items"]]
    assert "resuming after epoch" in delivery.log(run, "train-model")
    training, epochs = newest_training(delivery)
    assert json.loads(training["parameters"])["run"] == 2
    assert epochs == undisturbed


def test_a_run_that_fails_leaves_nothing_behind(delivery: Delivery) -> None:
    """A learning rate that is none: no second try, the exit handler ends the lock, the model stays what it was."""
    before = served(delivery)
    delivery.edit("MLproject", "float, default: 0.002}", "float, default: -1.0}")
    delivery.push("A mistake")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-6"
    delivery.wait_for_pod(name, "deploy-training-code")
    with delivery.project.database("inference-deployer") as database:
        held = f"pod#{pipeline_run(delivery.get('workflow', name))} (10.244.0.9)"
        database.query("UPDATE {schema}.databasechangeloglock SET locked = true, lockedby = %s", (held,))
        run = delivery.wait_for_run(6)
        assert phase(run) == "Failed"
        assert dict(steps(run))["train-model"] == "Failed"
        (only,) = tries(run, "train-model")
        assert only["outputs"]["exitCode"] == "1"
        assert "learning_rate is -1.0; allowed is any number above 0" in delivery.log(run, "train-model")
        assert database.query("SELECT locked, lockedby FROM {schema}.databasechangeloglock") == [(False, None)]
    assert served(delivery) == before
    parent, _ = tracked(delivery, run)
    assert parent["info"]["status"] == "FAILED"


def test_two_commits_one_after_the_other_both_end_well(delivery: Delivery) -> None:
    """The second run waits for the first; both heal what the failed one left."""
    delivery.edit("MLproject", "float, default: -1.0}", "float, default: 0.002}")
    delivery.edit("MLproject", "epochs: {type: int, default: 15}", "epochs: {type: int, default: 1}")
    delivery.push("Mended")
    delivery.sync()
    delivery.edit("MLproject", "epochs: {type: int, default: 1}", "epochs: {type: int, default: 2}")
    delivery.push("And one epoch more")
    delivery.sync()
    first, second = (f"{NAME}-pipeline-ver-{number}" for number in (7, 8))
    delivery.wait_for_pod(first, "deploy-training-code")
    assert not delivery.get("pod", selector=f"workflows.argoproj.io/workflow={second}")["items"]
    last = delivery.wait_for_run(8)
    found = delivery.get("workflow", first)
    assert (phase(found), phase(last)) == ("Succeeded", "Succeeded")
    ends = [node["finishedAt"] for node in tries(found, "promote-model")]
    assert max(ends) <= tries(last, "fetch-git-revision")[0]["startedAt"]
    # One epoch, or two, are not worth serving: refused, which is no failure.
    assert dict(steps(last))["deploy-inference-db"] == "Skipped"
    assert served(delivery)["version"] == 4


# Watching and going back


def test_monitoring_starts_a_run_when_the_model_is_wrong(delivery: Delivery) -> None:
    """Labels that say so; then what the CronWorkflow runs, and the run that it starts."""
    for _ in range(6):
        status, answer = delivery.ask("api", "/predictions", image())
        assert status == 200
        wrong = next(label for label in answer["probabilities"] if label != answer["label"])
        with delivery.project.database("inference-app") as database:
            database.query("SELECT {schema}.record_label(%s, %s)", (answer["prediction_id"], wrong))
    name = delivery.submit("monitor", "monitor", reason="monitoring")
    run = delivery.cluster.wait_for("the end of monitoring", lambda: delivery.ended(name), 180)
    assert phase(run) == "Succeeded", run["status"].get("message")
    assert "retrain: version" in delivery.log(run, "monitor-model")
    assert "6 new or changed labels" in delivery.log(run, "collect-labels")
    (started,) = [each for each in delivery.get("workflow")["items"] if "-retrain-" in each["metadata"]["name"]]
    assert started["spec"]["workflowTemplateRef"] == {"name": f"{NAME}-pipeline"}
    assert {"name": "reason", "value": "monitoring"} in started["spec"]["arguments"]["parameters"]
    delivery.kubectl("delete", "workflow", started["metadata"]["name"])


def test_a_person_rolls_back_by_hand(delivery: Delivery) -> None:
    name = delivery.submit("rollback", "one-step", step="rollback", options="--to-version 1")
    run = delivery.cluster.wait_for("the rollback", lambda: delivery.ended(name), 120)
    assert phase(run) == "Succeeded", delivery.log(run, "step")
    assert served(delivery)["version"] == 1
    assert delivery.ask("api", "/predictions", image())[1]["version"] == 1
    assert delivery.project.servers.tracking.alias("image_classifier", "staging") == "1"


# Rights


def test_the_accounts_are_refused_what_they_do_not_need(delivery: Delivery) -> None:
    """What they need, the tests before this one have seen them do."""
    pod = delivery.get("pod", selector=f"app.kubernetes.io/name={NAME}-api")["items"][0]["metadata"]["name"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "more", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }
    nobody_may = [
        ["get", "secret", f"{NAME}-trainer"],
        ["get", "secrets"],
        ["create", "secret", "generic", "x"],
        ["delete", "secret", f"{NAME}-trainer"],
        ["exec", pod, "--", "true"],
        ["logs", pod],
        ["delete", "pod", pod],
        ["get", "pods"],
        ["run", "x", f"--image={APP_IMAGE}"],
        ["create", "serviceaccount", "x"],
        ["create", "token", f"{NAME}-deployer"],
        ["get", "roles"],
        ["delete", "app", NAME],
        ["get", "app", NAME],
        ["get", "nodes"],
        ["get", "workflowtaskresults"],
    ]
    elsewhere = [["get", "configmaps", "--namespace=argo"], ["get", "workflows", "--namespace=argo"]]
    tried = 0
    for account in ("deployer", "pipeline", "monitor", "app"):
        user = f"--as=system:serviceaccount:{NAMESPACE}:{NAME}-{account}"
        here = [*nobody_may, ["create", "--filename=-"]]
        if account != "deployer":
            here += [["get", "workflows"], ["get", "configmaps"], ["delete", "workflow", f"{NAME}-pipeline-ver-8"]]
        for words in [*([*words, f"--namespace={NAMESPACE}"] for words in here), *elsewhere]:
            with pytest.raises(CommandFailed, match="forbidden"):
                delivery.cluster.kubectl(*words[:1], user, *words[1:], stdin=json.dumps(role))
            tried += 1
    assert tried == 4 * 19 + 3 * 3


# Everything that may be chosen


def test_the_api_server_takes_every_manifest(cluster: Cluster, tmp_path: Path) -> None:
    """Strictly: a field that a kind does not have is refused. Every kind's definition is its own project's."""
    kinds = set()
    chosen = manifests.merged(manifests.CHOSEN, {"app": {"ingress": {"enabled": True}}})
    for platform in ("tap", "kubernetes"):
        for credentials in ("service-binding", "external-secrets", "kubernetes-secret"):
            answers = {"appPlatform": platform, "credentials": credentials, "namespace": "default"}
            folder = doors.accelerator(ROOT, answers, tmp_path / platform / credentials).folder
            assert folder is not None
            rendered = (
                f"{manifests.accounts_and_app(folder, more=chosen)}\n---\n{manifests.deployed(folder, more=chosen)}"
            )
            rendered += f"\n---\n{manifests.on_event(folder, more=chosen)}"
            found = [each for each in manifests.objects(rendered) if each["kind"] not in ("Config", "ResourceClaim")]
            cluster.dry_run_strict(yaml.safe_dump_all(found))
            kinds |= {each["kind"] for each in found}
    assert kinds == {
        *("ServiceAccount", "Role", "RoleBinding", "App", "ConfigMap"),
        *("WorkflowTemplate", "Workflow", "CronWorkflow", "WorkflowEventBinding", "ExternalSecret"),
        *("Workload", "Deployment", "Service", "Ingress"),
    }


# The end


def test_no_password_is_anywhere(delivery: Delivery, command_lines: CommandLines) -> None:
    """Neither in what Kubernetes keeps beside Secrets, nor in logs of the platform, MLflow, or on a command line."""
    kinds = "app,workflow,workflowtemplate,cronworkflow,configmap,pod,deployment,service,event"
    told = [delivery.kubectl("get", kinds, "--output=yaml").encode()]
    logs = [path for path in LOGS.rglob("*") if path.is_file()]
    kept = [path for path in (delivery.project.servers.state / "mlflow").rglob("*") if path.is_file()]
    assert logs
    assert kept
    told += [path.read_bytes() for path in [*logs, *kept]]
    passwords = delivery.project.servers.passwords()
    assert len(passwords) == 4
    for password in passwords:
        assert not any(password.encode() in text for text in told)
        assert not [line for line in command_lines.seen if password.encode() in line]


def test_what_is_deleted_touches_no_database(delivery: Delivery) -> None:
    before = served(delivery)
    delivery.kubectl("delete", "app", NAME, "--timeout=120s")
    for kind in ("workflow", "workflowtemplate", "cronworkflow", "deployment", "service"):
        left = [each["metadata"]["name"] for each in delivery.get(kind)["items"]]
        assert not [name for name in left if "-rollback-" not in name and "-monitor-" not in name], kind
    assert served(delivery) == before
    assert newest_training(delivery)[1]
