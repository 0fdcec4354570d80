"""The manifests of pgAdmin, rendered by the real ytt for both platforms and every kind of credentials."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, in_body
from tools import argo, doors
from tools.manifests import CHOSEN, Manifest, Refused, accounts_and_app, deployed, merged, objects, of_kind

# Each test renders about a dozen times, a quarter of a second each.
pytestmark = pytest.mark.slow
CREDENTIALS = ["service-binding", "external-secrets", "kubernetes-secret"]
IMAGE = "registry.example.com/ml/pgadmin:1"
SCHEMA = "deploy/config/schema_pgadmin.yaml"


def generate(place: Path, image: str = IMAGE, **answers: object) -> Path:
    """Return a project with pgAdmin and an image for it where the schema asks for one."""
    folder = doors.accelerator(ROOT, {"includePgadmin": True, **answers}, place).folder
    assert folder is not None
    choose(folder, 'image: ""', f"image: {image}")
    return folder


def choose(project: Path, old: str, new: str) -> None:
    """Edit pgAdmin's schema, the only file that configures it."""
    text = (project / SCHEMA).read_text(encoding="utf-8")
    assert old in text
    (project / SCHEMA).write_text(text.replace(old, new, 1), encoding="utf-8")


def named(text: str, kind: str, name: str = "image-classifier-pgadmin") -> Manifest:
    """Return the object of a kind and name."""
    (manifest,) = [candidate for candidate in of_kind(text, kind) if candidate["metadata"]["name"] == name]
    return manifest


