"""Behaviour that Argo needs: exit statuses, the lock of a killed pod, and the end of a run."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .project import LOCAL, Project
from .servers import Database, tags, wait_until

# A change that waits while a session reads the table.
CHANGE = """--liquibase formatted sql

--changeset project:orchestrated
ALTER TABLE "${schema}".model_version ADD COLUMN orchestrated int;
--rollback ALTER TABLE "${schema}".model_version DROP COLUMN orchestrated;
"""
STEP = "deploy_inference_db"
NO_WAITING = {"LIQUIBASE_CHANGELOG_LOCK_WAIT_TIME_IN_MINUTES": "0"}
HOLD = "UPDATE {schema}.databasechangeloglock SET locked = TRUE, lockedby = %s, lockgranted = now()"
HOLDER = "SELECT lockedby FROM {schema}.databasechangeloglock WHERE locked"
FREE = "UPDATE {schema}.databasechangeloglock SET locked = FALSE, lockedby = NULL, lockgranted = NULL"
TRANSIENT = os.EX_TEMPFAIL


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Project:
    """A project whose inference database was deployed once and has no model yet."""
    project = Project.generate(work, default_project.servers, projectName="orchestrated")
    project.pipeline(STEP, PIPELINE_RUN="run-0")
    return project


@pytest.fixture
def database(project: Project) -> Iterator[Database]:
    """A session of the deploying role; Liquibase's lock is free afterwards."""
    with project.database("inference-deployer") as database:
        yield database
        database.query(FREE)


@contextlib.contextmanager
def step(project: Project, run: str) -> Iterator[subprocess.Popen[str]]:
    """Start the step in a new process group, which stands for its pod; kill the group after the block."""
    process = subprocess.Popen(
        [*LOCAL, "run", "--", "python", "-m", "pipeline", STEP],
        cwd=project.folder,
        env={**project.environment, **NO_WAITING, "PIPELINE_RUN": run},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def read(project: Project) -> Iterator[None]:
    """Keep a transaction open that reads the table for which the change waits."""
    with project.database("inference-deployer") as database:
        database.connection.autocommit = False
        database.query("LOCK TABLE {schema}.model_version IN ACCESS SHARE MODE")
        yield


def waiting_backend(database: Database, run: str, other_than: int = 0) -> int:
    """Wait until Liquibase's session of a run waits for the table; return its backend, other than `other_than`."""
    find = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock' "
        "AND query LIKE 'ALTER TABLE%%' AND pid <> %s"
    )
    return wait_until(lambda: database.query(find, (f"liquibase {run}", other_than)), 60, "Liquibase's change")[0][0]


def holder(database: Database) -> str:
    """Return the holder of Liquibase's lock, empty if it is free."""
    return "".join(name for (name,) in database.query(HOLDER))


def one_sentence(stderr: str) -> str:
    """Return the one-line message of a failed step."""
    (sentence,) = stderr.strip().splitlines()
    assert sentence.startswith("error: ")
    return sentence


def test_a_killed_deployment_is_resumed(project: Project, database: Database) -> None:
    """A step loses its session, then its pod, during a change; each retry of the run takes over the lock."""
    (project.folder / "database/inference/999-orchestrated.sql").write_text(CHANGE, encoding="utf-8")
    with read(project):
        with step(project, "run-1") as process:
            database.query("SELECT pg_terminate_backend(%s)", (waiting_backend(database, "run-1"),))
            code, _, stderr = project.end_of(process)
        assert code == TRANSIENT, stderr
        assert "terminating connection due to administrator command" in one_sentence(stderr)
        assert "#run-1 (" in holder(database)

        before = holder(database)
        assert_other_runs_wait(project, before)
        assert holder(database) == before

        with step(project, "run-1") as process:
            killed = waiting_backend(database, "run-1")
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        # The pod leaves a lock, and a session that would continue the change.
        assert "#run-1 (" in holder(database)
        assert database.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (killed,)) == 1

        with step(project, "run-1") as process:
            waiting_backend(database, "run-1", other_than=killed)
            assert database.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (killed,)) == 0
            database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessShareLock' AND granted "
                "AND relation = '{schema}.model_version'::regclass"
            )
            code, stdout, stderr = project.end_of(process)
    assert code == 0, stderr
    assert f"{STEP}: postgresql" in stdout
    assert holder(database) == ""
    assert "orchestrated" in database.value("SELECT id FROM {schema}.databasechangelog ORDER BY orderexecuted DESC")


def assert_other_runs_wait(project: Project, before: str) -> None:
    """Check that another run does not deploy while run-1 holds the lock, and that its end does not release it."""
    refused = project.pipeline(STEP, status=1, PIPELINE_RUN="run-2", **NO_WAITING)
    sentence = one_sentence(refused.stderr)
    assert f"{before} has held Liquibase's lock since 20" in sentence
    assert "`PIPELINE_RUN=run-1 ./run finish_run` releases it" in sentence
    finished = project.pipeline("finish_run", "--status", "Failed", PIPELINE_RUN="run-2")
    assert "inference database: no lock of this run" in finished.stdout


