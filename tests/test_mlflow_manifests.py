"""deploy/mlflow of a generated project: the tracking server that a team may apply, rendered by the real ytt."""

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from tools import doors
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

# Each test renders.
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
    """A project; nobody changes it."""
    folder = doors.accelerator(ROOT, {}, tmp_path_factory.mktemp("mlflow") / "p").folder
    assert folder is not None
    return folder


def rendered(project: Path, **more: Any) -> str:
    """Render with what nobody has a default for, and with more."""
    return tracking_server(project, merged(SERVER, more))


def pod(text: str) -> Manifest:
    """The pod of the Deployment."""
    (deployment,) = of_kind(text, "Deployment")
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def containers(text: str) -> list[Manifest]:
    """Its containers, in the order in which they run."""
    return [*pod(text)["initContainers"], *pod(text)["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    """The variables of a container that have a value."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def references(text: str) -> set[tuple[str, str]]:
    """The Secrets and their keys that variables come from."""
    sources = [
        entry["valueFrom"]["secretKeyRef"] for one in containers(text) for entry in one["env"] if "value" not in entry
    ]
    return {(source["name"], source["key"]) for source in sources}


def test_it_is_applied_by_nobody_but_a_person(project: Path) -> None:
    """What the App deploys is the same with it and without; its own objects are these."""
    by_app = deployed(project, [VALUES], CHOSEN)
    assert of_kind(by_app, "Workflow")
    assert "tracking-server" not in by_app
    assert [found["kind"] for found in objects(rendered(project))] == KINDS
    for found in objects(rendered(project, name="team")):
        assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("team", "tracking")
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "team"


def test_the_pod_may_do_little(project: Path) -> None:
    """As little as the steps' pods."""
    spec = pod(rendered(project))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    found = containers(rendered(project))
    assert [one["name"] for one in found] == ["check-stores", "upgrade-database", "server"]
    for one in found:
        assert one["image"] == SERVER["image"]
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(one["resources"]["requests"]) == {"cpu", "memory"}
        assert set(one["resources"]["limits"]) == {"memory"}
        assert {mount["name"] for mount in one["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_the_pod_is_probed(project: Path) -> None:
    """On the port that the Service reaches."""
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
    """The keys are the server's alone."""
    (server,) = pod(rendered(project))["containers"]
    command = server["command"]
    assert "--serve-artifacts" in command
    assert command[command.index("--artifacts-destination") + 1] == "s3://bucket/of/a-team"
    assert environment(server)["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert environment(server)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_no_secret_is_written_down(project: Path) -> None:
    """Every one is a key of a Secret, and the database's address holds none."""
    text = rendered(project)
    assert {name for name, _ in references(text)} == set(SECRETS)
    for one in containers(text):
        assert not [name for name in environment(one) if name.endswith(("PASSWORD", "KEY", "KEY_ID", "USER"))]
    (config,) = of_kind(text, "ConfigMap")
    assert set(config["data"]) == {"basic_auth.ini", "database-ca.crt"}
    assert "database_uri = postgresql+psycopg2://\n" in config["data"]["basic_auth.ini"]
    assert "password" not in config["data"]["basic_auth.ini"]


def test_secrets_come_from_a_store(project: Path) -> None:
    """Exactly the keys that the pod reads."""
    store = {"externalSecrets": {"store": "vault", "kind": "SecretStore", "path": "teams/ml"}}
    text = rendered(project, **store, secrets={"login": "people"})
    found = of_kind(text, "ExternalSecret")
    made = {(one["spec"]["target"]["name"], entry["secretKey"]) for one in found for entry in one["spec"]["data"]}
    assert made == references(text)
    assert ("people", "secret-key") in made
    keys = {entry["remoteRef"]["key"] for one in found for entry in one["spec"]["data"]}
    assert keys == {"teams/ml/database", "teams/ml/artifacts", "teams/ml/login"}


def test_authorities_are_files(project: Path) -> None:
    """What is named in a variable is mounted; another authority makes another pod."""
    private = merged(SERVER["artifacts"], {"caCertificate": AUTHORITY, "region": "eu-west-1"})
    text = rendered(project, artifacts=private)
    (server,) = pod(text)["containers"]
    (config,) = of_kind(text, "ConfigMap")
    (folder,) = [mount["mountPath"] for mount in server["volumeMounts"] if mount["name"] == "files"]
    given = environment(server)
    for variable in ("PGSSLROOTCERT", "AWS_CA_BUNDLE", "MLFLOW_AUTH_CONFIG_PATH"):
        assert given[variable].removeprefix(f"{folder}/") in config["data"], variable
    assert given["AWS_DEFAULT_REGION"] == "eu-west-1"
    sums = [
        of_kind(one, "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]
        for one in (text, rendered(project))
    ]
    assert sums[0] != sums[1]


def test_who_may_ask(project: Path) -> None:
    """Pods of the namespace and of those that are named; by names of the Service and those that are named."""
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


def value(path: str, found: Any) -> dict[str, Any]:
    """Return the values with one of them set."""
    first, _, rest = path.partition(".")
    return {first: value(rest, found) if rest else found}


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


@pytest.mark.parametrize(("path", "found", "reason"), WRONG_VALUES)
def test_wrong_values_are_refused(project: Path, path: str, found: Any, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        tracking_server(project, merged(SERVER, value(path, found)))
    assert reason in str(refused.value)
    assert path.split(".")[-1] in str(refused.value)


def test_without_values_it_says_what_is_missing(project: Path) -> None:
    with pytest.raises(Refused) as refused:
        tracking_server(project, {})
    for name in ("namespace", "image", "database.host", "database.caCertificate", "artifacts.destination"):
        assert f"\n  {name}\n" in str(refused.value)
