"""Liquibase: its errors, and the lock that it holds during a deployment."""

import os
import pathlib

import pytest
from fake_servers import write_binding, write_program

from pipeline import liquibase
from pipeline.databases import query
from pipeline.errors import StepError, TemporaryError

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(name="program")
def _program(bindings, monkeypatch) -> pathlib.Path:
    """The path of a fake `liquibase`, with a binding for it."""
    write_binding(bindings, "inference-deployer")
    folder = bindings / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "liquibase"


@pytest.mark.parametrize("java_opts", [None, "-Xmx256m"])
def test_liquibases_lock_and_sessions_name_the_run(program, monkeypatch, java_opts) -> None:
    write_program(program, 'echo "$JAVA_OPTS|$LIQUIBASE_COMMAND_URL"')
    monkeypatch.setenv("PIPELINE_RUN", "x" * 50 + "-ver-1-1763740000")
    if java_opts:
        monkeypatch.setenv("JAVA_OPTS", java_opts)
    options, url = liquibase.run("inference-deployer", "database/inference", "update").strip().split("|")
    assert options.split() == [
        *([java_opts] if java_opts else liquibase.JAVA_OPTS.split()),
        f"-Dliquibase.hostDescription={os.environ['PIPELINE_RUN']}",
    ]
    # PostgreSQL cuts a name after 63 characters.
    assert "ApplicationName=liquibase%20xxx" in url
    assert len(liquibase._session_name()) <= 63
    assert liquibase._session_name().endswith("-ver-1-1763740000")


def test_java_reads_paths_in_utf_8(program, monkeypatch) -> None:
    """In the locale C, it would not find a changelog below a folder such as /home/jürg."""
    monkeypatch.setenv("LC_ALL", "C")
    write_program(program, 'echo "$LC_ALL"')
    assert liquibase.run("inference-deployer", "database/inference", "update").strip() == "C.UTF-8"


@pytest.mark.parametrize(
    ("message", "exception"),
    [
        ("Exception Primary Reason:  FATAL: terminating connection due to administrator command", TemporaryError),
        ("Exception Primary Reason:  FATAL: the database system is starting up", TemporaryError),
        ("Caused by: org.postgresql.util.PSQLException: An I/O error occurred while sending to the", TemporaryError),
        ("Exception Primary Reason:  Connection to db:5432 refused. Check that the hostname", TemporaryError),
        ("Exception Primary Reason:  ERROR: permission denied for schema public", StepError),
        ('Exception Primary Reason:  FATAL: password authentication failed for user "u"', StepError),
    ],
)
def test_a_lost_database_of_liquibase_is_temporary(program, message, exception) -> None:
    write_program(program, f"echo '{message}' >&2", "exit 1")
    with pytest.raises(StepError, match=r"^liquibase update on postgresql .* failed: ") as raised:
        liquibase.run("inference-deployer", "database/inference", "update")
    assert type(raised.value) is exception


def test_take_turn_waits_for_another_run(bindings, monkeypatch, capsys) -> None:
    lock = liquibase.Lock("vm#other-run (10.0.0.7)", "2026-11-21 10:00:00")
    locks = iter([lock, lock, None])
    write_binding(bindings, "inference-deployer")
    monkeypatch.setattr(liquibase, "release_own_lock", lambda name: False)
    monkeypatch.setattr(liquibase, "_lock", lambda name: next(locks))
    monkeypatch.setattr(liquibase.time, "sleep", lambda seconds: None)
    liquibase.take_turn("inference-deployer")
    assert next(locks, "seen to the end") == "seen to the end"
    assert capsys.readouterr().err.count("waiting for vm#other-run (10.0.0.7), deploying since 2026-11-21") == 1


@pytest.mark.parametrize(
    ("holder", "fix"),
    [
        ("vm#other-run (10.0.0.7)", "`PIPELINE_RUN=other-run ./run finish_run` releases it"),
        ("laptop (10.0.0.7)", "Liquibase's release-locks releases it"),
    ],
)
def test_waiting_too_long_names_the_holder_and_the_fix(bindings, monkeypatch, holder, fix) -> None:
    write_binding(bindings, "inference-deployer")
    monkeypatch.setenv(liquibase.WAIT_MINUTES, "0")
    monkeypatch.setattr(liquibase, "release_own_lock", lambda name: False)
    monkeypatch.setattr(liquibase, "_lock", lambda name: liquibase.Lock(holder, "2026-11-21 10:00:00"))
    with pytest.raises(StepError) as raised:
        liquibase.take_turn("inference-deployer")
    assert f"{holder} has held Liquibase's lock since 2026-11-21 10:00:00; if that run has ended" in str(raised.value)
    assert fix in str(raised.value)
    monkeypatch.setenv(liquibase.WAIT_MINUTES, "soon")
    with pytest.raises(StepError, match="is 'soon'; allowed is a whole number of minutes"):
        liquibase.take_turn("inference-deployer")


HOLD = "UPDATE {schema}.databasechangeloglock SET locked = TRUE, lockedby = %s, lockgranted = now()"

HELD = "SELECT locked, lockedby FROM {schema}.databasechangeloglock"


@pytest.mark.servers
@pytest.mark.parametrize(
    ("holder", "released"),
    [
        ("vm#run-1 (10.0.0.7)", True),
        ("vm#run-12 (10.0.0.7)", False),
        ("vm#a-run-1 (10.0.0.7)", False),
        ("vm#runs1 (10.0.0.7)", False),
        ("vm (10.0.0.7)", False),
    ],
)
def test_only_the_runs_own_lock_is_released(deployer, monkeypatch, holder, released) -> None:
    monkeypatch.setenv("PIPELINE_RUN", "run-1")
    query(deployer, HOLD, (holder,))
    try:
        assert liquibase.release_own_lock("inference-deployer") is released
        assert query(deployer, HELD) == [(False, None) if released else (True, holder)]
    finally:
        query(deployer, "UPDATE {schema}.databasechangeloglock SET locked = FALSE, lockedby = NULL, lockgranted = NULL")
