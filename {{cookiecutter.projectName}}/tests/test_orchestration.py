"""The contract with an orchestrator: exit statuses, the image's lock file, run names, locks, the end of a run."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import socketserver
import struct
import subprocess
import threading

import psycopg2
import psycopg2.errors
import pytest

from pipeline import __main__ as command
from pipeline import databases, doctor, liquibase, lock_file, outcomes, run_identity, settings, tracking
from pipeline.databases import query
from pipeline.errors import StepError, TemporaryError
from pipeline.steps import finish_run

VARIABLES = ("PIPELINE_RUN", "MODEL_STAGE", "ENVIRONMENT_LOCK", "GIT_COMMIT", "STEP_OUTPUTS", "JAVA_OPTS")


@pytest.fixture(autouse=True)
def _unset(monkeypatch) -> None:
    for name in (*VARIABLES, liquibase.WAIT_MINUTES):
        monkeypatch.setenv(name, "")  # monkeypatch then restores what the test sets
        monkeypatch.delenv(name)
    for cached in (settings.settings, run_identity.git_commit, lock_file.require_own_lock, doctor.mlflow_server):
        cached.cache_clear()
    databases.binding.cache_clear()
    yield
    settings.settings.cache_clear()
    run_identity.git_commit.cache_clear()
    doctor.mlflow_server.cache_clear()
    databases.binding.cache_clear()


@contextlib.contextmanager
def serving(handler: type):
    """Run a server on a free port, and yield the port."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(name="closed_port")
def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (StepError("project.yaml is wrong"), 1, "error: project.yaml is wrong"),
        (TemporaryError("the database is away"), 75, "error: the database is away"),
        (psycopg2.errors.UndefinedTable('no table "a"'), 1, 'error: the database refused: no table "a"'),
        (psycopg2.InterfaceError("connection already closed"), 75, "error: the database went away: connection already"),
        (psycopg2.OperationalError("server closed it\nmore"), 75, "error: the database went away: server closed it"),
        (KeyboardInterrupt(), 1, "stopped; the same command goes on where it stopped"),
    ],
)
def test_a_failure_is_one_sentence_and_a_status(monkeypatch, capsys, error, status, message) -> None:
    def failing(**_: object) -> None:
        raise error

    monkeypatch.setattr(command, "command_line", lambda: failing)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    # The interpreter prints an exit code that is text, and exits with status 1.
    code = stopped.value.code
    sentence = code if isinstance(code, str) else capsys.readouterr().err.strip()
    assert (1 if isinstance(code, str) else code) == status
    assert sentence.startswith(message)
    assert "\n" not in sentence


def write_binding(folder: pathlib.Path, name: str, **keys: str) -> None:
    (folder / name).mkdir()
    contents = {"type": "postgresql", "provider": "local", "host": "127.0.0.1", "port": "1", "database": "d"}
    for key, value in {**contents, "username": "u", "password": "p", "sslmode": "disable", **keys}.items():
        (folder / name / key).write_text(value, encoding="utf-8")


