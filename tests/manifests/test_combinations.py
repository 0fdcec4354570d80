"""deploy/ for every combination of answers, and for a second environment."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from tools import argo
from tools.manifests import PRODUCTION, ROLES, VALUES, accounts_and_app, deployed, objects, of_kind, training_inputs

from .conftest import CREDENTIALS, PLATFORMS, generate

# Each test renders manifests.
pytestmark = pytest.mark.slow
# The answers on which deploy/ depends.
ANSWERS = {
    "credentials": CREDENTIALS,
    "appPlatform": PLATFORMS,
    "includeUi": [True, False],
    "includeMonitoring": [True, False],
    "storeInputs": [True, False],
}


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], Path]]:
    """A project for every combination of these answers; every second one has the longest name."""
    place = tmp_path_factory.mktemp("combinations")
    projects = []
    for number, values in enumerate(itertools.product(*ANSWERS.values())):
        answers = dict(zip(ANSWERS, values, strict=True))
        name = "x" * 40 if number % 2 else "image-classifier"
        projects.append((answers, generate(place / str(number), projectName=name, **answers)))
    return projects


def test_every_combination_renders_and_argo_accepts_it(
    combinations: list[tuple[dict[str, Any], Path]], tmp_path: Path
) -> None:
    """This takes half a minute: it renders about a hundred times, because any answer may break the others."""
    assert len(combinations) == 48
    for (answers, folder), values in itertools.product(combinations, ([VALUES], [VALUES, PRODUCTION])):
        text = deployed(folder, values)
        file = tmp_path / "deployed.yaml"
        file.write_text(text, encoding="utf-8")
        assert argo.validate([file]) == [], answers
        check_kinds(answers, values, text)
        check_names_and_labels(text)
        assert not re.search(r"password: *[^'\"{\s]", text), "the manifests hold a password"


def check_kinds(answers: dict[str, Any], values: list[str], text: str) -> None:
    """Check that the manifests hold the kinds of the answers and no others."""
    kinds = [manifest["kind"] for manifest in objects(text)]
    processes = 1 + answers["includeUi"]
    on_tap = answers["appPlatform"] == "tap"
    expected = {
        "WorkflowTemplate": 1,
        "Workflow": 1,
        "CronWorkflow": int(answers["includeMonitoring"]),
        "Config": 1 + (answers["credentials"] == "external-secrets"),
        "ExternalSecret": (len(ROLES) + 1) * (answers["credentials"] == "external-secrets"),
        "ConfigMap": len(ROLES) * (answers["credentials"] == "kubernetes-secret"),
        "Workload": processes * on_tap,
        "ResourceClaim": (1 + (answers["credentials"] != "kubernetes-secret")) * on_tap,
        "NetworkPolicy": 2 - on_tap,
        "Deployment": processes * (not on_tap),
        "Service": processes * (not on_tap),
        "Ingress": processes * (not on_tap and PRODUCTION in values),
    }
    assert {kind: kinds.count(kind) for kind in {*kinds, *expected}} == expected, answers


def check_names_and_labels(text: str) -> None:
    """Check that one label selects the project's objects, and that no name exceeds the limit of Kubernetes."""
    for manifest in objects(text):
        if manifest["kind"] == "Config":
            continue
        metadata = manifest["metadata"]
        assert len(metadata["name"]) <= {"CronWorkflow": 52, "Workflow": 57}.get(manifest["kind"], 63)
        assert metadata["namespace"] in ("ml", "ml-production")
        labels = metadata["labels"]
        assert all(len(value) <= 63 for value in labels.values())
        assert labels["app.kubernetes.io/part-of"] in ("image-classifier", "x" * 40)


def test_production_has_its_own_namespace_stage_and_hosts(project: Path) -> None:
    staging, production = deployed(project), deployed(project, [VALUES, PRODUCTION])
    (app,) = of_kind(accounts_and_app(project, [VALUES, PRODUCTION]), "App")
    assert app["metadata"]["namespace"] == "ml-production"
    assert app["spec"]["template"][0]["ytt"]["valuesFrom"] == [{"path": VALUES}, {"path": PRODUCTION}]
    stages = {
        variable["value"]
        for manifest in of_kind(production, "Deployment")
        for variable in manifest["spec"]["template"]["spec"]["containers"][0]["env"]
        if variable["name"] == "MODEL_STAGE"
    }
    assert stages == {"production"}
    assert {manifest["spec"]["replicas"] for manifest in of_kind(production, "Deployment")} == {2}
    assert [manifest["spec"]["rules"][0]["host"] for manifest in of_kind(production, "Ingress")] == [
        "image-classifier.production.example.com",
        "ui-image-classifier.production.example.com",
    ]
    assert not of_kind(staging, "Ingress")
    assert training_inputs(staging) != training_inputs(production)
