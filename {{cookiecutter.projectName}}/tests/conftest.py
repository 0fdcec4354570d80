"""Fixtures: a clean environment, bindings, and the project trained for one epoch and deployed, with sessions."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline import databases, doctor, liquibase, lock_file, run_identity, settings

VARIABLES = ("PIPELINE_RUN", "MODEL_STAGE", "ENVIRONMENT_LOCK", "GIT_COMMIT", "STEP_OUTPUTS", "JAVA_OPTS")


@pytest.fixture
def clean_environment(monkeypatch) -> Iterator[None]:
    """An environment without an orchestrator's variables, and empty caches before and after the test."""
    for name in (*VARIABLES, liquibase.WAIT_MINUTES):
        monkeypatch.setenv(name, "")  # monkeypatch then restores what the test sets
        monkeypatch.delenv(name)
    clear_caches()
    yield
    clear_caches()


def clear_caches() -> None:
    """Empty the caches of values that come from the environment."""
    settings.settings.cache_clear()
    run_identity.git_commit.cache_clear()
    lock_file.require_own_lock.cache_clear()
    doctor.mlflow_server.cache_clear()
    databases.binding.cache_clear()


@pytest.fixture
def closed_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def bindings(tmp_path, monkeypatch) -> pathlib.Path:
    """An empty folder for the test's own bindings."""
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    return tmp_path


def run_pipeline(*arguments: str) -> str:
    """Run `python -m pipeline …` and return its output. Fails on another exit status than 0."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.fixture(scope="session")
def deployed() -> None:
    """Train for one epoch and deploy the result; it is promoted by version, whatever its accuracy."""
    assert os.environ.get("SERVICE_BINDING_ROOT"), "no servers: run `make test`"
    steps = "deploy_training_code deploy_training_db upload_dataset train_model --epochs 1 evaluate_model promote_model"
    run_pipeline(*steps.split())
    run_pipeline("promote_model", "--version", "1", "--stage", settings.settings().promotion_stage)
    run_pipeline("deploy_inference_db")


@pytest.fixture
def app(deployed):
    """A session of the app's role."""
    yield from _session("inference-app")


@pytest.fixture
def trainer(deployed):
    """A session of the trainer's role."""
    yield from _session("trainer")


@pytest.fixture
def deployer(deployed):
    """A session of the role that deploys the inference database."""
    yield from _session("inference-deployer")


def _session(binding: str):
    connection = databases.connect(binding)
    connection.autocommit = True
    yield connection
    connection.close()
