"""From a commit to a served model on a real Kubernetes; each test continues from the state of the one before.

Most tests run the whole pipeline, which takes one and a half minutes, so the module takes twenty minutes.
"""

import json

import pytest
from end_to_end.servers import CommandLines, tags, wait_until
from tools import manifests

from .delivery import NAME, NAMESPACE, Delivery, Object, attempts, gray_png, phase, pipeline_run, steps
from .errors import CommandFailed
from .forbidden import FORBIDDEN, FORBIDDEN_ELSEWHERE, FORBIDDEN_EXCEPT_FOR_THE_DEPLOYER, MORE_RIGHTS
from .places import LOGS
from .pods import answer_of

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


def assert_no_new_run(delivery: Delivery, count: int, syncs: int = 1) -> None:
    """Sync `syncs` times; there must still be `count` runs."""
    for _ in range(syncs):
        delivery.sync()
        assert len(delivery.runs()) == count


def assert_succeeded(run: Object) -> None:
    expected = [(step, "Succeeded") for step in CHAIN]
    assert (phase(run), steps(run)) == ("Succeeded", expected), run["status"].get("message")


def assert_no_password(delivery: Delivery, run: Object) -> None:
    """Neither the object of a run nor its logs contain a password."""
    text = json.dumps(run) + "".join(delivery.log(run, step) for step in [*CHAIN, "finish-run"])
    assert "deploy_training_db: " in text
    for password in delivery.project.servers.passwords():
        assert password not in text


# The first commit


@pytest.fixture(scope="module")
def first_commit(delivery: Delivery) -> str:
    """Push the first commit and apply the App; return the commit."""
    commit = delivery.push("The project")
    delivery.apply_app()
    delivery.wait_for_app()
    return commit


def test_the_app_deploys_one_run_without_waiting_for_it(delivery: Delivery, first_commit: str) -> None:
    """The App is reconciled long before the run completes."""
    (run,) = delivery.runs()
    assert run["metadata"]["name"] == f"{NAME}-pipeline-ver-1"
    assert phase(run) in ("Pending", "Running")
    assert delivery.get("cronworkflow", f"{NAME}-monitor")["spec"]["schedules"] == ["0 3 * * *"]


def test_pods_can_only_write_to_tmp_and_the_checkout(delivery: Delivery, first_commit: str) -> None:
    pod = delivery.wait_for_pod(f"{NAME}-pipeline-ver-1", "deploy-training-code")
    script = "id -u; touch /tmp/x /source/x && echo written"
    output = delivery.kubectl("exec", pod, "--container=main", "--", "sh", "-c", script)
    assert output.split() == ["10001", "written"]
    for path in ("/x", "/usr/x", "/opt/environment/x", "/bindings/trainer/x"):
        with pytest.raises(CommandFailed, match=r"Read-only file system|Permission denied"):
            delivery.kubectl("exec", pod, "--container=main", "--", "touch", path)


def test_the_apis_pod_waits_for_its_keys_and_names_them(delivery: Delivery, first_commit: str) -> None:
    missing = f'secret "{NAME}-api-keys" not found'
    selector = "--field-selector=reason=FailedMount"
    events = delivery.cluster.wait_for(
        "the event", lambda: missing in (text := delivery.kubectl("get", "events", selector)) and text, 60
    )
    assert f"pod/{NAME}-api-" in events
    delivery.create_key()


def test_the_api_is_not_ready_without_a_model(delivery: Delivery, first_commit: str) -> None:
    def started_container() -> Object | None:
        pods = delivery.get("pod", selector=f"app.kubernetes.io/name={NAME}-api")["items"]
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
        return next((status for status in statuses if status.get("started")), None)

    container = delivery.cluster.wait_for("the API's process", started_container, 120)
    assert not container["ready"]
    assert delivery.get("deployment", f"{NAME}-api")["status"].get("readyReplicas", 0) == 0


