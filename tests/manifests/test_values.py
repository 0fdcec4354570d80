"""deploy/values.yaml: wrong values are refused with the reason."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tools.manifests import (
    AUTHORITY,
    CHOSEN,
    PRODUCTION,
    ROLES,
    VALUES,
    Refused,
    accounts_and_app,
    deployed,
    merged,
    of_kind,
)

from .conftest import CREDENTIALS, generate
from .lookups import value

# Each test renders manifests.
pytestmark = pytest.mark.slow

OIDC = {"app": {"authentication": {"mode": "oidc", "oidc": {"issuer": "https://id.example.com", "audience": "ml"}}}}

WRONG_VALUES = [
    ("name", "X", "3 to 40 lower-case letters"),
    ("namespace", "a.b", "a DNS label"),
    ("valuesFiles", [], "length >= 1"),
    ("namespace", "kube-system", "does not begin with kube-"),
    ("syncPeriod", "soon", "a time of 30s at least"),
    ("syncPeriod", "5s", "a time of 30s at least"),
    ("imagePullSecret", "A b", "the name of a Secret"),
    ("git.url", "git@github.com:a/b.git", "begins with https://"),
    ("git.url", "https://me:secret@github.com/a/b.git", "without credentials"),
    ("git", {"url": "http://git.example.com/a.git", "secret": "x"}, "with an https:// or ssh:// address"),
    ("git.branch", "-x", "from a letter or digit on"),
    ("git.branch", "a..b", "without .."),
    ("git.secret", "a b", "the name of a Secret"),
    ("credentials", "vault", "one of"),
    *((f"secrets.{role}", "A b", "the name of a Secret") for role in ROLES),
    ("externalSecrets.store", "A b", "the name of a store"),
    ("externalSecrets.kind", "Vault", "one of"),
    ("externalSecrets.refreshInterval", "1", "a time like 30s"),
    ("training.stage", "Staging", "one of"),
    ("training.mlflow.url", None, "not null"),
    ("training.mlflow.url", "mlflow:5000", "begins with http"),
    ("training.mlflow.secret", "A b", "the name of a Secret"),
    ("training.databases.training.type", "mysql", "one of"),
    ("training.databases.inference.caCertificate", "", "which sslmode verify-ca and verify-full need"),
    ("training.databases.inference.type", "greenplum", "one of"),
    ("training.databases.training.host", "a b", "a host name"),
    ("training.databases.training.port", 0, "value >= 1"),
    ("training.databases.training.port", 70000, "value <= 65535"),
    ("training.databases.training.port", "5432", "expected: integer"),
    ("training.databases.inference.database", "", "length >= 1"),
    ("training.databases.inference.sslmode", "prefer", "one of"),
    ("training.databases.inference.caCertificate", "/etc/ca.crt", "a certificate in PEM"),
    ("pipeline.orchestrator", "airflow", "one of"),
    ("pipeline.image", None, "not null"),
    ("pipeline.image", "registry.example.com/ml/pipeline", "a tag other than latest"),
    ("pipeline.image", "registry.example.com/ml/pipeline:latest", "a tag other than latest"),
    ("pipeline.resources.requests.cpu", "much", "a quantity like"),
    ("pipeline.resources.requests.memory", "1GB", "a quantity like"),
    ("pipeline.resources.limits.memory", "1 Gi", "a quantity like"),
    ("pipeline.retries", 11, "value <= 10"),
    ("pipeline.retries", -1, "value >= 0"),
    ("pipeline.stepDeadline", "1d", "a time like 30s"),
    ("pipeline.runDeadline", "0s", "a time like 30s"),
    ("pipeline.keptRuns", 0, "value >= 1"),
    ("monitoring.schedule", "daily", "five fields"),
    ("monitoring.timezone", "", "length >= 1"),
    ("monitoring.enabled", "sometimes", "expected: boolean"),
    ("app.platform", "knative", "one of"),
    ("app.image", None, "not null"),
    ("app.replicas", 101, "value <= 100"),
    ("app.host", "a_b", "a DNS name"),
    ("app.corsOrigins", ["example.com"], "origins like"),
    ("app.ingress.className", "A b", "the name of an ingress class"),
    ("app.ingress.tlsSecret", "A b", "the name of a Secret"),
    ("app.hosts", ["https://x"], "DNS names"),
    ("app.authentication", {"mode": "none"}, "mode none only with protectedByProxy: true"),
    ("app.authentication.mode", "basic", "one of"),
    ("app.authentication.apiKeysSecret", "A b", "the name of a Secret"),
    ("app.authentication", {"mode": "oidc", "oidc": {"audience": "ml"}}, "not null"),
    ("app.authentication.oidc.issuer", "id.example.com", "begins with https://"),
    ("app.authentication.oidc.audience", "", "length >= 1"),
    ("app.authentication.oidc.rolesClaim", "", "length >= 1"),
    ("app.authentication.oidc.clientSecret", "A b", "the name of a Secret"),
    ("app.authentication.oidc.pageUrl", "https://me:secret@x", "without credentials"),
    ("networkPolicies.enabled", "often", "expected: boolean"),
    ("networkPolicies.clientNamespaces", ["A b"], "names of namespaces"),
    ("networkPolicies.clientNetworks", ["10.0.0.1"], "networks like 10.0.0.0/8"),
    ("app.color", "red", "not declared in schema"),
]


@pytest.mark.parametrize(("path", "setting", "reason"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_the_reason(project: Path, path: str, setting: object, reason: str) -> None:
    # With service bindings the schema does not check the values of other credentials.
    elsewhere: dict[str, object] = {
        "credentials": "external-secrets" if path.startswith("externalSecrets") else "kubernetes-secret"
    }
    if path.startswith("app.authentication.oidc"):
        elsewhere |= OIDC
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more=merged(merged(CHOSEN, elsewhere), value(path, setting)))
    text = str(refused.value)
    assert reason in text
    assert path.rpartition(".")[2] in text


def schema_rules(schema: str) -> Iterator[str]:
    """Return the name of the value below each validation of the schema."""
    lines = schema.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#@schema/validation"):
            following = (text.strip() for text in lines[number + 1 :])
            yield next(text for text in following if not text.startswith("#")).partition(":")[0]


def test_every_validation_of_the_schema_has_a_test(project: Path) -> None:
    schema = (project / "deploy" / "config" / "schema.yaml").read_text(encoding="utf-8")
    tried = {path.rpartition(".")[2] for path, _, _ in WRONG_VALUES}
    rules = list(schema_rules(schema))
    assert len(rules) > 30
    assert set(rules) <= tried


def test_missing_values_are_named(project: Path) -> None:
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more={})
    named = re.findall(r"^  ([a-zA-Z.]+)$", str(refused.value), re.MULTILINE)
    assert named == ["training.mlflow.url", "pipeline.image", "app.image"]


def test_a_platform_without_generated_manifests_is_refused(project: Path) -> None:
    with pytest.raises(Refused, match=r"app\.platform is tap, but deploy/app was generated for the other one"):
        deployed(project, more=merged(CHOSEN, {"app": {"platform": "tap"}}))


def test_an_orchestrator_without_generated_manifests_is_refused(project: Path) -> None:
    with pytest.raises(
        Refused, match=r"pipeline\.orchestrator is kubeflow, but deploy/ was generated for the other one"
    ):
        deployed(project, more=merged(CHOSEN, value("pipeline.orchestrator", "kubeflow")))


def test_a_training_database_of_another_kind_than_the_codes_is_refused(project: Path) -> None:
    more = merged(CHOSEN, value("training.databases.training.type", "postgresql"))
    with pytest.raises(Refused, match=r"is not project\.yaml's trainingDatabase, greenplum"):
        deployed(project, more=more)


def test_the_issuer_is_required_only_for_its_mode(project: Path) -> None:
    accounts_and_app(project)
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more=merged(CHOSEN, value("app.authentication.mode", "oidc")))
    for key in ("issuer", "audience"):
        assert f"app.authentication.oidc.{key}" in str(refused.value)


def test_production_needs_its_own_addresses(project: Path) -> None:
    """With those of values.yaml, production would change the databases of staging."""
    address = {"host": "staging.example.com", "database": "ml", "caCertificate": AUTHORITY}
    chosen = {**CHOSEN, "training": {"mlflow": {"url": "http://mlflow:5000"}}, "credentials": "kubernetes-secret"}
    file = project.parent / "staging.yaml"
    databases = {"training": {"databases": {"training": address, "inference": address}}}
    file.write_text(yaml.safe_dump(databases), encoding="utf-8")
    accounts_and_app(project, [VALUES, str(file)], chosen)
    with pytest.raises(Refused, match=r"training\.databases\.inference\.host"):
        accounts_and_app(project, [VALUES, str(file), PRODUCTION], chosen)


def test_a_workload_takes_labels_and_parameters(tmp_path: Path) -> None:
    folder = generate(tmp_path / "p", appPlatform="tap", credentials="kubernetes-secret")
    more = {
        "labels": {"apps.tanzu.vmware.com/has-tests": "true"},
        "params": [{"name": "gitops_ssh_secret", "value": "x"}],
    }
    (workload, _) = of_kind(deployed(folder, more=merged(CHOSEN, {"app": more})), "Workload")
    assert workload["metadata"]["labels"]["apps.tanzu.vmware.com/has-tests"] == "true"
    assert {"name": "gitops_ssh_secret", "value": "x"} in workload["spec"]["params"]
    (authority,) = [
        variable["value"] for variable in workload["spec"]["env"] if variable["name"] == "PGSSLROOTCERT_PEM"
    ]
    assert authority == AUTHORITY


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_addresses_are_required_unless_the_secrets_hold_them(project: Path, credentials: str) -> None:
    chosen = {key: setting for key, setting in CHOSEN.items() if key in ("pipeline", "app")}
    chosen |= {"training": {"mlflow": {"url": "http://mlflow:5000"}}, "credentials": credentials}
    if credentials == "service-binding":
        accounts_and_app(project, more=chosen)
        return
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more=chosen)
    for database, key in itertools.product(("training", "inference"), ("host", "database", "caCertificate")):
        assert f"training.databases.{database}.{key}" in str(refused.value)
    assert ("externalSecrets.store" in str(refused.value)) == (credentials == "external-secrets")


def test_every_value_is_described(project: Path) -> None:
    """The schema is the reference, so each leaf or its section has a description."""
    schema = (project / "deploy" / "config" / "schema.yaml").read_text(encoding="utf-8")
    assert schema.count("#@schema/desc") > 30
