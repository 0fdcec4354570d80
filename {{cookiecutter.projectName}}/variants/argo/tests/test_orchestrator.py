"""`./run doctor` names a vulnerable version of Argo Workflows; a program in place of kubectl answers."""

import pathlib

import pytest

from pipeline import doctor, orchestrator

IMAGE = "quay.io/argoproj/workflow-controller"


@pytest.fixture(autouse=True)
def _anew() -> None:
    doctor.controllers.cache_clear()


def use_kubectl(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path, script: str) -> None:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("tag", "is_there"),
    [
        ("v3.6.19", False),
        ("v3.7.14", False),
        ("v3.7.15", True),
        ("v3.8.0", True),
        ("v4.0.5", False),
        ("v4.0.6", True),
        ("v4.1.0@sha256:12", True),
        ("v5.0.0", True),
    ],
)
def test_a_version_is_compared_with_the_first_fixed_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, tag: str, is_there: bool
) -> None:
    use_kubectl(monkeypatch, tmp_path, f"echo registry.example.com/other:1 {IMAGE}:{tag}")
    finding = doctor.controllers()
    assert (finding.name, finding.is_there) == ("Argo Workflows", is_there)
    assert tag.lstrip("v").partition("@")[0] in finding.detail
    assert "3.7.15 or 4.0.6" in finding.fix


def test_the_outdated_one_of_two_controllers_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    use_kubectl(monkeypatch, tmp_path, f"echo {IMAGE}:v3.7.4 {IMAGE}:v4.0.6")
    finding = doctor.controllers()
    assert (finding.is_there, finding.detail) == (False, "3.7.4")


@pytest.mark.parametrize("script", ["exit 1", f"echo {IMAGE}:latest", "echo other:3.7.4"])
def test_nothing_is_reported_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, script: str
) -> None:
    use_kubectl(monkeypatch, tmp_path, script)
    finding = doctor.controllers()
    assert finding.is_there
    assert finding.detail.startswith("not checked")


def test_nothing_is_reported_without_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert orchestrator.controllers()[0]


def test_a_cluster_that_does_not_answer_ends_the_check(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(orchestrator, "SECONDS", 0.1)
    use_kubectl(monkeypatch, tmp_path, "exec sleep 30")
    assert doctor.controllers().detail.startswith("not checked")