def test_neither_a_changed_readme_nor_a_sync_starts_a_run(delivery: Delivery, first_commit: str) -> None:
    with (delivery.folder / "README.md").open("a", encoding="utf-8") as file:
        file.write("\nOne more line.\n")
    delivery.push("README")
    assert_no_new_run(delivery, 1, syncs=5)


def test_all_steps_succeed_in_order(delivery: Delivery, first_commit: str) -> None:
    run = delivery.wait_for_run(1)
    assert_succeeded(run)
    assert "staging is now version 1" in delivery.log(run, "deploy-inference-db")
    assert "Succeeded" in delivery.log(run, "finish-run")
    assert_no_password(delivery, run)


def test_lineage_is_the_same_everywhere(delivery: Delivery, first_commit: str) -> None:
    (run,) = delivery.runs()
    outputs = run["status"]["outputs"]["parameters"]
    (commit,) = [output["value"] for output in outputs if output["name"] == "sha"]
    # The run read the head once; the branch may have advanced since.
    assert commit in (first_commit, delivery.repository.head())
    parent, children = delivery.mlflow_runs(run)
    assert parent["info"]["status"] == "FINISHED"
    assert {tags(child)["git_commit"] for child in [parent, *children]} == {commit}
    by_step = {tags(child)["step"]: child for child in children}
    assert sorted(by_step) == sorted(step.replace("-", "_") for step in CHAIN[1:])
    liquibase_tags = {tags(by_step[step])["liquibase_tag"] for step in ("deploy_training_db", "deploy_inference_db")}
    assert liquibase_tags == {commit}
    for role in ("training-deployer", "inference-deployer"):
        with delivery.project.database(role) as database:
            newest_tag = "SELECT tag FROM {schema}.databasechangelog ORDER BY orderexecuted DESC LIMIT 1"
            assert database.value(newest_tag) == commit
    version = delivery.served_version()
    assert (version["version"], version["git_commit"]) == (1, commit)
    assert {version["data_hash"]} == {tags(by_step[step])["data_hash"] for step in ("train_model", "promote_model")}
    assert version["mlflow_run"] == parent["info"]["run_id"]
    training, epochs = delivery.newest_training()
    assert (training["git_commit"], training["status"], len(epochs)) == (commit, "finished", 10)


def test_the_app_is_reachable_through_its_services(delivery: Delivery, first_commit: str) -> None:
    for process in ("api", "ui"):
        delivery.cluster.wait_for_condition("deployment", f"{NAME}-{process}", "condition=Available", NAMESPACE, 120)
    assert delivery.request("api", "/readyz")[0] == 200
    status, answer = delivery.request("api", "/predictions", gray_png())
    assert (status, answer["version"], answer["model"]) == (200, 1, "image_classifier")
    assert delivery.request("ui", "/_stcore/health") == (200, "ok")


def test_only_named_clients_reach_the_app(
    delivery: Delivery, first_commit: str, namespace: str, debian_pods: str
) -> None:
    """Pods of the project's namespace do; those of another, whose namespace the values do not name, are refused."""
    for process in ("api", "ui"):
        address = delivery.get("service", f"{NAME}-{process}")["spec"]["clusterIP"]
        clients = [(NAMESPACE, f"friend-of-{process}"), (namespace, f"stranger-to-{process}")]
        inside, outside = (answer_of(delivery.cluster, *client, debian_pods, address) for client in clients)
        assert inside.startswith("HTTP/1.1 ")
        assert "refused" in outside


# Further commits


