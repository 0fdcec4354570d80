"""Who may use the app: the values of authentication, and the variables and bindings of its pods."""

from pathlib import Path
from typing import Any

import pytest
from tools.manifests import CHOSEN, PRODUCTION, VALUES, Manifest, accounts_and_app, deployed, merged, of_kind

from .conftest import CREDENTIALS, PLATFORMS, generate
from .lookups import rules, value

# Each test renders manifests.
pytestmark = pytest.mark.slow
ISSUER = {"issuer": "https://id.example.com/realms/ml", "audience": "image-classifier"}
OIDC = {"app": {"authentication": {"mode": "oidc", "oidc": ISSUER}}}
OPEN = {"app": {"authentication": {"mode": "none", "protectedByProxy": True}}}


def pods(text: str) -> dict[str, Manifest]:
    """Return the pod of each process of the app."""
    templates = [deployment["spec"]["template"] for deployment in of_kind(text, "Deployment")]
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"] for pod in templates}


def workloads(text: str) -> dict[str, Manifest]:
    """Return the Workload of each process of the app."""
    entries = of_kind(text, "Workload")
    return {entry["metadata"]["labels"]["app.kubernetes.io/component"]: entry["spec"] for entry in entries}


def variables(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Return the environment variables with literal values."""
    return {entry["name"]: entry["value"] for entry in entries if "value" in entry}


def environment(text: str, process: str) -> dict[str, str]:
    """Return the variables of a process of the app, on either platform."""
    if of_kind(text, "Workload"):
        return variables(workloads(text)[process]["env"])
    return variables(pods(text)[process]["containers"][0]["env"])


def mounted(pod: Manifest) -> dict[str, str]:
    """Return the Secrets of a pod's bindings by path."""
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    mounts = pod["containers"][0]["volumeMounts"]
    return {mount["mountPath"]: secrets[mount["name"]] for mount in mounts if mount["name"] in secrets}


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_the_keys_are_a_binding_of_api_and_page(project: Path, credentials: str) -> None:
    """The volume is not optional: without the Secret, events of the pod name it."""
    text = deployed(project, more=merged(CHOSEN, {"credentials": credentials}))
    for process in ("api", "ui"):
        assert mounted(pods(text)[process])["/bindings/api-keys"] == "image-classifier-api-keys"
        (volume,) = [entry for entry in pods(text)[process]["volumes"] if entry["name"] == "api-keys"]
        assert "optional" not in volume["secret"]
        assert environment(text, process)["AUTHENTICATION"] == "api-key"
        assert environment(text, process)["HOST"] == "0.0.0.0"  # noqa: S104
    other = deployed(project, more=merged(CHOSEN, value("app.authentication.apiKeysSecret", "keys")))
    assert mounted(pods(other)["api"])["/bindings/api-keys"] == "keys"


def test_the_answer_is_the_mode(tmp_path: Path) -> None:
    folder = generate(tmp_path / "p", appPlatform="kubernetes", authentication="oidc")
    text = deployed(folder, more=merged(CHOSEN, value("app.authentication.oidc", ISSUER)))
    assert environment(text, "api")["AUTHENTICATION"] == "oidc"


def test_only_the_page_has_the_client_of_openid_connect(project: Path) -> None:
    text = deployed(project, more=merged(CHOSEN, OIDC))
    for process in ("api", "ui"):
        assert environment(text, process)["OIDC_ISSUER"] == ISSUER["issuer"]
        assert environment(text, process)["OIDC_AUDIENCE"] == ISSUER["audience"]
        assert environment(text, process)["OIDC_ROLES_CLAIM"] == "roles"
        assert "/bindings/api-keys" not in mounted(pods(text)[process])
    assert mounted(pods(text)["ui"])["/bindings/oidc-client"] == "image-classifier-oidc-client"
    assert "/bindings/oidc-client" not in mounted(pods(text)["api"])
    assert environment(text, "ui")["PAGE_URL"] == "https://ui-image-classifier.example.com"
    assert "PAGE_URL" not in environment(text, "api")


def test_an_open_app_says_that_a_proxy_protects_it(project: Path) -> None:
    text = deployed(project, more=merged(CHOSEN, OPEN))
    assert environment(text, "api")["AUTHENTICATION"] == "none"
    assert environment(text, "api")["PROTECTED_BY_PROXY"] == "true"
    assert "PROTECTED_BY_PROXY" not in environment(deployed(project), "api")
    assert set(mounted(pods(text)["ui"])) == {"/bindings/inference-app"}


def test_a_process_answers_only_to_its_own_host_names(project: Path) -> None:
    text = deployed(project, more=merged(CHOSEN, value("app.hosts", ["models.example.com"])))
    shared = ["localhost", "127.0.0.1", "models.example.com"]
    for process, host in (("api", "image-classifier.example.com"), ("ui", "ui-image-classifier.example.com")):
        service = f"image-classifier-{process}"
        names = [service, f"{service}.ml", f"{service}.ml.svc", f"{service}.ml.svc.cluster.local"]
        assert environment(text, process)["ALLOWED_HOSTS"].split(",") == [host, *names, *shared]


def test_headers_of_proxies_count_only_behind_one(project: Path, tmp_path: Path) -> None:
    assert environment(deployed(project), "api")["FORWARDED_ALLOW_IPS"] == ""
    assert environment(deployed(project, [VALUES, PRODUCTION]), "api")["FORWARDED_ALLOW_IPS"] == "*"
    on_tap = deployed(generate(tmp_path / "p", appPlatform="tap"))
    assert environment(on_tap, "api")["FORWARDED_ALLOW_IPS"] == "*"
    # The platform's router decides about host names.
    assert environment(on_tap, "api")["ALLOWED_HOSTS"] == ""


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize(
    ("more", "processes"),
    [
        ({}, {"api-keys": {"api", "ui"}}),
        (OIDC, {"oidc-client": {"ui"}}),
        (OPEN, {}),
    ],
    ids=["api-key", "oidc", "none"],
)
def test_a_workload_claims_the_secrets_of_its_mode(
    tmp_path: Path, credentials: str, more: dict[str, Any], processes: dict[str, set[str]]
) -> None:
    """One claim per Secret, whichever processes share it."""
    folder = generate(tmp_path / "p", appPlatform="tap", credentials=credentials)
    text = deployed(folder, more=merged(CHOSEN, more))
    made = [claim["metadata"]["name"] for claim in of_kind(text, "ResourceClaim")]
    secrets = {claim["spec"]["ref"]["name"] for claim in of_kind(text, "ResourceClaim")}
    assert len(made) == len(set(made))
    claimed: dict[str, set[str]] = {}
    for process, spec in workloads(text).items():
        for claim in spec.get("serviceClaims", []):
            assert claim["ref"]["name"] in made
            claimed.setdefault(claim["name"], set()).add(process)
    database = {} if credentials == "kubernetes-secret" else {"inference-app": {"api", "ui"}}
    assert claimed == processes | database
    assert secrets == {f"image-classifier-{binding}" for binding in claimed}
    may = rules(accounts_and_app(folder, more=merged(CHOSEN, more)), "deployer")
    assert not made or ("services.apps.tanzu.vmware.com", "resourceclaims", "create") in may


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("more", [{}, OIDC, OPEN], ids=["api-key", "oidc", "none"])
def test_a_store_provides_the_secret_of_the_mode(tmp_path: Path, platform: str, more: dict[str, Any]) -> None:
    folder = generate(tmp_path / "p", appPlatform=platform, credentials="external-secrets")
    made = of_kind(deployed(folder, more=merged(CHOSEN, more)), "ExternalSecret")
    own = [secret["spec"] for secret in made if "dataFrom" in secret["spec"]]
    expected = {"api-key": ("api-keys", "api-keys"), "oidc": ("oidc-client", "oidc")}
    mode = merged(CHOSEN, more)["app"].get("authentication", {"mode": "api-key"})["mode"]
    if mode == "none":
        assert not own
        return
    (spec,) = own
    binding, kind = expected[mode]
    assert spec["target"]["name"] == f"image-classifier-{binding}"
    assert spec["dataFrom"] == [{"extract": {"key": f"image-classifier/{binding}"}}]
    assert spec["target"]["template"]["data"] == {"type": kind}
    assert spec["target"]["template"]["mergePolicy"] == "Merge"


def test_without_a_page_nothing_provides_its_client(tmp_path: Path) -> None:
    folder = generate(tmp_path / "p", appPlatform="kubernetes", credentials="external-secrets", includeUi=False)
    assert "oidc-client" not in deployed(folder, more=merged(CHOSEN, OIDC))
