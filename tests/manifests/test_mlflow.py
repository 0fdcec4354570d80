"""deploy/mlflow: the manifests of a tracking server, which a person applies."""

from pathlib import Path
from typing import Any

import pytest
from tools.manifests import (
    AUTHORITY,
    CHOSEN,
    VALUES,
    Manifest,
    Refused,
    deployed,
    merged,
    objects,
    of_kind,
    tracking_server,
)

from .conftest import generate
from .lookups import value

# Each test renders manifests.
pytestmark = pytest.mark.slow
SERVER: dict[str, Any] = {
    "namespace": "tracking",
    "image": "registry.example.com/ml/mlflow:1",
    "database": {"host": "postgresql.example.com", "caCertificate": AUTHORITY},
    "artifacts": {"destination": "s3://bucket/of/a-team", "endpoint": "https://s3.example.com"},
}
KINDS = ["ServiceAccount", "ConfigMap", "Deployment", "Service", "NetworkPolicy"]
SECRETS = ["mlflow-database", "mlflow-artifacts", "mlflow-login"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the default answers; no test changes it."""
    return generate(tmp_path_factory.mktemp("mlflow") / "p")


def rendered(project: Path, **more: Any) -> str:
    """Render with the values that have no default, and with others."""
    return tracking_server(project, merged(SERVER, more))


def pod(text: str) -> Manifest:
    """Return the pod of the Deployment."""
    (deployment,) = of_kind(text, "Deployment")
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def containers(text: str) -> list[Manifest]:
    """Return its containers in the order in which they run."""
    return [*pod(text)["initContainers"], *pod(text)["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    """Return the variables of a container that have a literal value."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def references(text: str) -> set[tuple[str, str]]:
    """Return the Secrets and keys that variables are read from."""
    sources = [
        entry["valueFrom"]["secretKeyRef"]
        for container in containers(text)
        for entry in container["env"]
        if "value" not in entry
    ]
    return {(source["name"], source["key"]) for source in sources}


def test_the_app_does_not_deploy_it(project: Path) -> None:
    """A person applies these objects; the App deploys none of them."""
    app_objects = deployed(project, [VALUES], CHOSEN)
    assert of_kind(app_objects, "Workflow")
    assert "tracking-server" not in app_objects
    assert [manifest["kind"] for manifest in objects(rendered(project))] == KINDS
    for manifest in objects(rendered(project, name="team")):
        assert (manifest["metadata"]["name"], manifest["metadata"]["namespace"]) == ("team", "tracking")
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "team"


def test_the_pod_is_restricted(project: Path) -> None:
    """It has the restrictions of the steps' pods."""
    spec = pod(rendered(project))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    all_containers = containers(rendered(project))
    assert [container["name"] for container in all_containers] == ["check-stores", "upgrade-database", "server"]
    for container in all_containers:
        assert container["image"] == SERVER["image"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_the_pod_has_probes(project: Path) -> None:
    """They use the port that the Service targets."""
    (server,) = pod(rendered(project))["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert server["ports"] == [{"name": "http", "containerPort": 5000}]
    assert server["command"][server["command"].index("--port") + 1] == "5000"
    (service,) = of_kind(rendered(project), "Service")
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    (deployment,) = of_kind(rendered(project), "Deployment")
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_artifacts_are_proxied(project: Path) -> None:
    """Only the server has the keys of the store."""
    (server,) = pod(rendered(project))["containers"]
    command = server["command"]
    assert "--serve-artifacts" in command
    assert command[command.index("--artifacts-destination") + 1] == "s3://bucket/of/a-team"
    assert environment(server)["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert environment(server)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_manifests_contain_no_secret(project: Path) -> None:
    """Each is a key of a Secret, and the address of the database holds none."""
    text = rendered(project)
    assert {name for name, _ in references(text)} == set(SECRETS)
    for container in containers(text):
        assert not [name for name in environment(container) if name.endswith(("PASSWORD", "KEY", "KEY_ID", "USER"))]
    (config,) = of_kind(text, "ConfigMap")
    assert set(config["data"]) == {"basic_auth.ini", "database-ca.crt"}
    assert "database_uri = postgresql+psycopg2://\n" in config["data"]["basic_auth.ini"]
    assert "password" not in config["data"]["basic_auth.ini"]


def test_secrets_come_from_a_store(project: Path) -> None:
    """External secrets provide exactly the keys that the pod reads."""
    store = {"externalSecrets": {"store": "vault", "kind": "SecretStore", "path": "teams/ml"}}
    text = rendered(project, **store, secrets={"login": "people"})
    external_secrets = of_kind(text, "ExternalSecret")
    targets = {
        (secret["spec"]["target"]["name"], entry["secretKey"])
        for secret in external_secrets
        for entry in secret["spec"]["data"]
    }
    assert targets == references(text)
    assert ("people", "secret-key") in targets
    keys = {entry["remoteRef"]["key"] for secret in external_secrets for entry in secret["spec"]["data"]}
    assert keys == {"teams/ml/database", "teams/ml/artifacts", "teams/ml/login"}


def test_certificate_authorities_are_mounted_files(project: Path) -> None:
    """Variables name mounted files; another authority replaces the pod."""
    private = merged(SERVER["artifacts"], {"caCertificate": AUTHORITY, "region": "eu-west-1"})
    text = rendered(project, artifacts=private)
    (server,) = pod(text)["containers"]
    (config,) = of_kind(text, "ConfigMap")
    (folder,) = [mount["mountPath"] for mount in server["volumeMounts"] if mount["name"] == "files"]
    variables = environment(server)
    for variable in ("PGSSLROOTCERT", "AWS_CA_BUNDLE", "MLFLOW_AUTH_CONFIG_PATH"):
        assert variables[variable].removeprefix(f"{folder}/") in config["data"], variable
    assert variables["AWS_DEFAULT_REGION"] == "eu-west-1"
    sums = [
        of_kind(rendering, "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]
        for rendering in (text, rendered(project))
    ]
    assert sums[0] != sums[1]


def test_clients_are_limited_by_namespace_and_host_name(project: Path) -> None:
    """Allowed are pods of the own and of named namespaces, with names of the Service and named hosts."""
    (policy,) = of_kind(rendered(project), "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {}}]
    text = rendered(project, clientNamespaces=["ml"], hosts=["mlflow.example.com"])
    (policy,) = of_kind(text, "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"][1]["namespaceSelector"]["matchExpressions"][0]["values"] == ["ml"]
    (server,) = pod(text)["containers"]
    names = server["command"][server["command"].index("--allowed-hosts") + 1].split(",")
    assert {"mlflow.tracking", "mlflow.tracking.svc.cluster.local", "mlflow.example.com"} <= set(names)
    assert "*" not in names


WRONG_VALUES = [
    ("name", "Mlflow", "lower-case letters"),
    ("namespace", None, "not null"),
    ("namespace", "kube-system", "does not begin with kube-"),
    ("image", None, "not null"),
    ("image", "registry.example.com/ml/mlflow:latest", "a tag other than latest"),
    ("imagePullSecret", "A b", "the name of a Secret"),
    ("workers", 0, "value >= 1"),
    ("clientNamespaces", ["A b"], "names of namespaces"),
    ("hosts", ["https://x"], "DNS names"),
    ("database.host", None, "not null"),
    ("database.host", "a b", "a host name"),
    ("database.port", 70000, "value <= 65535"),
    ("database.name", "", "length >= 1"),
    ("database.sslmode", "prefer", "one of"),
    ("database.caCertificate", "", "which sslmode verify-ca and verify-full need"),
    ("artifacts.destination", None, "not null"),
    ("artifacts.destination", "/artifacts", "s3://BUCKET"),
    ("artifacts.endpoint", "https://key:secret@s3.example.com", "http(s)://HOST"),
    ("artifacts.region", "eu west", "a region"),
    ("artifacts.caCertificate", "/etc/ca.crt", "a certificate in PEM"),
    *((f"secrets.{kind}", "A b", "the name of a Secret") for kind in ("database", "artifacts", "login")),
    ("externalSecrets.store", "A b", "the name of a store"),
    ("externalSecrets.kind", "Vault", "one of"),
    ("externalSecrets.refreshInterval", "1", "a time like 30s"),
    ("resources.limits.memory", "1GB", "a quantity like"),
    ("replicas", 2, "a key declared in map"),
]


@pytest.mark.parametrize(("path", "setting", "reason"), WRONG_VALUES)
def test_wrong_values_are_refused(project: Path, path: str, setting: Any, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        tracking_server(project, merged(SERVER, value(path, setting)))
    assert reason in str(refused.value)
    assert path.split(".")[-1] in str(refused.value)


def test_missing_values_are_named(project: Path) -> None:
    with pytest.raises(Refused) as refused:
        tracking_server(project, {})
    for name in ("namespace", "image", "database.host", "database.caCertificate", "artifacts.destination"):
        assert f"\n  {name}\n" in str(refused.value)