@pytest.fixture(name="bindings")
def _bindings(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    return tmp_path


def refusing_database(code: str, message: str) -> type:
    """Return a handler of PostgreSQL's protocol up to its first answer: FATAL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!i", self.request.recv(4))
            self.request.recv(length - 4)
            if message:
                fields = "".join(f"{key}{text}\0" for key, text in zip("SVCM", ("FATAL", "FATAL", code, message)))
                self.request.sendall(b"E" + struct.pack("!i", len(fields) + 5) + fields.encode() + b"\0")

    return Handler


@pytest.mark.parametrize(
    ("code", "message", "exception"),
    [
        ("28P01", 'password authentication failed for user "u"', StepError),
        ("3D000", 'database "d" does not exist', StepError),
        ("28000", 'no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption', StepError),
        ("42501", 'permission denied for database "d"', StepError),
        ("53300", "sorry, too many clients already", TemporaryError),
        ("53300", 'too many connections for role "u"', TemporaryError),
        ("57P01", "terminating connection due to administrator command", TemporaryError),
        ("", "", TemporaryError),  # it closes the connection
        # A caller that can wait tries again, as train_model does.
        ("57P03", "the database system is starting up", psycopg2.OperationalError),
        ("57P03", "the database system is shutting down", psycopg2.OperationalError),
        ("57P03", "the database system is in recovery mode", psycopg2.OperationalError),
        ("57P03", "the database system is not yet accepting connections", psycopg2.OperationalError),
    ],
)
def test_away_and_refusing_databases_raise_different_errors(bindings, code, message, exception) -> None:
    with serving(refusing_database(code, message)) as port:
        write_binding(bindings, "trainer", port=str(port))
        with pytest.raises((StepError, psycopg2.Error)) as raised:
            databases.connect("trainer")
    assert type(raised.value) is exception
    assert databases.may_pass(raised.value) is (exception is not StepError)
    assert message in str(raised.value)


def test_a_closed_port_may_open(bindings, closed_port) -> None:
    write_binding(bindings, "trainer", port=str(closed_port))
    with pytest.raises(TemporaryError, match=rf"127\.0\.0\.1:{closed_port}/d does not answer: .* refused"):
        databases.connect("trainer")


def test_the_last_address_decides(bindings, monkeypatch) -> None:
    def refused(*_, **__):
        raise psycopg2.OperationalError(
            'connection to server at "h" (::1), port 1 failed: Connection refused\n\tIs the server running?\n'
            'connection to server at "h" (127.0.0.1), port 1 failed: FATAL:  password authentication failed\n'
        )

    write_binding(bindings, "trainer")
    monkeypatch.setattr(psycopg2, "connect", refused)
    with pytest.raises(StepError, match="password authentication failed") as raised:
        databases.connect("trainer")
    assert not isinstance(raised.value, TemporaryError)


def tracking_server(status: int, body: str) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_) -> None:
            pass

    return Handler


def error_body(code: str) -> str:
    return json.dumps({"error_code": code, "message": "no"})


@pytest.mark.parametrize(
    ("status", "body", "exception"),
    [
        (400, error_body("INVALID_PARAMETER_VALUE"), StepError),
        (401, "who are you?", StepError),
        (403, error_body("PERMISSION_DENIED"), StepError),
        (404, error_body("RESOURCE_DOES_NOT_EXIST"), StepError),
        (404, "<html>", StepError),
        (200, "<html>", StepError),
        (429, error_body("REQUEST_LIMIT_EXCEEDED"), TemporaryError),
        (500, error_body("INTERNAL_ERROR"), TemporaryError),
        (502, "<html>", TemporaryError),
        (503, error_body("TEMPORARILY_UNAVAILABLE"), TemporaryError),
    ],
)
def test_away_and_refusing_tracking_servers_raise_different_errors(monkeypatch, status, body, exception) -> None:
    with serving(tracking_server(status, body)) as port:
        assert error_of_tracking(monkeypatch, port) is exception


def test_a_closed_port_of_the_tracking_server_may_open(monkeypatch, closed_port) -> None:
    assert error_of_tracking(monkeypatch, closed_port) is TemporaryError


def error_of_tracking(monkeypatch, port: int) -> type:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StepError) as raised, tracking.answering():
        MlflowClient(tracking_uri=f"http://127.0.0.1:{port}").get_experiment("1")
    assert "\n" not in str(raised.value)
    return type(raised.value)


@pytest.mark.parametrize(("status", "temporary"), [(404, False), (429, True), (503, True), (None, True)])
def test_the_doctor_marks_temporary_findings(monkeypatch, closed_port, status, temporary) -> None:
    with serving(tracking_server(status or 200, "")) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port if status else closed_port}")
        with pytest.raises(StepError) as raised:
            doctor.require(doctor.mlflow_server)
    assert isinstance(raised.value, TemporaryError) is temporary


@pytest.mark.parametrize(
    ("code", "message", "exception"),
    [
        ("28P01", "password authentication failed", StepError),
        ("53300", "sorry, too many clients already", TemporaryError),
        ("57P03", "the database system is starting up", TemporaryError),
    ],
)
def test_the_doctor_repeats_the_databases_reason(bindings, code, message, exception) -> None:
    with serving(refusing_database(code, message)) as port:
        write_binding(bindings, "trainer", port=str(port))
        with pytest.raises(StepError, match=rf"^Training database: .*{message}.*; start the local servers") as raised:
            doctor.require(lambda: doctor._database("trainer", "Training database"))
    assert type(raised.value) is exception


def test_model_stage_overrides_the_projects_stage(monkeypatch) -> None:
    other = {"staging": "production", "production": "staging"}[settings.settings().promotion_stage]
    settings.settings.cache_clear()
    monkeypatch.setenv("MODEL_STAGE", other)
    assert settings.settings().promotion_stage == settings.chosen_stage("") == other


def test_an_unknown_stage_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("MODEL_STAGE", "test")
    with pytest.raises(StepError, match=r"^MODEL_STAGE is 'test'; allowed is staging or production$"):
        settings.settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("numpy==1\n", "the image was built from another lock file .*pipeline.image"),
        (None, r"ENVIRONMENT_LOCK names \S+, which cannot be read: No such file or directory; rebuild the image"),
    ],
)
def test_an_image_of_another_lock_file_is_refused_before_the_step(monkeypatch, tmp_path, content, message) -> None:
    lock = tmp_path / "requirements.txt"
    if content:
        lock.write_text(content, encoding="utf-8")
    monkeypatch.setenv("ENVIRONMENT_LOCK", str(lock))
    with pytest.raises(StepError, match=message):
        command.command_line()(["train_model", "--epochs", "0"], standalone_mode=False)
    # finish_run runs in any image.
    with pytest.raises(StepError, match="there is no run to finish"):
        command.command_line()(["finish_run"], standalone_mode=False)


def test_an_image_of_the_same_lock_file_is_accepted(monkeypatch, tmp_path) -> None:
    shutil.copy(lock_file.COMMITTED, tmp_path / "requirements.txt")
    monkeypatch.setenv("ENVIRONMENT_LOCK", str(tmp_path / "requirements.txt"))
    with pytest.raises(StepError, match="epochs is 0"):
        command.command_line()(["train_model", "--epochs", "0"], standalone_mode=False)


def test_a_run_without_a_name_gets_one(monkeypatch) -> None:
    name = run_identity.pipeline_run()
    assert run_identity.pipeline_run() == os.environ["PIPELINE_RUN"] == name
    monkeypatch.setenv("PIPELINE_RUN", "image-classifier-ver-1-1763740000")
    assert run_identity.pipeline_run() == "image-classifier-ver-1-1763740000"


@pytest.mark.parametrize("name", ["a b", "a;b", "a'", "$HOME", "a#b", "a\n", "x" * 101, "a/b", "2026-11-21T10:00:00Z"])
def test_a_run_name_with_other_characters_is_refused(monkeypatch, name) -> None:
    monkeypatch.setenv("PIPELINE_RUN", name)
    with pytest.raises(StepError, match=r"^PIPELINE_RUN is .*; allowed are 1 to 100 letters, digits"):
        run_identity.pipeline_run()


@pytest.fixture(name="program")
def _program(bindings, monkeypatch) -> pathlib.Path:
    """The path of a fake `liquibase`, with a binding for it."""
    write_binding(bindings, "inference-deployer")
    folder = bindings / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "liquibase"


def write_program(program: pathlib.Path, *lines: str) -> None:
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize("java_opts", [None, "-Xmx256m"])
def test_liquibases_lock_and_sessions_name_the_run(program, monkeypatch, java_opts) -> None:
    write_program(program, 'echo "$JAVA_OPTS|$LIQUIBASE_COMMAND_URL"')
    monkeypatch.setenv("PIPELINE_RUN", "x" * 50 + "-ver-1-1763740000")
    if java_opts:
        monkeypatch.setenv("JAVA_OPTS", java_opts)
    options, url = liquibase.run("inference-deployer", "database/inference", "update").strip().split("|")
    assert options.split() == [
        *([java_opts] if java_opts else []),
        f"-Dliquibase.hostDescription={os.environ['PIPELINE_RUN']}",
    ]
    # PostgreSQL cuts a name after 63 characters.
    assert "ApplicationName=liquibase%20xxx" in url
    assert len(liquibase._session_name()) <= 63
    assert liquibase._session_name().endswith("-ver-1-1763740000")


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


def test_git_commit_needs_no_git(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        subprocess.run(["git", "--version"])
    assert run_identity.code_tag("database/inference").startswith("uncommitted-")
    run_identity.git_commit.cache_clear()
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    assert run_identity.code_tag("database/inference") == "a" * 40


def test_git_commit_is_the_tag_of_a_changed_checkout(monkeypatch, tmp_path) -> None:
    answers = 'case "$2" in --show-toplevel) pwd;; HEAD) echo another;; *) echo "?? database/1.sql";; esac'
    write_program(tmp_path / "git", answers)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert run_identity.git_commit() == "another"
    assert run_identity.code_tag("database/inference").startswith("uncommitted-")
    run_identity.git_commit.cache_clear()
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    assert run_identity.code_tag("database/inference") == "a" * 40


def test_an_outcome_that_cannot_be_written_is_a_failure(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEP_OUTPUTS", str(tmp_path / "outputs"))
    outcomes.write_outcome("promoted", "true")
    assert (tmp_path / "outputs" / "promoted").read_text(encoding="utf-8") == "true"
    monkeypatch.setenv("STEP_OUTPUTS", str(tmp_path / "outputs" / "promoted" / "below"))
    with pytest.raises(StepError, match="decision cannot be written: Not a directory"):
        outcomes.write_outcome("decision", "fine")


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
