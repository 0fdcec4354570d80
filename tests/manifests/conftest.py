"""Projects whose manifests are rendered."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from tools import doors

CREDENTIALS = ["service-binding", "external-secrets", "kubernetes-secret"]
PLATFORMS = ["tap", "kubernetes"]


def generate(place: Path, **answers: object) -> Path:
    """Generate a project with these answers, and the defaults for the others."""
    folder = doors.accelerator(ROOT, answers, place).folder
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose app runs on plain Kubernetes; no test changes it."""
    return generate(tmp_path_factory.mktemp("manifests") / "p", appPlatform="kubernetes")


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(project, tmp_path / "copied"))
