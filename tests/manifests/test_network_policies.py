"""The clients that the NetworkPolicies let reach each pod; tests/cluster shows that a cluster enforces them."""

from pathlib import Path
from typing import Any

import pytest
from tools.manifests import CHOSEN, PRODUCTION, VALUES, Manifest, accounts_and_app, deployed, merged, of_kind

from .conftest import generate
from .lookups import rules, value, workflow_template
from .network_policies import Peer, reaches

# Each test renders manifests.
pytestmark = pytest.mark.slow
PGADMIN = "deploy/config/schema_pgadmin.yaml"
NEIGHBOUR = Peer("ml")
STRANGER = Peer("elsewhere")
CONTROLLER = Peer("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"})
BALANCER = Peer(address="192.0.2.7")


def pods(text: str) -> dict[str, Peer]:
    """Return each kind of pod with the labels that it gets."""
    deployments = [manifest["spec"]["template"]["metadata"]["labels"] for manifest in of_kind(text, "Deployment")]
    labels = [*deployments, workflow_template(text)["spec"]["podMetadata"]["labels"]]
    namespace = workflow_template(text)["metadata"]["namespace"]
    return {entry["app.kubernetes.io/component"]: Peer(namespace, entry) for entry in labels}


def policies(text: str) -> list[Manifest]:
    """Return all NetworkPolicies."""
    return of_kind(text, "NetworkPolicy")


def reached(text: str, client: Peer) -> set[str]:
    """Return the kinds of pods that a client reaches."""
    return {name for name, pod in pods(text).items() if reaches(policies(text), client, pod)}


@pytest.fixture(name="with_pgadmin", scope="module")
def _with_pgadmin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on plain Kubernetes with every part that has pods."""
    folder = generate(tmp_path_factory.mktemp("policies") / "p", appPlatform="kubernetes", includePgadmin=True)
    file = folder / PGADMIN
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('image: ""', "image: registry.example.com/ml/pgadmin:1", 1), encoding="utf-8")
    return folder


def test_only_the_namespace_reaches_the_app_without_an_ingress(with_pgadmin: Path) -> None:
    text = deployed(with_pgadmin)
    assert set(pods(text)) == {"api", "ui", "pgadmin", "pipeline"}
    assert reached(text, NEIGHBOUR) == {"api", "ui"}
    for client in (STRANGER, CONTROLLER, BALANCER):
        assert reached(text, client) == set()
    assert not reaches(policies(text), NEIGHBOUR, pods(text)["api"], "metrics")


@pytest.mark.parametrize(
    ("chosen", "clients"),
    [
        ({"clientNamespaces": ["ingress-nginx"]}, [CONTROLLER]),
        ({"clientNetworks": ["192.0.2.0/24"]}, [BALANCER]),
        ({"clientNamespaces": ["ingress-nginx"], "clientNetworks": ["192.0.2.0/24"]}, [CONTROLLER, BALANCER]),
    ],
)
def test_named_clients_reach_the_app_alone(with_pgadmin: Path, chosen: dict[str, Any], clients: list[Peer]) -> None:
    """With and without an Ingress."""
    for files in ([VALUES], [VALUES, PRODUCTION]):
        text = deployed(with_pgadmin, files, merged(CHOSEN, {"networkPolicies": chosen}))
        for client in (STRANGER, CONTROLLER, BALANCER):
            assert reached(text, client) == ({"api", "ui"} if client in clients else set())


def test_an_ingress_without_named_clients_opens_only_the_app(with_pgadmin: Path) -> None:
    text = deployed(with_pgadmin, [VALUES, PRODUCTION])
    for client in (STRANGER, CONTROLLER, BALANCER):
        assert reached(text, client) == {"api", "ui"}


def test_on_tap_the_policies_select_only_the_pipeline(tmp_path: Path) -> None:
    """The platform's router and autoscaler reach its Workloads, whose pods have the labels of the Workload."""
    text = deployed(generate(tmp_path / "p", appPlatform="tap"))
    (policy,) = policies(text)
    assert reached(text, NEIGHBOUR) == set()
    for workload in of_kind(text, "Workload"):
        assert reaches([policy], STRANGER, Peer("ml", workload["metadata"]["labels"]))


def test_policies_can_be_switched_off(project: Path) -> None:
    more = merged(CHOSEN, value("networkPolicies.enabled", False))
    assert policies(deployed(project, more=more)) == []
    assert "networkpolicies" not in {
        resource for _, resource, _ in rules(accounts_and_app(project, more=more), "deployer")
    }


def test_egress_stays_open(project: Path) -> None:
    """Databases, MLflow, the repository and the issuer of tokens may lie anywhere."""
    assert {tuple(policy["spec"]["policyTypes"]) for policy in policies(deployed(project))} == {("Ingress",)}