def test_a_run_survives_crashes_of_its_databases(delivery: Delivery) -> None:
    """The training database restarts during a step; the inference database is down during an attempt of a step."""
    delivery.edit("MLproject", "epochs: {type: int, default: 10}", "epochs: {type: int, default: 15}")
    commit = delivery.push("More epochs")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-2"
    delivery.wait_for_pod(name, "train-model")
    with delivery.crashed("training"):
        pass
    with delivery.crashed("inference"):

        def failed_attempt() -> Object | None:
            nodes = attempts(delivery.get("workflow", name), "deploy-inference-db")
            return next((node for node in nodes if node["phase"] == "Failed"), None)

        attempt = delivery.cluster.wait_for("a failed attempt of deploy-inference-db", failed_attempt, 240)
        assert attempt["outputs"]["exitCode"] == "75"
    run = delivery.wait_for_run(2)
    assert_succeeded(run)
    training, epochs = delivery.newest_training()
    assert (training["git_commit"], len(epochs)) == (commit, 15)
    _, children = delivery.mlflow_runs(run)
    (train_run,) = [child for child in children if tags(child)["step"] == "train_model"]
    assert {param["key"]: param["value"] for param in train_run["data"]["params"]}["epochs"] == "15"
    assert delivery.served_version()["version"] == 2
    assert_no_new_run(delivery, 2)


def test_a_label_on_a_run_starts_no_run(delivery: Delivery) -> None:
    delivery.kubectl("label", "workflow", f"{NAME}-pipeline-ver-2", "someone=else")
    assert_no_new_run(delivery, 2)


def test_a_changed_model_needs_no_new_image(delivery: Delivery) -> None:
    """The same commit switches to Secrets with user name and password only, the other variant that can run here."""
    before = delivery.served_version()
    delivery.edit("model.py", "max(64, 8 * classes)", "max(96, 8 * classes)")
    delivery.edit("MLproject", "default: 0.0005", "default: 0.002")
    for role in manifests.ROLES:
        data = delivery.get("secret", f"{NAME}-{role}")["data"]
        keys = {key: data[key] for key in ("username", "password")}
        patch = json.dumps([{"op": "replace", "path": "/data", "value": keys}])
        delivery.kubectl("patch", "secret", f"{NAME}-{role}", "--type=json", f"--patch={patch}")
    databases = {
        "training": delivery.database_values("trainer"),
        "inference": delivery.database_values("inference-app"),
    }
    delivery.choose_values({"credentials": "kubernetes-secret", "training": {"databases": databases}})
    commit = delivery.push("Another layer, other Secrets")
    delivery.sync()
    run = delivery.wait_for_run(3)
    assert_succeeded(run)
    after = delivery.served_version()
    assert (after["version"], after["git_commit"]) == (3, commit)
    assert after["bytes"] > before["bytes"]
    delivery.cluster.wait_for_condition("deployment", f"{NAME}-api", "condition=Available", NAMESPACE, 120)
    status, answer = delivery.request("api", "/predictions", gray_png())
    assert (status, answer["version"]) == (200, 3)
    assert_no_password(delivery, run)


def test_a_stopped_run_stays_stopped(delivery: Delivery) -> None:
    seed = "seed: {type: int, default: 1}\n      patience"
    delivery.edit("MLproject", seed, seed.replace("default: 1", "default: 7"))
    delivery.push("Another seed")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-4"
    delivery.wait_for_pod(name, "deploy-training-code")
    delivery.kubectl("patch", "workflow", name, "--type=merge", '--patch={"spec": {"shutdown": "Stop"}}')
    run = delivery.wait_for_run(4)
    assert phase(run) == "Failed"
    assert_no_new_run(delivery, 4, syncs=2)


def test_a_killed_training_resumes_with_the_same_result(delivery: Delivery) -> None:
    """A repeated training whose pod is killed has the same metrics in each epoch."""
    _, expected_epochs = delivery.newest_training()
    assert len(expected_epochs) == 15
    delivery.edit("MLproject", "seed: {type: int, default: 7}", "seed: {type: int, default: 1}")
    delivery.edit("MLproject", "run: {type: int, default: 1}", "run: {type: int, default: 2}")
    delivery.push("Once more")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-5"
    pod = delivery.wait_for_pod(name, "train-model")
    killed_uid = delivery.get("pod", pod)["metadata"]["uid"]
    count = "SELECT count(*) FROM {schema}.training_epoch WHERE run_hash = {run}"
    wait_until(lambda: delivery.project.training_runs(count, 2)[0][0] >= 2, 60, "two epochs")
    delivery.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    run = delivery.wait_for_run(5)
    assert_succeeded(run)
    # Argo may give the pod of the next attempt the same name.
    assert killed_uid not in [entry["metadata"]["uid"] for entry in delivery.get("pod")["items"]]
    assert "resuming after epoch" in delivery.log(run, "train-model")
    training, epochs = delivery.newest_training()
    assert json.loads(training["parameters"])["run"] == 2
    assert epochs == expected_epochs