def variables(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return environment variables with their values, or with the Secret and key of their values."""
    return {
        variable["name"]: variable.get("value")
        or tuple(variable["valueFrom"]["secretKeyRef"][key] for key in ("name", "key"))
        for variable in entries
    }


@pytest.mark.parametrize("platform", ["tap", "kubernetes"])
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_it_renders_and_its_deployer_may_deploy_it(tmp_path: Path, platform: str, credentials: str) -> None:
    """pgAdmin adds no new kind of object, so no account needs another right."""
    project = generate(tmp_path / "p", appPlatform=platform, credentials=credentials)
    without = doors.accelerator(ROOT, {"appPlatform": platform, "credentials": credentials}, tmp_path / "q").folder
    assert without is not None
    text = deployed(project)
    (tmp_path / "deployed.yaml").write_text(text, encoding="utf-8")
    assert argo.validate([tmp_path / "deployed.yaml"]) == []
    assert accounts_and_app(project) == accounts_and_app(without)
    others = {str(manifest) for manifest in objects(deployed(without))}
    more = [manifest for manifest in objects(text) if str(manifest) not in others]
    expected = {
        ("tap", True): ["ResourceClaim", "Workload"],
        ("tap", False): ["Workload"],
        ("kubernetes", True): ["Deployment", "Service"],
        ("kubernetes", False): ["Deployment", "Service"],
    }
    assert sorted(manifest["kind"] for manifest in more) == expected[platform, credentials != "kubernetes-secret"]
    for manifest in more:
        assert manifest["metadata"]["namespace"] == "ml"
        assert manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "pgadmin"


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_the_deployments_pod_may_do_little_and_holds_no_password(tmp_path: Path, credentials: str) -> None:
    text = deployed(generate(tmp_path / "p", appPlatform="kubernetes", credentials=credentials))
    spec = named(text, "Deployment")["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    environment = variables(container["env"])
    assert environment["PGADMIN_SETUP_EMAIL"] == ("image-classifier-pgadmin", "email")
    assert environment["PGADMIN_SETUP_PASSWORD"] == ("image-classifier-pgadmin", "password")
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {mounts[f"/bindings/{role}"] for role in ("trainer", "inference-app")} == {"trainer", "inference-app"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts.values()) == set(volumes)
    assert environment["PGADMIN_DATA"].startswith("/pgadmin/")
    assert volumes[mounts["/pgadmin"]]["emptyDir"]["medium"] == "Memory"
    service = named(text, "Service")
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"]
    assert not [manifest for manifest in of_kind(text, "Ingress") if "pgadmin" in manifest["metadata"]["name"]]


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_the_workload_runs_an_image_and_claims_both_databases(tmp_path: Path, credentials: str) -> None:
    text = deployed(generate(tmp_path / "p", appPlatform="tap", credentials=credentials))
    workload = named(text, "Workload")
    assert workload["metadata"]["labels"]["apps.tanzu.vmware.com/workload-type"] == "server"
    spec = workload["spec"]
    assert spec["image"] == IMAGE
    assert "source" not in spec
    assert all(isinstance(variable.get("value", ""), str) for variable in spec["env"])
    environment = variables(spec["env"])
    assert environment["PGADMIN_SETUP_PASSWORD"] == ("image-classifier-pgadmin", "password")
    if credentials == "kubernetes-secret":
        assert "serviceClaims" not in spec
        assert environment["BINDING_TRAINER_HOST"] == "training.example.com"
        assert environment["BINDING_INFERENCE_APP_PASSWORD"] == ("image-classifier-inference-app", "password")
        assert "BEGIN CERTIFICATE" in environment["BINDING_TRAINER_CA_CRT"]
        return
    claims = {claim["name"]: claim["ref"]["name"] for claim in spec["serviceClaims"]}
    assert set(claims) == {"trainer", "inference-app"}
    made = {claim["metadata"]["name"]: claim["spec"]["ref"]["name"] for claim in of_kind(text, "ResourceClaim")}
    assert {role: made[claim] for role, claim in claims.items()} == {
        role: f"image-classifier-{role}" for role in claims
    }


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('image: ""', "image: registry.example.com/ml/pgadmin:latest", "a tag other than latest"),
        ('image: ""', "image: pgadmin", "a tag other than latest"),
        ('secret: ""', "secret: A_B", "the name of a Secret"),
        ("cpu: 100m", "cpu: much", "a quantity"),
        ("memory: 384Mi", "memory: much", "a quantity"),
        ("memory: 768Mi", "memory: much", "a quantity"),
    ],
)
def test_a_wrong_value_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    project = doors.accelerator(ROOT, {"includePgadmin": True, "appPlatform": "kubernetes"}, tmp_path / "p").folder
    assert project is not None
    if not old.startswith("image"):
        choose(project, 'image: ""', f"image: {IMAGE}")
    choose(project, old, new)
    with pytest.raises(Refused) as refused:
        deployed(project)
    assert reason in str(refused.value)


def test_until_its_image_is_named_the_app_is_deployed_without_it(tmp_path: Path) -> None:
    """A project with pgAdmin but without its image still deploys everything else."""
    for platform in ("tap", "kubernetes"):
        place = tmp_path / platform
        project = doors.accelerator(ROOT, {"includePgadmin": True, "appPlatform": platform}, place).folder
        assert project is not None
        without = doors.accelerator(ROOT, {"appPlatform": platform}, place / "without").folder
        assert without is not None
        assert list(objects(deployed(project))) == list(objects(deployed(without)))


def test_another_secret_may_be_named(tmp_path: Path) -> None:
    project = generate(tmp_path / "p", appPlatform="kubernetes")
    choose(project, 'secret: ""', "secret: other")
    (container,) = named(deployed(project), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert variables(container["env"])["PGADMIN_SETUP_PASSWORD"] == ("other", "password")


def test_the_platforms_labels_and_parameters_are_its_too(tmp_path: Path) -> None:
    more = {
        "labels": {"apps.tanzu.vmware.com/has-tests": "true"},
        "params": [{"name": "gitops_ssh_secret", "value": "git"}],
    }
    text = deployed(generate(tmp_path / "p", appPlatform="tap"), more=merged(CHOSEN, {"app": more}))
    workload = named(text, "Workload")
    assert workload["metadata"]["labels"]["apps.tanzu.vmware.com/has-tests"] == "true"
    assert {"name": "gitops_ssh_secret", "value": "git"} in workload["spec"]["params"]


def test_without_it_nothing_names_it(tmp_path: Path) -> None:
    """Except for the answers themselves, no file and no line mentions it."""
    for platform, door in itertools.product(("tap", "kubernetes"), (doors.accelerator, doors.cookiecutter)):
        project = door(ROOT, {"appPlatform": platform}, tmp_path / f"{platform}-{door.__name__}").folder
        assert project is not None
        mentions = {
            str(path.relative_to(project))
            for path in project.rglob("*")
            if path.is_file()
            and any(word in (path.name + path.read_text(encoding="utf-8")).lower() for word in ("pgadmin", "datahub"))
        }
        assert mentions <= {".provenance.yaml", "accelerator-log.md"}, mentions
    assert in_body("pgadmin").is_dir()
