"""The cluster that the tests of this folder share; they run as root on Linux, and on their own: `make test-cluster`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import debian, debian_image, leftovers, lifecycle
from .kubernetes import Cluster

HERE = Path(__file__).resolve().parent
# A person who tries things out keeps the cluster from one run to the next: KEEP_CLUSTER=1.
KEEP = "KEEP_CLUSTER"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here, and let none begin where no cluster can run."""
    reason = debian.unfit()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The running cluster; it is ended in any case, and then nothing of it may be left."""
    if os.environ.get(KEEP):
        yield Cluster() if lifecycle.is_running() else lifecycle.up()
        return
    debian.install()
    before = leftovers.snapshot()
    running = lifecycle.up()
    try:
        yield running
    finally:
        lifecycle.down()
    left = leftovers.difference(before, leftovers.snapshot())
    assert not left, f"the cluster has left {left}"


@pytest.fixture(scope="session")
def debian_pods(cluster: Cluster) -> str:
    """The name of an image with Debian's base system, brought into the node."""
    cluster.load_image(debian_image.archive())
    return debian_image.NAME


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, named after it and removed after it."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    yield cluster.create_namespace(name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