def test_an_unchanged_deployment_respects_the_lock(project: Project, database: Database) -> None:
    """A deployment without changes waits too: Liquibase alone would release the lock of another run."""
    database.query(HOLD, ("pod#run-3 (10.0.0.1)",))
    project.pipeline(STEP, status=1, PIPELINE_RUN="run-2", **NO_WAITING)
    assert holder(database) == "pod#run-3 (10.0.0.1)"


class Runs:
    """Runs in the project's experiment, as steps create them."""

    def __init__(self, project: Project) -> None:
        self.tracking = project.servers.tracking
        self.schema = project.schema
        self.experiment = self.tracking.get("experiments/get-by-name", experiment_name=self.schema)["experiment"]

    def make(self, **tags_of_run: str) -> str:
        """Create a run with status RUNNING and these tags."""
        fields = [{"key": key.replace("__", "."), "value": value} for key, value in tags_of_run.items()]
        response = self.tracking.send(
            "POST", "runs/create", experiment_id=self.experiment["experiment_id"], tags=fields
        )
        return response["run"]["info"]["run_id"]

    def end(self, run: str, status: str) -> None:
        """Set the status of a run, as its step does."""
        self.tracking.send("POST", "runs/update", run_id=run, status=status)

    def look(self, run: str) -> tuple[str, dict[str, str]]:
        """Return a run's status and tags."""
        entity: dict[str, Any] = self.tracking.get("runs/get", run_id=run)["run"]
        return entity["info"]["status"], tags(entity)

    def count(self) -> int:
        """Return how many runs the experiment has."""
        return len(self.tracking.runs(self.schema))


def test_end_of_a_run(project: Project, database: Database) -> None:
    """finish_run ends the run's parent and open children in MLflow and releases its lock; other runs stay."""
    runs = Runs(project)
    parent, another = runs.make(pipeline_run="run-4"), runs.make(pipeline_run="run-5")
    killed, failed = runs.make(mlflow__parentRunId=parent), runs.make(mlflow__parentRunId=parent)
    foreign = runs.make(mlflow__parentRunId=another)
    runs.end(failed, "FAILED")
    database.query(HOLD, ("pod#run-4 (10.0.0.1)",))
    before = runs.count()
    output = project.pipeline("finish_run", "--status", "Error", PIPELINE_RUN="run-4").stdout
    assert "finish_run: run run-4 ended as Error; " in output
    assert "inference database: lock released; MLflow's run is FAILED, 1 of its steps KILLED" in output
    assert runs.look(parent)[0] == "FAILED"
    assert runs.look(parent)[1]["status"] == "Error"
    assert [runs.look(run)[0] for run in (killed, failed)] == ["KILLED", "FAILED"]
    assert [runs.look(run)[0] for run in (another, foreign)] == ["RUNNING", "RUNNING"]
    assert holder(database) == ""
    assert "MLflow has no run of that name" in project.pipeline("finish_run", PIPELINE_RUN="run-6").stdout
    assert runs.count() == before


def closed_port() -> str:
    """Return a port without a listener."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def changed_bindings(project: Project, folder: Path, **keys: str) -> dict[str, str]:
    """Copy the bindings, change keys of inference-deployer, and return the variable that names the copy."""
    shutil.copytree(project.servers.bindings, folder / "bindings")
    for key, value in keys.items():
        (folder / "bindings" / "inference-deployer" / key).write_text(value)
    return {"SERVICE_BINDING_ROOT": str(folder / "bindings")}


@pytest.mark.parametrize(
    ("keys", "status", "message"),
    [
        ({"password": "wrong"}, 1, "password authentication failed"),
        ({"database": "nowhere"}, 1, 'database "nowhere" does not exist'),
        ({"port": ""}, TRANSIENT, "Connection refused"),
    ],
)
def test_exit_status_of_a_database(
    project: Project, tmp_path: Path, keys: dict[str, str], status: int, message: str
) -> None:
    """An error that a person must fix is 1, a server that may come back is 75; both have a one-line message."""
    changed_keys = {key: value or closed_port() for key, value in keys.items()}
    completed = project.pipeline(STEP, status=status, **changed_bindings(project, tmp_path, **changed_keys))
    assert message in one_sentence(completed.stderr)


def test_exit_status_of_mlflow(project: Project) -> None:
    """An unreachable tracking server is 75, an unknown version is 1."""
    unreachable = project.pipeline(STEP, status=TRANSIENT, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{closed_port()}")
    assert "does not answer" in one_sentence(unreachable.stderr)
    unknown = project.pipeline("promote_model", "--version", "99", status=1)
    assert "MLflow has no version 99" in one_sentence(unknown.stderr)


def test_end_of_a_run_without_a_database(project: Project, database: Database, tmp_path: Path) -> None:
    """MLflow's run is finished; the exit status 75 makes Argo retry the end."""
    runs = Runs(project)
    parent = runs.make(pipeline_run="run-7")
    unreachable = changed_bindings(project, tmp_path, port=closed_port())
    completed = project.pipeline(
        "finish_run", "--status", "Succeeded", status=TRANSIENT, PIPELINE_RUN="run-7", **unreachable
    )
    assert "inference-deployer: postgresql localhost:" in one_sentence(completed.stderr)
    assert runs.look(parent)[0] == "FINISHED"
    database.query(HOLD, ("pod#run-7 (10.0.0.1)",))
    project.pipeline("finish_run", "--status", "Succeeded", PIPELINE_RUN="run-7")
    assert holder(database) == ""
