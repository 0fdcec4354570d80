"""Service accounts and their rights, and the names of Secrets."""

from pathlib import Path

import pytest
from tools.manifests import CHOSEN, accounts_and_app, deployed, merged, objects, of_kind

from .conftest import CREDENTIALS, PLATFORMS, generate
from .lookups import pods, rules

# Each test renders manifests.
pytestmark = pytest.mark.slow
PLURALS = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_the_deployer_may_deploy_the_rendered_kinds_and_no_others(
    tmp_path: Path, platform: str, credentials: str
) -> None:
    project = generate(tmp_path / "p", appPlatform=platform, credentials=credentials)
    ingress = merged(CHOSEN, {"app": {"ingress": {"enabled": True}}})
    may = {(group, resource) for group, resource, _ in rules(accounts_and_app(project, more=ingress), "deployer")}
    needed = {("", "configmaps")}
    for manifest in objects(deployed(project, more=ingress)):
        group = manifest["apiVersion"].rpartition("/")[0]
        plural = PLURALS.get(manifest["kind"], manifest["kind"].lower() + "s")
        if manifest["kind"] != "Config":
            needed.add((group, plural))
    assert may == needed


def test_pods_may_report_and_monitoring_may_start_a_run(project: Path) -> None:
    text = accounts_and_app(project)
    report = {("argoproj.io", "workflowtaskresults", verb) for verb in ("create", "patch")}
    assert rules(text, "pipeline") == report
    assert rules(text, "monitor") == report | {("argoproj.io", "workflows", "create")}
    assert not of_kind(text, "ClusterRole")
    assert not of_kind(text, "ClusterRoleBinding")


def test_without_monitoring_there_is_no_account_for_it(tmp_path: Path) -> None:
    text = accounts_and_app(generate(tmp_path / "p", includeMonitoring=False))
    names = {manifest["metadata"]["name"] for manifest in objects(text)}
    assert not [name for name in names if name.endswith("-monitor")]


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("https://git.example.com/a/b.git", {"usernameSecret": "username", "passwordSecret": "password"}),
        ("ssh://git@git.example.com/a/b.git", {"sshPrivateKeySecret": "ssh-privatekey"}),
    ],
)
def test_a_private_repository_is_read_with_a_named_secret(project: Path, url: str, keys: dict[str, str]) -> None:
    more = merged(CHOSEN, {"git": {"url": url, "secret": "repository"}})
    (app,) = of_kind(accounts_and_app(project, more=more), "App")
    assert app["spec"]["fetch"][0]["git"]["secretRef"] == {"name": "repository"}
    for template in pods(deployed(project, more=more)).values():
        (source,) = template["inputs"]["artifacts"]
        assert {name: source["git"][name] for name in keys} == {
            name: {"name": "repository", "key": key} for name, key in keys.items()
        }


def test_no_secret_is_rendered(project: Path) -> None:
    """Manifests name Secrets and never contain one."""
    for more in (CHOSEN, merged(CHOSEN, {"credentials": "kubernetes-secret"})):
        assert not of_kind(deployed(project, more=more) + "\n---\n" + accounts_and_app(project, more=more), "Secret")