def test_a_failed_run_releases_its_lock_and_keeps_the_model(delivery: Delivery) -> None:
    """An invalid learning rate fails the run without a second attempt; the exit handler releases the lock."""
    before = delivery.served_version()
    delivery.edit("MLproject", "float, default: 0.002}", "float, default: -1.0}")
    delivery.push("A mistake")
    delivery.sync()
    name = f"{NAME}-pipeline-ver-6"
    delivery.wait_for_pod(name, "deploy-training-code")
    with delivery.project.database("inference-deployer") as database:
        lock_holder = f"pod#{pipeline_run(delivery.get('workflow', name))} (10.244.0.9)"
        database.query("UPDATE {schema}.databasechangeloglock SET locked = true, lockedby = %s", (lock_holder,))
        run = delivery.wait_for_run(6)
        assert phase(run) == "Failed"
        assert dict(steps(run))["train-model"] == "Failed"
        (attempt,) = attempts(run, "train-model")
        assert attempt["outputs"]["exitCode"] == "1"
        assert "learning_rate is -1.0; allowed is any number above 0" in delivery.log(run, "train-model")
        assert database.query("SELECT locked, lockedby FROM {schema}.databasechangeloglock") == [(False, None)]
    assert delivery.served_version() == before
    parent, _ = delivery.mlflow_runs(run)
    assert parent["info"]["status"] == "FAILED"


def test_two_runs_execute_one_after_the_other(delivery: Delivery) -> None:
    """The second run waits for the first, and both succeed after the failed one."""
    delivery.edit("MLproject", "float, default: -1.0}", "float, default: 0.002}")
    delivery.edit("MLproject", "epochs: {type: int, default: 15}", "epochs: {type: int, default: 1}")
    delivery.push("A valid learning rate")
    delivery.sync()
    delivery.edit("MLproject", "epochs: {type: int, default: 1}", "epochs: {type: int, default: 2}")
    delivery.push("One more epoch")
    delivery.sync()
    first_name, second_name = (f"{NAME}-pipeline-ver-{number}" for number in (7, 8))
    delivery.wait_for_pod(first_name, "deploy-training-code")
    assert not delivery.get("pod", selector=f"workflows.argoproj.io/workflow={second_name}")["items"]
    second = delivery.wait_for_run(8)
    first = delivery.get("workflow", first_name)
    assert (phase(first), phase(second)) == ("Succeeded", "Succeeded")
    end_times = [node["finishedAt"] for node in attempts(first, "promote-model")]
    assert max(end_times) <= attempts(second, "fetch-git-revision")[0]["startedAt"]
    # A model of two epochs is too bad to be promoted, which is not a failure.
    assert dict(steps(second))["deploy-inference-db"] == "Skipped"
    assert delivery.served_version()["version"] == 4


# Monitoring and rollback


