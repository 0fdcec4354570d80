"""No project mentions the orchestrator that it does not use."""

import re
from pathlib import Path

import pytest
from tools.manifests import CHOSEN, accounts_and_app, deployed, merged, objects, of_kind

pytestmark = pytest.mark.slow


def test_argo_leaves_no_trace(project: Path) -> None:
    """The App still deploys the app and its bindings; no account gets rights on Argo's objects."""
    text = accounts_and_app(project)
    assert "argoproj" not in text + deployed(project)
    assert {manifest["metadata"]["name"] for manifest in of_kind(text, "ServiceAccount")} == {
        "image-classifier-deployer", "image-classifier-app",
    }  # fmt: skip
    assert {manifest["kind"] for manifest in objects(deployed(project))} == {"Deployment", "NetworkPolicy", "Service"}
    stores = merged(CHOSEN, {"credentials": "external-secrets"})
    assert {manifest["kind"] for manifest in objects(deployed(project, more=stores))} == {
        "Config", "Deployment", "ExternalSecret", "NetworkPolicy", "Service",
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
