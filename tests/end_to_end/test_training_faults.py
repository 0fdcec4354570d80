"""Trainings that are killed, stopped or started twice: each continues with the same result."""

import os
import re
import signal
import time
from typing import Any

import psycopg2
import pytest

from .conftest import UNDISTURBED, training
from .project import Project
from .servers import Database, wait_until

# A backend that trains now, for how many seconds, and the committed epochs of the run, in one query.
FITTING = """
SELECT a.pid, extract(epoch FROM clock_timestamp() - a.query_start)::float8,
       (SELECT count(*) FROM {schema}.training_epoch WHERE run_hash = r.run_hash)
FROM pg_stat_activity AS a, {schema}.training_run AS r
WHERE a.state = 'active' AND a.query LIKE 'SELECT "long_epochs".fit(%' AND r.parameters::json ->> 'run' = '{number}'
"""
# Seconds after which a training is inside an epoch and far from its end.
INSIDE = 0.3


def in_mid_epoch(database: Database, run: int, minimum: int = 1) -> tuple[int, int]:
    """Wait until the run is inside an epoch after `minimum` committed ones; return backend and committed epochs."""

    def look() -> tuple[int, int] | None:
        for backend, seconds, committed in database.query(FITTING.replace("{number}", str(run))):
            if committed >= minimum and seconds > INSIDE:
                return backend, committed
        return None

    return wait_until(look, 120, f"epoch {minimum + 1} of run {run}")


def commits(project: Project, run: int) -> list[tuple[Any, ...]]:
    """Return each epoch and the time of its commit."""
    return project.training_runs(
        "SELECT epoch, committed_at FROM {schema}.training_epoch WHERE run_hash = {run} ORDER BY epoch", run
    )


def commits_or_nothing(project: Project, run: int) -> tuple[list[tuple[Any, ...]]] | None:
    """Return the commits, None while the server ends its sessions."""
    try:
        return (commits(project, run),)
    except psycopg2.OperationalError:
        return None


def status(project: Project, run: int) -> tuple[str, str | None]:
    """Return a run's status and error."""
    ((run_status, error),) = project.training_runs(
        "SELECT status, error FROM {schema}.training_run WHERE run_hash = {run}", run
    )
    return run_status, error


def assert_same_result(project: Project, run: int, epochs: int = 3) -> None:
    """Check that a run finished with the metrics of the undisturbed run."""
    assert status(project, run) == ("finished", None)
    expected = project.epochs(UNDISTURBED)[:epochs]
    committed = project.epochs(run)
    assert [row[0] for row in committed] == list(range(1, epochs + 1))
    for row, undisturbed in zip(committed, expected, strict=True):
        assert row == pytest.approx(undisturbed, rel=1e-3)


def finish(project: Project, run: int, epochs: int = 3) -> str:
    """Run the same command again and return its output."""
    return project.pipeline(*training(run, epochs)).stdout


def printed_epochs(output: str) -> list[int]:
    """Return the numbers of the epochs in the output of a training."""
    return [int(number) for number in re.findall(r"^epoch +(\d+)/", output, re.MULTILINE)]


def test_a_watched_training_shows_the_rows_done(long_epochs: Project) -> None:
    """While the statement of an epoch runs, the step prints its rows and rows per second."""
    command = ("train_model", "--batch_size", "1", "--epochs", "1", "--run", "120")
    with long_epochs.started(*command, STEP_IS_WATCHED="1") as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        pattern = r"train_model: \d+ s, epoch 1: [\d,]+ of [\d,]+ rows, [\d,]+ rows per second"
        assert any(re.fullmatch(pattern, line.strip()) for line in lines)


def test_killed_backend(long_epochs: Project) -> None:
    """After `kill -9` of the backend during an epoch, the command reconnects and gets the same result."""
    with long_epochs.started(*training(102)) as process:
        with long_epochs.database("training-deployer") as database:
            backend, committed = in_mid_epoch(database, 102)
            os.kill(backend, signal.SIGKILL)
        # The first query after the server's restart: the killed epoch left no row.
        (before,) = wait_until(lambda: commits_or_nothing(long_epochs, 102), 60, "the server's restart")
        assert len(before) == committed < 3
        code, stdout, stderr = long_epochs.end_of(process)
    assert code == 0, stderr
    assert "went away" in stderr
    assert printed_epochs(stdout) == [1, 2, 3]
    assert f"resuming after epoch {committed}" in stdout
    assert commits(long_epochs, 102)[:committed] == before
    assert_same_result(long_epochs, 102)


