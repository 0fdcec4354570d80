"""docs/mlflow.md on a real cluster: its commands in its order, and a step that works with what they have made."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from end_to_end.conftest import work  # noqa: F401
from end_to_end.object_store import BUCKET, ObjectStore
from end_to_end.project import Project
from end_to_end.servers import CommandLines, Servers
from end_to_end.test_mlflow_backend import Backed
from tools import ytt
from tools.manifests import merged

from .kubernetes import Cluster
from .parts import parts

IMAGE = "localhost/mlflow:1"
NAMESPACE = "tracking"
USER = {"username": "ml-pipeline", "password": "of-the-pipeline-1"}
SECRETS = {
    "database": {"username": "team", "password": "the database's"},
    "login": {"username": "the-admin", "password": "the-first-password"},
    "user": USER,
}


@pytest.fixture(scope="module")
def command_lines() -> Iterator[CommandLines]:
    """Every command line of this machine, those in pods among them."""
    with CommandLines() as watched:
        yield watched


@pytest.fixture(scope="module")
def backed(work: Path, command_lines: CommandLines) -> Iterator[Backed]:  # noqa: F811
    """The stores, which stay outside the cluster: MinIO, and a database that belongs to its role."""
    store = ObjectStore(work / "minio")
    project = Project.generate(work, Servers(work / "state"), own=True)
    found = Backed(project, store)
    try:
        store.start()
        project.local("start", **store.variables)
        with found.tracking("deployer") as cursor:
            cursor.execute("CREATE ROLE team LOGIN PASSWORD 'the database''s'")
            cursor.execute("CREATE DATABASE team OWNER team")
        yield found
    finally:
        project.local("stop")
        store.stop()


def blocks(project: Project) -> list[str]:
    """The commands that the page gives for Kubernetes, a text each."""
    page = (project.folder / "docs" / "mlflow.md").read_text(encoding="utf-8").partition("## On Kubernetes")[2]
    return [re.sub(r"(?m)^   ", "", text) for text in re.findall(r"(?ms)^ *```bash\n(.*?)^ *```", page)]


class Person:
    """Who follows the page, in the project's folder."""

    def __init__(self, cluster: Cluster, project: Project) -> None:
        self.folder = project.folder
        programs = [str(ytt.folder()), str(parts().kubernetes)]
        self.environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        self.environment["PATH"] = os.pathsep.join([*programs, os.environ["PATH"]])

    def runs(self, text: str) -> str:
        """Run a block as it stands; return what it printed."""
        text = text.replace("NAMESPACE", NAMESPACE).replace("NAME-", "image-classifier-")
        done = subprocess.run(
            ["bash", "-euc", text], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


def write_secrets(folder: Path, store: ObjectStore) -> None:
    """Write the files that the page asks for."""
    artifacts = {"access-key-id": store.key, "secret-access-key": store.secret}
    for name, keys in {**SECRETS, "artifacts": artifacts}.items():
        (folder / name).mkdir(parents=True)
        for key, value in keys.items():
            (folder / name / key).write_text(value, encoding="utf-8")
    login = SECRETS["login"]
    (folder / "admin.netrc").write_text(f"machine localhost login {login['username']} password {login['password']}\n")
    (folder / "user.json").write_text(json.dumps(USER))


def choose_values(project: Project, cluster: Cluster, backed: Backed) -> None:
    """Choose what is null in deploy/mlflow/values.yaml."""
    file = project.folder / "deploy" / "mlflow" / "values.yaml"
    host, _, port = cluster.publish(backed.port("tracking")).partition(":")
    authority = (backed.state / "authority" / "ca.crt").read_text(encoding="ascii")
    # The certificate names localhost, which this machine is not to a pod.
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


def test_the_page_is_followed(cluster: Cluster, backed: Backed, command_lines: CommandLines) -> None:
    """From the image to a step that logs in; the API server knows every field, and no secret is seen."""
    project, person = backed.project, Person(cluster, backed.project)
    build, check, secrets, apply, user, steps = blocks(project)
    assert "docker build --file deploy/images/mlflow.Dockerfile" in build
    cluster.load_image(cluster.build_image(project.folder, project.folder / "deploy/images/mlflow.Dockerfile", IMAGE))
    write_secrets(project.folder / "secrets", backed.store)
    choose_values(project, cluster, backed)
    assert person.runs(check) == ""
    person.runs(secrets)
    cluster.dry_run_strict(person.runs(check.replace("> /dev/null", "")))
    try:
        person.runs(apply)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{cluster.kubectl('-n', NAMESPACE, 'describe', 'pods')}") from error
    person.runs(user)
    person.runs(steps)
    with forwarded(cluster) as address:
        login = {"MLFLOW_TRACKING_USERNAME": USER["username"], "MLFLOW_TRACKING_PASSWORD": USER["password"]}
        project.pipeline("deploy_training_code", MLFLOW_TRACKING_URI=address, **login)
    objects = backed.store.objects(backed.environment)
    assert [key for key in objects if key.startswith("of/a-team/") and key.endswith("architecture.json")]
    log = cluster.logs("app.kubernetes.io/name=mlflow", NAMESPACE)
    for secret in [backed.store.secret, *(keys["password"] for keys in SECRETS.values())]:
        assert secret not in log
        assert not [line for line in command_lines.seen if secret.encode() in line]


@contextlib.contextmanager
def forwarded(cluster: Cluster) -> Iterator[str]:
    """The server's address on this machine."""
    command = [parts().kubernetes / "kubectl", f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}"]
    process = subprocess.Popen([*command, "port-forward", "service/mlflow", ":80"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found
        yield f"http://localhost:{found[1]}"
    finally:
        process.terminate()
        process.wait(30)


def test_a_wrong_password_is_one_sentence(cluster: Cluster, backed: Backed) -> None:
    """In the log that the page names."""
    person = Person(cluster, backed.project)
    wrong = backed.project.folder / "wrong"
    wrong.mkdir()
    (wrong / "username").write_text("team")
    (wrong / "password").write_text("another")
    replace = "kubectl -n tracking create secret generic mlflow-database --from-file=wrong --dry-run=client -o yaml"
    person.runs(f"{replace} | kubectl replace -f -")
    person.runs("kubectl -n tracking rollout restart deployment mlflow")

    def told() -> str:
        with contextlib.suppress(AssertionError):
            return person.runs("kubectl -n tracking logs deployment/mlflow -c check-stores")
        return ""

    sentence = 'refuses: password authentication failed for user "team"'
    assert cluster.wait_for("the first container's sentence", lambda: sentence in told() and told(), 120)
    assert len(told().strip().splitlines()) == 1
