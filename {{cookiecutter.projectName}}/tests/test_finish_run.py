"""The end of a run: its locks and its status in MLflow; an error in one part does not stop the others."""

import shutil

import psycopg2
import psycopg2.errors
import pytest
from fake_servers import write_binding

from pipeline import liquibase, tracking
from pipeline.errors import StepError, TemporaryError
from pipeline.steps import finish_run

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(name="parts")
def _parts(bindings, monkeypatch) -> dict:
    """Fake parts of a run to finish: the calls of each part (`calls`), and its answer or error."""
    for name in ("training-deployer", "inference-deployer"):
        write_binding(bindings, name)
    parts = {"calls": [], "training-deployer": True, "inference-deployer": False, "MLflow": "MLflow's run is FAILED"}

    def answer(part: str, *arguments: str):
        parts["calls"].append((part, *arguments))
        if isinstance(parts[part], Exception):
            raise parts[part]
        return parts[part]

    monkeypatch.setattr(liquibase, "release_own_lock", answer)
    monkeypatch.setattr(finish_run, "end_pipeline_run", lambda *arguments: answer("MLflow", *arguments))
    monkeypatch.setenv("PIPELINE_RUN", "run-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    return parts


ALL_PARTS = [("training-deployer",), ("inference-deployer",), ("MLflow", "run-1", "Failed")]


def test_finish_run_reports_in_one_line(parts) -> None:
    assert finish_run.run("Failed") == (
        "run run-1 ended as Failed; training database: lock released; inference database: no lock of this run; "
        "MLflow's run is FAILED"
    )
    assert parts["calls"] == ALL_PARTS


@pytest.mark.parametrize("part", ["training-deployer", "inference-deployer", "MLflow"])
@pytest.mark.parametrize(
    ("error", "exception"),
    [
        (TemporaryError("it does not answer"), TemporaryError),
        (psycopg2.OperationalError("it is starting up"), TemporaryError),
        (StepError("it refuses"), StepError),
        (psycopg2.errors.InsufficientPrivilege("it denies"), StepError),
    ],
)
def test_an_error_in_one_part_does_not_stop_the_others(parts, part, error, exception) -> None:
    parts[part] = error
    with pytest.raises(StepError, match=f"^run run-1 ended as Failed; .*{error}") as raised:
        finish_run.run("Failed")
    assert type(raised.value) is exception
    assert parts["calls"] == ALL_PARTS


def test_parts_without_an_address_are_left_alone(parts, bindings, monkeypatch) -> None:
    shutil.rmtree(bindings / "training-deployer")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    message = finish_run.run("")
    assert message.startswith("run run-1 ended; training database left alone (")
    assert message.endswith(
        "inference database: no lock of this run; MLflow left alone (MLFLOW_TRACKING_URI is not set)"
    )
    assert parts["calls"] == [("inference-deployer",)]


def test_an_unknown_status_is_refused(parts) -> None:
    with pytest.raises(StepError, match=r"^status is 'Running'; allowed is Succeeded, Failed, Error or nothing$"):
        finish_run.run("Running")
    assert parts["calls"] == []


@pytest.mark.parametrize(
    ("before", "status", "after"),
    [
        ("FINISHED", "Succeeded", "FINISHED"),
        ("FAILED", "Succeeded", "FINISHED"),
        ("FINISHED", "Failed", "FAILED"),
        ("RUNNING", "Error", "FAILED"),
        ("RUNNING", "", "KILLED"),
        ("FAILED", "", "FAILED"),
    ],
)
def test_the_orchestrators_status_decides_the_runs_last_status(before, status, after) -> None:
    assert tracking._last_status(before, status) == after
