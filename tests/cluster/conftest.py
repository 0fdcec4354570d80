"""The cluster that the tests of this folder share. They need root on Linux: `make test-cluster`."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.project import Project
from end_to_end.servers import CommandLines, Servers

from . import debian, debian_image, leftovers, lifecycle
from .delivery import APP_IMAGE, NAME, NAMESPACE, PIPELINE_IMAGE, Delivery
from .kubernetes import Cluster

HERE = Path(__file__).resolve().parent
# KEEP_CLUSTER=1 keeps the cluster for the next run.
KEEP = "KEEP_CLUSTER"
ANSWERS = {"appPlatform": "kubernetes", "trainingDatabase": "postgresql", "projectName": NAME}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here, and skip them where no cluster can run."""
    reason = debian.obstacle()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The running cluster. It is always stopped, and must leave nothing behind."""
    if os.environ.get(KEEP):
        yield Cluster() if lifecycle.is_running() else lifecycle.up()
        return
    debian.install()
    before = leftovers.snapshot()
    running_cluster = lifecycle.up()
    try:
        yield running_cluster
    finally:
        lifecycle.down()
    changes = leftovers.difference(before, leftovers.snapshot())
    assert not changes, f"the cluster has left {changes}"


@pytest.fixture(scope="session")
def debian_pods(cluster: Cluster) -> str:
    """The name of an image with Debian's base system, loaded into the node."""
    cluster.load_image(debian_image.archive())
    return debian_image.NAME


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test, named after the test and deleted at its end."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    yield cluster.create_namespace(name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder for the servers of a module; unlike pytest's own (0700), their user can enter it."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def command_lines() -> Iterator[CommandLines]:
    """All command lines on this machine, including those in pods."""
    with CommandLines() as watcher:
        yield watcher


@pytest.fixture(scope="module")
def project(work: Path, command_lines: CommandLines) -> Iterator[Project]:
    """A project and its running servers, which are outside the cluster."""
    generated = Project.generate(work, Servers(work / "state"), own=True, **ANSWERS)
    try:
        generated.local("start")
        generated.servers.mlflow = generated.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
        yield generated
    finally:
        generated.local("stop")


@pytest.fixture(scope="module")
def delivery(cluster: Cluster, project: Project, work: Path) -> Delivery:
    """The project after the user's preparations: images, values, Secrets, repository. Nothing is deployed yet."""
    for tag, name in ((PIPELINE_IMAGE, "pipeline"), (APP_IMAGE, "app")):
        dockerfile = project.folder / "deploy" / "images" / f"{name}.Dockerfile"
        cluster.load_image(cluster.build_image(project.folder, dockerfile, tag))
    prepared = Delivery(cluster, project, cluster.repository(NAME))
    cluster.create_namespace(NAMESPACE)
    prepared.create_secrets(work)
    mlflow = cluster.publish(int(project.servers.mlflow.rpartition(":")[2]))
    prepared.choose_values(
        {
            "git": {"url": prepared.repository.url},
            "syncPeriod": "30s",
            "training": {"mlflow": {"url": f"http://{mlflow}"}},
            "pipeline": {"image": PIPELINE_IMAGE, "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
            "app": {"image": APP_IMAGE},
            # This machine, from which the tests send requests.
            "networkPolicies": {"clientNetworks": [f"{cluster.host}/32"]},
        }
    )
    # The first model learns slowly, so that later models are better.
    rate = "learning_rate: {type: float, default: 0.002}"
    prepared.edit("MLproject", rate, rate.replace("0.002", "0.0005"))
    prepared.edit("project.yaml", "minimumLabels: 50", "minimumLabels: 5")
    return prepared
