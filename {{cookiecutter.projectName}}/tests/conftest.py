"""Fixtures of tests on servers: the project, trained for one epoch and deployed, and sessions of its roles."""

import os
import subprocess
import sys

import pytest

from pipeline.databases import connect
from pipeline.settings import settings


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
    run_pipeline("promote_model", "--version", "1", "--stage", settings().promotion_stage)
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
    connection = connect(binding)
    connection.autocommit = True
    yield connection
    connection.close()