def test_killed_client(long_epochs: Project) -> None:
    """After `kill -9` of the client, its session ends, and the same command continues after the last epoch."""
    with long_epochs.database("training-deployer") as database:
        with long_epochs.started(*training(103)) as process:
            backend, committed = in_mid_epoch(database, 103)
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            process.communicate()
        no_backend = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {backend}".replace(
            "{backend}", str(backend)
        )
        wait_until(lambda: database.value(no_backend), 20, "the end of the killed client's statement")
    log = (long_epochs.servers.state / "training" / "log").read_text(errors="replace")
    # The server notices at its check of the connection, or when it sends a notice of the rows done.
    assert any(f"[{backend}]" in line and "connection to client lost" in line for line in log.splitlines())
    assert time.monotonic() - killed < 20
    before = commits(long_epochs, 103)
    assert len(before) == committed
    assert status(long_epochs, 103) == ("running", None)
    assert printed_epochs(finish(long_epochs, 103)) == list(range(committed + 1, 4))
    assert commits(long_epochs, 103)[:committed] == before
    assert_same_result(long_epochs, 103)


def test_two_trainings_at_once(long_epochs: Project) -> None:
    """The second of two trainings reports that it waits; both finish with equal metrics."""
    with (
        long_epochs.started(*training(104, 2)) as first,
        long_epochs.started(*training(105, 2)) as second,
    ):
        ends = [long_epochs.end_of(process) for process in (first, second)]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert ["waiting for its end" in stderr for _, _, stderr in ends].count(True) == 1
    for run in (104, 105):
        assert_same_result(long_epochs, run, 2)


def test_ctrl_c(long_epochs: Project) -> None:
    """Ctrl-C stops a training at once with one line and the reason in the database; the next run continues it."""
    with (
        long_epochs.started(*training(106, 2)) as process,
        long_epochs.database("training-deployer") as database,
    ):
        in_mid_epoch(database, 106)
        process.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        code, stdout, stderr = long_epochs.end_of(process, 30)
    assert time.monotonic() - interrupted < 10
    assert code not in (0, -signal.SIGINT)
    assert stderr.strip().splitlines() == ["stopped; the same command goes on where it stopped"]
    assert "Traceback" not in stdout
    assert status(long_epochs, 106) == ("failed", "stopped by a person")
    assert printed_epochs(finish(long_epochs, 106, 2)) == [2]
    assert_same_result(long_epochs, 106, 2)


def test_too_high_learning_rate(long_epochs: Project) -> None:
    """A training that diverges fails with the fix, is recorded as failed, and leaves no epoch."""
    sentence = long_epochs.refuses("train_model", "--learning_rate", "1e9", "--run", "107")
    assert "lower learning_rate" in sentence
    run_status, error = status(long_epochs, 107)
    assert run_status == "failed"
    assert error is not None
    assert "lower learning_rate" in error
    assert long_epochs.epochs(107) == []


def test_a_parameter_outside_its_range(long_epochs: Project) -> None:
    """It is refused with a one-line message, and no run is recorded; the project's test_settings.py has the others."""
    count = "SELECT count(*) FROM {schema}.training_run"
    with long_epochs.database("trainer") as database:
        before = database.value(count)
        assert "learning_rate is nan" in long_epochs.refuses("train_model", "--learning_rate", "nan")
        assert database.value(count) == before


def test_finished_run_is_not_trained_again(long_epochs: Project) -> None:
    """The same command after the end of a run trains nothing and reports that."""
    before = commits(long_epochs, UNDISTURBED)
    assert "was trained before" in finish(long_epochs, UNDISTURBED)
    assert commits(long_epochs, UNDISTURBED) == before
