"""The stored notebook, and the JupyterHub values that give a user's server its bindings."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest
import yaml
from conftest import BODY, ROOT, in_body, in_project
from tools import doors
from tools.manifests import CHOSEN, VALUES, deployed, of_kind

NOTEBOOKS = sorted(BODY.rglob("notebooks/*.ipynb"))
SECRETS = ("trainer", "inference-app")


def part(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the schema of an object with exactly these keys."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, WHOLE, YES = {"type": "string", "minLength": 1}, {"type": "integer"}, {"const": True}
AMOUNT = {"type": ["number", "string"]}
NAMED = part({"name": TEXT, "optional": YES}, "name")
SOURCES = {"type": "array", "items": {"oneOf": [part({"configMap": NAMED}), part({"secret": NAMED})]}}
# The used part of the chart's values, with Kubernetes's volumes and rules: a key that the chart does not know
# fails a release.
SINGLEUSER = {
    "image": part({"name": TEXT, "tag": TEXT, "pullSecrets": {"type": "array"}}, "name", "tag"),
    "cmd": TEXT,
    "defaultUrl": TEXT,
    "uid": WHOLE,
    "fsGid": WHOLE,
    "allowPrivilegeEscalation": {"const": False},
    "extraEnv": {"type": "object", "additionalProperties": TEXT},
    "cpu": part({"guarantee": {"type": "number"}, "limit": {"type": "number"}}),
    "memory": part({"guarantee": AMOUNT, "limit": AMOUNT}),
    "storage": part(
        {
            "capacity": TEXT,
            "extraVolumes": {
                "type": "array",
                "items": part(
                    {"name": TEXT, "projected": part({"defaultMode": {"const": 0o440}, "sources": SOURCES}, "sources")},
                    "name",
                    "projected",
                ),
            },
            "extraVolumeMounts": {
                "type": "array",
                "items": part({"name": TEXT, "mountPath": TEXT, "readOnly": YES}, "name", "mountPath", "readOnly"),
            },
        }
    ),
    "networkPolicy": part(
        {
            "enabled": YES,
            "egress": {
                "type": "array",
                "items": part(
                    {
                        "ports": {
                            "type": "array",
                            "items": part({"port": WHOLE, "protocol": {"const": "TCP"}}, "port", "protocol"),
                        }
                    },
                    "ports",
                ),
            },
        },
        "enabled",
        "egress",
    ),
}
SCHEMA = part({"singleuser": part(SINGLEUSER, *SINGLEUSER)}, "singleuser")


# As it is stored


def own_tests() -> ModuleType:
    """The test that a generated project itself has for its notebooks."""
    spec = importlib.util.spec_from_file_location("own_tests", in_body("tests/test_notebooks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_a_trace_of_a_run(path: Path) -> None:
    """And without a placeholder: every project has the same code."""
    own = own_tests()
    assert in_project(str(path.relative_to(BODY))) == "notebooks/explore.ipynb"
    own.test_no_run_left_anything(path)
    assert not re.search(r"cookiecutter|\{[{%#]", path.read_text(encoding="utf-8"))


def test_a_trace_of_a_run_would_be_seen(tmp_path: Path) -> None:
    """Each of them."""
    own, text = own_tests(), NOTEBOOKS[0].read_text(encoding="utf-8")
    for before, after in (
        ('"execution_count": null', '"execution_count": 1'),
        ('"outputs": []', '"outputs": [{"output_type": "stream", "name": "stdout", "text": []}]'),
        ('"kernelspec": {', '"widgets": {}, "kernelspec": {'),
    ):
        assert before in text
        (tmp_path / "n.ipynb").write_text(text.replace(before, after, 1), encoding="utf-8")
        with pytest.raises(AssertionError):
            own.test_no_run_left_anything(tmp_path / "n.ipynb")


def test_what_both_notebooks_do_they_do_alike() -> None:
    """One for images and one for a table; a project has one of them."""
    sources = [
        ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
        for path in NOTEBOOKS
    ]
    assert len(sources) == 2
    alike = set(sources[0]) & set(sources[1])
    for text in ("def run_steps", "get_metric_history", "upload_dataset", "train_model", "evaluate_model"):
        assert any(text in source for source in alike), text


# JupyterHub


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a notebook and a name of maximum length."""
    answers = {"projectName": "x" * 40, "namespace": "team-a", "includeNotebook": True, "promotionStage": "production"}
    folder = doors.accelerator(ROOT, answers, tmp_path_factory.mktemp("notebook") / "p").folder
    assert folder is not None
    return folder


@pytest.fixture(name="values")
def _values(project: Path) -> dict[str, Any]:
    return yaml.safe_load((project / "deploy" / "jupyterhub" / "values.yaml").read_text(encoding="utf-8"))


