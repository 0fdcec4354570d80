"""docs/how-to/mlflow.md on a real cluster: its commands in order, then a step that uses the tracking server."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from end_to_end.object_store import BUCKET, ObjectStore
from end_to_end.project import Project
from end_to_end.servers import CommandLines, Servers
from end_to_end.test_mlflow_backend import Backed
from tools import ytt
from tools.manifests import merged

from .kubernetes import Cluster
from .parts import parts
from .pods import answer_of

IMAGE = "localhost/mlflow:1"
NAMESPACE = "tracking"
USER = {"username": "ml-pipeline", "password": "of-the-pipeline-1"}
SECRETS = {
    "database": {"username": "team", "password": "the database's"},
    "login": {"username": "the-admin", "password": "the-first-password"},
    "user": USER,
}


@pytest.fixture(scope="module")
def backed(work: Path, command_lines: CommandLines) -> Iterator[Backed]:
    """The stores, which are outside the cluster: MinIO, and a database with its owner."""
    store = ObjectStore(work / "minio")
    project = Project.generate(work, Servers(work / "state"), own=True)
    stores = Backed(project, store)
    try:
        store.start()
        project.local("start", **store.variables)
        with stores.tracking("deployer") as cursor:
            cursor.execute("CREATE ROLE team LOGIN PASSWORD 'the database''s'")
            cursor.execute("CREATE DATABASE team OWNER team")
        yield stores
    finally:
        project.local("stop")
        store.stop()


def blocks(project: Project) -> list[str]:
    """Return the shell blocks in the Kubernetes part of the page."""
    text = (project.folder / "docs" / "how-to" / "mlflow.md").read_text(encoding="utf-8")
    page = text.partition("## On Kubernetes")[2]
    return [re.sub(r"(?m)^    ", "", block) for block in re.findall(r"(?ms)^ *```bash\n(.*?)^ *```", page)]


class Shell:
    """Runs the page's blocks in the project's folder."""

    def __init__(self, cluster: Cluster, project: Project) -> None:
        self.folder = project.folder
        programs = [str(ytt.folder()), str(parts().kubernetes)]
        self.environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        self.environment["PATH"] = os.pathsep.join([*programs, os.environ["PATH"]])

    def run(self, text: str) -> str:
        """Run a block with the placeholders replaced, and return its output."""
        text = text.replace("NAMESPACE", NAMESPACE).replace("NAME-", "image-classifier-")
        result = subprocess.run(
            ["bash", "-euc", text], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=400, check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr


def write_secrets(folder: Path, store: ObjectStore) -> None:
    """Write the files that the page requires."""
    artifacts = {"access-key-id": store.key, "secret-access-key": store.secret}
    for name, keys in {**SECRETS, "artifacts": artifacts}.items():
        (folder / name).mkdir(parents=True)
        for key, value in keys.items():
            (folder / name / key).write_text(value, encoding="utf-8")
    login = SECRETS["login"]
    (folder / "admin.netrc").write_text(f"machine localhost login {login['username']} password {login['password']}\n")
    (folder / "user.json").write_text(json.dumps(USER))


def choose_values(project: Project, cluster: Cluster, backed: Backed) -> None:
    """Set the values that are null in deploy/mlflow/values.yaml."""
    file = project.folder / "deploy" / "mlflow" / "values.yaml"
    host, _, port = cluster.publish(backed.port("tracking")).partition(":")
    authority = (backed.state / "authority" / "ca.crt").read_text(encoding="ascii")
    # The certificate is for localhost, but pods use another address.
    database = {"host": host, "port": int(port), "name": "team", "sslmode": "verify-ca", "caCertificate": authority}
    endpoint = f"http://{cluster.publish(backed.store.port)}"
    chosen = {
        "namespace": NAMESPACE,
        "image": IMAGE,
        "workers": 1,
        "database": database,
        "artifacts": {"destination": f"s3://{BUCKET}/of/a-team", "endpoint": endpoint},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
    }
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(merged(values, chosen)), encoding="utf-8")


def test_the_commands_of_the_page_work(cluster: Cluster, backed: Backed, command_lines: CommandLines) -> None:
    """From the image to a step that logs in; the API server accepts every field, and no secret leaks."""
    project, shell = backed.project, Shell(cluster, backed.project)
    build, check, secrets, apply, user, steps = blocks(project)
    assert "docker build --file deploy/images/mlflow.Dockerfile" in build
    cluster.load_image(cluster.build_image(project.folder, project.folder / "deploy/images/mlflow.Dockerfile", IMAGE))
    write_secrets(project.folder / "secrets", backed.store)
    choose_values(project, cluster, backed)
    assert shell.run(check) == ""
    shell.run(secrets)
    cluster.dry_run_strict(shell.run(check.replace("> /dev/null", "")))
    try:
        shell.run(apply)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{cluster.kubectl('-n', NAMESPACE, 'describe', 'pods')}") from error
    shell.run(user)
    shell.run(steps)
    with forwarded(cluster) as address:
        login = {"MLFLOW_TRACKING_USERNAME": USER["username"], "MLFLOW_TRACKING_PASSWORD": USER["password"]}
        project.pipeline("deploy_training_code", MLFLOW_TRACKING_URI=address, **login)
    objects = backed.store.objects(backed.environment)
    assert [key for key in objects if key.startswith("of/a-team/") and key.endswith("architecture.json")]
    log = cluster.logs("app.kubernetes.io/name=mlflow", NAMESPACE)
    for secret in [backed.store.secret, *(keys["password"] for keys in SECRETS.values())]:
        assert secret not in log
        assert not [line for line in command_lines.seen if secret.encode() in line]


def test_only_named_namespaces_reach_the_server(
    cluster: Cluster, backed: Backed, namespace: str, debian_pods: str
) -> None:
    """The server of the test before: pods of its own namespace reach it, those of another are refused."""
    address = cluster.get("service", "mlflow", NAMESPACE)["spec"]["clusterIP"]
    assert answer_of(cluster, NAMESPACE, "friend", debian_pods, address).startswith("HTTP/1.1 ")
    assert "refused" in answer_of(cluster, namespace, "stranger", debian_pods, address)


@contextlib.contextmanager
def forwarded(cluster: Cluster) -> Iterator[str]:
    """Forward a local port to the server; yield its address."""
    command = [parts().kubernetes / "kubectl", f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}"]
    process = subprocess.Popen([*command, "port-forward", "service/mlflow", ":80"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        yield f"http://localhost:{match[1]}"
    finally:
        process.terminate()
        process.wait(30)


def test_the_message_for_a_wrong_password_is_one_sentence(cluster: Cluster, backed: Backed) -> None:
    """The message is in the log that the page names."""
    shell = Shell(cluster, backed.project)
    wrong = backed.project.folder / "wrong"
    wrong.mkdir()
    (wrong / "username").write_text("team")
    (wrong / "password").write_text("another")
    replace = "kubectl -n tracking create secret generic mlflow-database --from-file=wrong --dry-run=client -o yaml"
    shell.run(f"{replace} | kubectl replace -f -")
    shell.run("kubectl -n tracking rollout restart deployment mlflow")

    def log() -> str:
        with contextlib.suppress(AssertionError):
            return shell.run("kubectl -n tracking logs deployment/mlflow -c check-stores")
        return ""

    sentence = 'refuses: password authentication failed for user "team"'
    assert cluster.wait_for("the first container's sentence", lambda: sentence in log() and log(), 120)
    assert len(log().strip().splitlines()) == 1
