"""The objects that let an event start a run."""

from pathlib import Path

import pytest
from tools import argo
from tools.manifests import deployed, objects, of_kind, on_event

from .lookups import rules

# Each test renders manifests.
pytestmark = pytest.mark.slow


def test_argo_accepts_the_binding_and_its_run(project: Path, tmp_path: Path) -> None:
    """The binding submits a run of the deployed template."""
    file = tmp_path / "event.yaml"
    file.write_text(f"{deployed(project)}\n---\n{on_event(project)}", encoding="utf-8")
    assert argo.validate([file]) == []
    (binding,) = of_kind(on_event(project), "WorkflowEventBinding")
    assert binding["spec"]["submit"]["workflowTemplateRef"]["name"] == "image-classifier-pipeline"


@pytest.mark.parametrize(
    ("text", "broken", "problem"),
    [
        (
            "name: image-classifier-pipeline",
            "name: image-classifier-other",
            'no WorkflowTemplate "image-classifier-other"',
        ),
        ("selector: discriminator", "selector: discriminato", "selector: "),
        ('-retrain"', '-train"', 'the selector does not take an event to "image-classifier-retrain"'),
        ("event: '\"event\"'", "event: payload.why", "parameter reason: payload.why is no text"),
        ("  submit:", "  sumbit:", 'unknown field "spec.sumbit"'),
    ],
)
def test_argo_refuses_a_broken_binding(project: Path, tmp_path: Path, text: str, broken: str, problem: str) -> None:
    binding = on_event(project).partition("\n---\n")[0]
    assert text in binding
    file = tmp_path / "event.yaml"
    file.write_text(f"{deployed(project)}\n---\n{binding.replace(text, broken)}", encoding="utf-8")
    assert problem in "\n".join(argo.validate([file]))


def test_the_sender_of_an_event_may_only_submit_a_run(project: Path) -> None:
    text = on_event(project)
    assert rules(text, "submitter") == {
        ("argoproj.io", "workfloweventbindings", "list"),
        ("argoproj.io", "workflowtemplates", "get"),
        ("argoproj.io", "workflows", "create"),
    }
    (role,) = of_kind(text, "Role")
    (template,) = [rule for rule in role["rules"] if rule["resources"] == ["workflowtemplates"]]
    assert template["resourceNames"] == ["image-classifier-pipeline"]
    (account,) = of_kind(text, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert {manifest["kind"] for manifest in objects(text)} == {
        "WorkflowEventBinding",
        "ServiceAccount",
        "Role",
        "RoleBinding",
    }