def test_monitoring_starts_a_run_for_a_wrong_model(delivery: Delivery) -> None:
    """Labels contradict the predictions; the entry point of the CronWorkflow then submits a run."""
    for _ in range(6):
        status, answer = delivery.request("api", "/predictions", gray_png())
        assert status == 200
        wrong_label = next(label for label in answer["probabilities"] if label != answer["label"])
        with delivery.project.database("inference-app") as database:
            database.query("SELECT {schema}.record_label(%s, %s)", (answer["prediction_id"], wrong_label))
    name = delivery.submit("monitor", "monitor", reason="monitoring")
    run = delivery.cluster.wait_for("the end of monitoring", lambda: delivery.completed(name), 180)
    assert phase(run) == "Succeeded", run["status"].get("message")
    assert "retrain: version" in delivery.log(run, "monitor-model")
    assert "6 labels wait for review" in delivery.log(run, "monitor-model")
    assert "0 new or changed labels" in delivery.log(run, "collect-labels")
    workflows = delivery.get("workflow")["items"]
    (retraining,) = [workflow for workflow in workflows if "-retrain-" in workflow["metadata"]["name"]]
    assert retraining["spec"]["workflowTemplateRef"] == {"name": f"{NAME}-pipeline"}
    assert {"name": "reason", "value": "monitoring"} in retraining["spec"]["arguments"]["parameters"]
    delivery.kubectl("delete", "workflow", retraining["metadata"]["name"])


def test_a_manual_rollback_changes_the_served_version(delivery: Delivery) -> None:
    name = delivery.submit("rollback", "one-step", step="rollback", options="--to-version 1")
    run = delivery.cluster.wait_for("the rollback", lambda: delivery.completed(name), 120)
    assert phase(run) == "Succeeded", delivery.log(run, "step")
    assert delivery.served_version()["version"] == 1
    assert delivery.request("api", "/predictions", gray_png())[1]["version"] == 1
    assert delivery.project.servers.tracking.alias("image_classifier", "staging") == "1"


# Permissions


def test_accounts_may_only_do_what_they_need(delivery: Delivery) -> None:
    """The tests above show that the accounts may do what they need."""
    pod = delivery.get("pod", selector=f"app.kubernetes.io/name={NAME}-api")["items"][0]["metadata"]["name"]
    attempted = 0
    for account in ("deployer", "pipeline", "monitor", "app"):
        user = f"--as=system:serviceaccount:{NAMESPACE}:{NAME}-{account}"
        commands = [[word.replace("POD", pod) for word in command] for command in FORBIDDEN]
        if account != "deployer":
            commands += FORBIDDEN_EXCEPT_FOR_THE_DEPLOYER
        in_namespace = [[*command, f"--namespace={NAMESPACE}"] for command in commands]
        for verb, *words in [*in_namespace, *FORBIDDEN_ELSEWHERE]:
            with pytest.raises(CommandFailed, match="forbidden"):
                delivery.cluster.kubectl(verb, user, *words, stdin=json.dumps(MORE_RIGHTS))
            attempted += 1
    assert attempted == 4 * 19 + 3 * 3


# After all runs


def test_no_password_leaks(delivery: Delivery, command_lines: CommandLines) -> None:
    """Only Secrets contain passwords: no other object, no log of the platform, no MLflow file, no command line."""
    kinds = "app,workflow,workflowtemplate,cronworkflow,configmap,pod,deployment,service,event"
    texts = [delivery.kubectl("get", kinds, "--output=yaml").encode()]
    logs = [path for path in LOGS.rglob("*") if path.is_file()]
    mlflow_files = [path for path in (delivery.project.servers.state / "mlflow").rglob("*") if path.is_file()]
    assert logs
    assert mlflow_files
    texts += [path.read_bytes() for path in [*logs, *mlflow_files]]
    passwords = [*delivery.project.servers.passwords(), delivery.key]
    assert len(passwords) == 5
    for password in passwords:
        assert not any(password.encode() in text for text in texts)
        assert not [line for line in command_lines.seen if password.encode() in line]


def test_deleting_the_app_keeps_the_databases(delivery: Delivery) -> None:
    before = delivery.served_version()
    delivery.kubectl("delete", "app", NAME, "--timeout=120s")
    for kind in ("workflow", "workflowtemplate", "cronworkflow", "deployment", "service"):
        names = [item["metadata"]["name"] for item in delivery.get(kind)["items"]]
        assert not [name for name in names if "-rollback-" not in name and "-monitor-" not in name], kind
    assert delivery.served_version() == before
    assert delivery.newest_training()[1]
