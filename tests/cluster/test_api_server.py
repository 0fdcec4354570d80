"""The API server checks the fields of every kind that a generated project may use."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from tools import doors, manifests

from .errors import Refused
from .kubernetes import Cluster

UNKNOWN_FIELDS = {
    "Workflow": ("argoproj.io/v1alpha1", "{entypoint: all}", "spec.entypoint"),
    "WorkflowEventBinding": ("argoproj.io/v1alpha1", "{event: {selector: x}, sumbit: {}}", "spec.sumbit"),
    "App": ("kappctrl.k14s.io/v1alpha1", "{fetch: [{git: {url: x, branch: main}}]}", "spec.fetch[0].git.branch"),
    "ExternalSecret": ("external-secrets.io/v1", "{refreshIntervall: 1h}", "spec.refreshIntervall"),
    "Workload": ("carto.run/v1alpha1", "{sauce: {}}", "spec.sauce"),
    "ServiceBinding": (
        "servicebinding.io/v1beta1",
        "{service: {apiVersion: v1, kind: Secret, name: a}, workload: {apiVersion: v1, kind: Pod, nome: a}}",
        "spec.workload.nome",
    ),
    "Deployment": ("apps/v1", "{replica: 1}", "spec.replica"),
}
# Kinds without a definition here: kapp reads Config itself, ResourceClaim is part of Tanzu Application Platform.
UNDEFINED_KINDS = ("Config", "ResourceClaim")


@pytest.mark.parametrize("kind", UNKNOWN_FIELDS)
def test_unknown_fields_are_rejected(cluster: Cluster, kind: str) -> None:
    """The message names the unknown field."""
    version, spec, field = UNKNOWN_FIELDS[kind]
    manifest = f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: wrong}}, spec: {spec}}}"
    with pytest.raises(Refused, match=re.escape(f'unknown field "{field}"')):
        cluster.dry_run_strict(manifest)


def test_every_manifest_is_accepted(cluster: Cluster, tmp_path: Path) -> None:
    """The definition of each kind comes from its own project, so no unknown field passes."""
    kinds = set()
    values = manifests.merged(manifests.CHOSEN, {"app": {"ingress": {"enabled": True}}})
    for platform in ("tap", "kubernetes"):
        for credentials in ("service-binding", "external-secrets", "kubernetes-secret"):
            answers = {"appPlatform": platform, "credentials": credentials, "namespace": "default"}
            folder = doors.accelerator(ROOT, answers, tmp_path / platform / credentials).folder
            assert folder is not None
            renderers = (manifests.accounts_and_app, manifests.deployed, manifests.on_event)
            rendered = "\n---\n".join(render(folder, more=values) for render in renderers)
            checked = [item for item in manifests.objects(rendered) if item["kind"] not in UNDEFINED_KINDS]
            cluster.dry_run_strict(yaml.safe_dump_all(checked))
            kinds |= {item["kind"] for item in checked}
    assert kinds == {
        *("ServiceAccount", "Role", "RoleBinding", "App", "ConfigMap"),
        *("WorkflowTemplate", "Workflow", "CronWorkflow", "WorkflowEventBinding", "ExternalSecret"),
        *("Workload", "Deployment", "Service", "Ingress", "NetworkPolicy"),
    }
