"""Projects for Kubeflow and Argo, and the compiled pipelines."""

import shutil
from pathlib import Path

import pytest

from .pipelines import Pipeline, compiled, generate


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project for Kubeflow, which no test changes."""
    return generate(tmp_path_factory.mktemp("kubeflow") / "p", orchestrator="kubeflow", appPlatform="kubernetes")


@pytest.fixture(scope="session")
def of_argo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project for Argo."""
    return generate(tmp_path_factory.mktemp("argo") / "p", appPlatform="kubernetes")


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(project, tmp_path / "copied"))


@pytest.fixture(scope="session")
def train(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The training pipeline."""
    return compiled(project, tmp_path_factory.mktemp("train"), "train")


@pytest.fixture(scope="session")
def monitor(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The monitoring pipeline."""
    return compiled(project, tmp_path_factory.mktemp("monitor"), "monitor")