def test_the_chart_takes_the_values(values: dict[str, Any]) -> None:
    """Only keys that the chart knows, with values of their types."""
    jsonschema_rs.validate(SCHEMA, values)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ((), "hub", {}),
        (("singleuser",), "serviceAccount", "x"),
        (("singleuser",), "uid", "1000"),
        (("singleuser",), "uid", None),
        (("singleuser", "image"), "repository", "x"),
        (("singleuser", "storage"), "extraVolumeMount", []),
        (("singleuser", "storage", "extraVolumeMounts", 0), "readOnly", False),
        (("singleuser", "storage", "extraVolumes", 0, "projected", "sources", 0), "secret", {"secretName": "x"}),
        (("singleuser", "networkPolicy"), "enabled", False),
        (("singleuser", "extraEnv"), "MLFLOW_TRACKING_URI", None),
    ],
)
def test_the_schema_would_refuse(values: dict[str, Any], place: tuple[str | int, ...], key: str, value: object) -> None:
    """Keys that the chart does not know, and values that would leave access open."""
    changed: Any = values
    for step in place:
        changed = changed[step]
    changed[key] = value
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMA, values)


def test_the_bindings_are_those_of_who_trains_and_who_asks(values: dict[str, Any], project: Path) -> None:
    """Their Secrets and ConfigMaps are those of the pipeline's pods, without those of a deployer."""
    server = values["singleuser"]
    root = server["extraEnv"]["SERVICE_BINDING_ROOT"]
    mounts = {entry["name"]: entry["mountPath"] for entry in server["storage"]["extraVolumeMounts"]}
    assert mounts == {role: f"{root}/{role}" for role in SECRETS}
    sources = {entry["name"]: entry["projected"]["sources"] for entry in server["storage"]["extraVolumes"]}
    assert sources == {
        role: [
            {"configMap": {"name": f"{'x' * 40}-{role}-db", "optional": True}},
            {"secret": {"name": f"{'x' * 40}-{role}"}},
        ]
        for role in SECRETS
    }
    assert "deployer" not in (project / "deploy" / "jupyterhub" / "values.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("credentials", ["service-binding", "external-secrets", "kubernetes-secret"])
def test_they_are_made_by_the_project(values: dict[str, Any], project: Path, credentials: str) -> None:
    """They have the names that the values mount, in the namespace of the release."""
    rendered = deployed(project, [VALUES], {**CHOSEN, "credentials": credentials})
    named = {
        kind: {manifest["metadata"]["name"] for manifest in of_kind(rendered, kind)}
        for kind in ("ConfigMap", "ExternalSecret")
    }
    expected = {f"{'x' * 40}-{role}" for role in SECRETS}
    addresses = {f"{name}-db" for name in expected}
    assert (addresses <= named["ConfigMap"]) == (credentials == "kubernetes-secret")
    assert (expected <= named["ExternalSecret"]) == (credentials == "external-secrets")
    mounted = {name for name in expected if f"secretName: {name}" in rendered or f"name: {name}" in rendered}
    assert mounted == expected


def test_the_server_is_the_image_s(values: dict[str, Any]) -> None:
    """User, group, command and home fit the image; the stage is the project's."""
    server = values["singleuser"]
    dockerfile = in_body("deploy/images/notebook.Dockerfile").read_text(encoding="utf-8")
    assert f"USER {server['uid']}:{server['fsGid']}\n" in dockerfile
    assert f'CMD ["{server["cmd"]}"]' in dockerfile
    assert server["extraEnv"]["MODEL_STAGE"] == "production"
    assert server["image"]["tag"] != "latest"


def test_the_ports_that_are_open_are_those_of_the_databases_and_of_mlflow(values: dict[str, Any]) -> None:
    """As the bindings' default and the address require."""
    server = values["singleuser"]
    ports = {port["port"] for rule in server["networkPolicy"]["egress"] for port in rule["ports"]}
    tracking = int(server["extraEnv"]["MLFLOW_TRACKING_URI"].rpartition(":")[2])
    assert ports == {5432, tracking}


def test_the_files_are_good_yaml_and_good_python(project: Path) -> None:
    """The project's own `make lint` and an editor accept them."""
    for command in (
        ["yamllint", "--strict", "deploy/jupyterhub/values.yaml"],
        ["ruff", "check", "--no-cache", "notebooks", "tests/test_notebooks.py"],
        ["ruff", "format", "--no-cache", "--check", "notebooks"],
    ):
        program = shutil.which(command[0], path=str(Path(sys.executable).parent))
        assert program, command[0]
        process = subprocess.run([program, *command[1:]], cwd=project, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
