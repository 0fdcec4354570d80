"""What an orchestrator builds on: exit statuses, the image's lock file, names of runs, locks, the end of a run."""

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
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back, too
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
def served(handler: type):
    """A server on a free port, given."""
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
    ("error", "status", "told"),
    [
        (StepError("project.yaml is wrong"), 1, "error: project.yaml is wrong"),
        (TemporaryError("the database is away"), 75, "error: the database is away"),
        (psycopg2.errors.UndefinedTable('no table "a"'), 1, 'error: the database refused: no table "a"'),
        (psycopg2.InterfaceError("connection already closed"), 75, "error: the database went away: connection already"),
        (psycopg2.OperationalError("server closed it\nmore"), 75, "error: the database went away: server closed it"),
        (KeyboardInterrupt(), 1, "stopped; the same command goes on where it stopped"),
    ],
)
def test_a_failure_is_one_sentence_and_a_status(monkeypatch, capsys, error, status, told) -> None:
    def failing(standalone_mode: bool) -> None:
        raise error

    monkeypatch.setattr(command, "command_line", lambda: failing)
    with pytest.raises(SystemExit) as ended:
        command.main()
    # A text is printed by whoever catches it, and is status 1.
    code = ended.value.code
    sentence = code if isinstance(code, str) else capsys.readouterr().err.strip()
    assert (1 if isinstance(code, str) else code) == status
    assert sentence.startswith(told)
    assert "\n" not in sentence


def write_binding(folder: pathlib.Path, name: str, **keys: str) -> None:
    (folder / name).mkdir()
    given = {"type": "postgresql", "provider": "local", "host": "127.0.0.1", "port": "1", "database": "d"}
    for key, value in {**given, "username": "u", "password": "p", "sslmode": "disable", **keys}.items():
        (folder / name / key).write_text(value, encoding="utf-8")


@pytest.fixture(name="bindings")
def _bindings(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    return tmp_path


def refusing_database(code: str, told: str) -> type:
    """PostgreSQL's protocol as far as its first answer: FATAL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!i", self.request.recv(4))
            self.request.recv(length - 4)
            if told:
                fields = "".join(f"{key}{text}\0" for key, text in zip("SVCM", ("FATAL", "FATAL", code, told)))
                self.request.sendall(b"E" + struct.pack("!i", len(fields) + 5) + fields.encode() + b"\0")

    return Handler


@pytest.mark.parametrize(
    ("code", "told", "kind"),
    [
        ("28P01", 'password authentication failed for user "u"', StepError),
        ("3D000", 'database "d" does not exist', StepError),
        ("28000", 'no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption', StepError),
        ("42501", 'permission denied for database "d"', StepError),
        ("53300", "sorry, too many clients already", TemporaryError),
        ("53300", 'too many connections for role "u"', TemporaryError),
        ("57P01", "terminating connection due to administrator command", TemporaryError),
        ("", "", TemporaryError),  # it closes the connection
        # Whoever can wait for these tries again: train_model does.
        ("57P03", "the database system is starting up", psycopg2.OperationalError),
        ("57P03", "the database system is shutting down", psycopg2.OperationalError),
        ("57P03", "the database system is in recovery mode", psycopg2.OperationalError),
        ("57P03", "the database system is not yet accepting connections", psycopg2.OperationalError),
    ],
)
def test_a_database_that_is_away_is_told_from_one_that_refuses(bindings, code, told, kind) -> None:
    with served(refusing_database(code, told)) as port:
        write_binding(bindings, "trainer", port=str(port))
        with pytest.raises((StepError, psycopg2.Error)) as refused:
            databases.connect("trainer")
    assert type(refused.value) is kind
    assert databases.may_pass(refused.value) is (kind is not StepError)
    assert told in str(refused.value)


def test_a_closed_port_may_open(bindings, closed_port) -> None:
    write_binding(bindings, "trainer", port=str(closed_port))
    with pytest.raises(TemporaryError, match=rf"127\.0\.0\.1:{closed_port}/d does not answer: .* refused"):
        databases.connect("trainer")


def test_the_last_address_that_was_tried_counts(bindings, monkeypatch) -> None:
    def refused(*_, **__):
        raise psycopg2.OperationalError(
            'connection to server at "h" (::1), port 1 failed: Connection refused\n\tIs the server running?\n'
            'connection to server at "h" (127.0.0.1), port 1 failed: FATAL:  password authentication failed\n'
        )

    write_binding(bindings, "trainer")
    monkeypatch.setattr(psycopg2, "connect", refused)
    with pytest.raises(StepError, match="password authentication failed") as told:
        databases.connect("trainer")
    assert not isinstance(told.value, TemporaryError)


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
    ("status", "body", "kind"),
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
def test_a_tracking_server_that_is_away_is_told_from_one_that_refuses(monkeypatch, status, body, kind) -> None:
    with served(tracking_server(status, body)) as port:
        assert told_by_tracking(monkeypatch, port) is kind


def test_a_tracking_server_that_is_not_there_may_come(monkeypatch, closed_port) -> None:
    assert told_by_tracking(monkeypatch, closed_port) is TemporaryError


def told_by_tracking(monkeypatch, port: int) -> type:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StepError) as told, tracking.answering():
        MlflowClient(tracking_uri=f"http://127.0.0.1:{port}").get_experiment("1")
    assert "\n" not in str(told.value)
    return type(told.value)


@pytest.mark.parametrize(("status", "temporary"), [(404, False), (429, True), (503, True), (None, True)])
def test_the_doctor_tells_what_may_pass(monkeypatch, closed_port, status, temporary) -> None:
    with served(tracking_server(status or 200, "")) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port if status else closed_port}")
        with pytest.raises(StepError) as told:
            doctor.require(doctor.mlflow_server)
    assert isinstance(told.value, TemporaryError) is temporary


@pytest.mark.parametrize(
    ("code", "told", "kind"),
    [
        ("28P01", "password authentication failed", StepError),
        ("53300", "sorry, too many clients already", TemporaryError),
        ("57P03", "the database system is starting up", TemporaryError),
    ],
)
def test_the_doctor_hands_on_what_a_database_said(bindings, code, told, kind) -> None:
    with served(refusing_database(code, told)) as port:
        write_binding(bindings, "trainer", port=str(port))
        with pytest.raises(StepError, match=rf"^Training database: .*{told}.*; start the local servers") as refused:
            doctor.require(lambda: doctor._database("trainer", "Training database"))
    assert type(refused.value) is kind


def test_the_variable_says_which_stage_is_promoted(monkeypatch) -> None:
    other = {"staging": "production", "production": "staging"}[settings.settings().promotion_stage]
    settings.settings.cache_clear()
    monkeypatch.setenv("MODEL_STAGE", other)
    assert settings.settings().promotion_stage == settings.chosen_stage("") == other


def test_a_stage_that_is_none_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("MODEL_STAGE", "test")
    with pytest.raises(StepError, match=r"^MODEL_STAGE is 'test'; allowed is staging or production$"):
        settings.settings()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("numpy==1\n", "the image was built from another lock file .*pipeline.image"),
        (None, r"ENVIRONMENT_LOCK names \S+, which cannot be read: No such file or directory; build the image anew"),
    ],
)
def test_an_image_of_another_lock_file_is_refused_before_the_step(monkeypatch, tmp_path, content, told) -> None:
    given = tmp_path / "requirements.txt"
    if content:
        given.write_text(content, encoding="utf-8")
    monkeypatch.setenv("ENVIRONMENT_LOCK", str(given))
    with pytest.raises(StepError, match=told):
        command.command_line()(["train_model", "--epochs", "0"], standalone_mode=False)
    # The end of a run comes whatever image there is.
    with pytest.raises(StepError, match="there is no run to finish"):
        command.command_line()(["finish_run"], standalone_mode=False)


def test_an_image_of_the_same_lock_file_is_taken(monkeypatch, tmp_path) -> None:
    shutil.copy(lock_file.WANTED, tmp_path / "requirements.txt")
    monkeypatch.setenv("ENVIRONMENT_LOCK", str(tmp_path / "requirements.txt"))
    with pytest.raises(StepError, match="epochs is 0"):
        command.command_line()(["train_model", "--epochs", "0"], standalone_mode=False)


def test_the_project_names_its_own_run(monkeypatch) -> None:
    name = run_identity.pipeline_run()
    assert run_identity.pipeline_run() == os.environ["PIPELINE_RUN"] == name
    monkeypatch.setenv("PIPELINE_RUN", "image-classifier-ver-1-1763740000")
    assert run_identity.pipeline_run() == "image-classifier-ver-1-1763740000"


@pytest.mark.parametrize("name", ["a b", "a;b", "a'", "$HOME", "a#b", "a\n", "x" * 101, "a/b", "2026-11-21T10:00:00Z"])
def test_a_run_with_another_name_is_refused(monkeypatch, name) -> None:
    monkeypatch.setenv("PIPELINE_RUN", name)
    with pytest.raises(StepError, match=r"^PIPELINE_RUN is .*; allowed are 1 to 100 letters, digits"):
        run_identity.pipeline_run()


@pytest.fixture(name="program")
def _program(bindings, monkeypatch) -> pathlib.Path:
    """What stands for the command `liquibase`, and a binding for it."""
    write_binding(bindings, "inference-deployer")
    folder = bindings / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "liquibase"


def write_program(program: pathlib.Path, *lines: str) -> None:
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize("given", [None, "-Xmx256m"])
def test_liquibase_is_told_whose_lock_it_takes(program, monkeypatch, given) -> None:
    write_program(program, 'echo "$JAVA_OPTS|$LIQUIBASE_COMMAND_URL"')
    monkeypatch.setenv("PIPELINE_RUN", "x" * 50 + "-ver-1-1763740000")
    if given:
        monkeypatch.setenv("JAVA_OPTS", given)
    options, url = liquibase.run("inference-deployer", "database/inference", "update").strip().split("|")
    assert options.split() == [*([given] if given else []), f"-Dliquibase.hostDescription={os.environ['PIPELINE_RUN']}"]
    # PostgreSQL keeps 63 characters, and compares with what it kept.
    assert "ApplicationName=liquibase%20xxx" in url
    assert len(liquibase._session_name()) <= 63
    assert liquibase._session_name().endswith("-ver-1-1763740000")


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("Exception Primary Reason:  FATAL: terminating connection due to administrator command", TemporaryError),
        ("Exception Primary Reason:  FATAL: the database system is starting up", TemporaryError),
        ("Caused by: org.postgresql.util.PSQLException: An I/O error occurred while sending to the", TemporaryError),
        ("Exception Primary Reason:  Connection to db:5432 refused. Check that the hostname", TemporaryError),
        ("Exception Primary Reason:  ERROR: permission denied for schema public", StepError),
        ('Exception Primary Reason:  FATAL: password authentication failed for user "u"', StepError),
    ],
)
def test_a_database_that_liquibase_lost_may_come_back(program, told, kind) -> None:
    write_program(program, f"echo '{told}' >&2", "exit 1")
    with pytest.raises(StepError, match=r"^liquibase update on postgresql .* failed: ") as refused:
        liquibase.run("inference-deployer", "database/inference", "update")
    assert type(refused.value) is kind


def test_liquibase_waits_for_somebody_else(bindings, monkeypatch, capsys) -> None:
    looks = iter([("vm#other-run (10.0.0.7)", "2026-11-21 10:00:00"), ("vm#other-run (10.0.0.7)", "…"), None])
    write_binding(bindings, "inference-deployer")
    monkeypatch.setattr(liquibase, "release_own_lock", lambda name: False)
    monkeypatch.setattr(liquibase, "_lock", lambda name: next(looks))
    monkeypatch.setattr(liquibase.time, "sleep", lambda seconds: None)
    liquibase.take_turn("inference-deployer")
    assert next(looks, "seen to the end") == "seen to the end"
    assert capsys.readouterr().err.count("waiting for vm#other-run (10.0.0.7), who deploys since 2026-11-21") == 1


@pytest.mark.parametrize(
    ("holder", "mend"),
    [
        ("vm#other-run (10.0.0.7)", "`PIPELINE_RUN=other-run python -m pipeline finish_run` releases it"),
        ("laptop (10.0.0.7)", "Liquibase's release-locks releases it"),
    ],
)
def test_who_waits_too_long_is_told_for_whom(bindings, monkeypatch, holder, mend) -> None:
    write_binding(bindings, "inference-deployer")
    monkeypatch.setenv(liquibase.WAIT_MINUTES, "0")
    monkeypatch.setattr(liquibase, "release_own_lock", lambda name: False)
    monkeypatch.setattr(liquibase, "_lock", lambda name: (holder, "2026-11-21 10:00:00"))
    with pytest.raises(StepError) as told:
        liquibase.take_turn("inference-deployer")
    assert f"{holder} has held Liquibase's lock since 2026-11-21 10:00:00; if nothing of it works" in str(told.value)
    assert mend in str(told.value)
    monkeypatch.setenv(liquibase.WAIT_MINUTES, "soon")
    with pytest.raises(StepError, match="is 'soon'; allowed is a whole number of minutes"):
        liquibase.take_turn("inference-deployer")


def test_the_commit_that_was_given_needs_no_git(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        subprocess.run(["git", "--version"])
    assert run_identity.code_tag("database/inference").startswith("uncommitted-")
    run_identity.git_commit.cache_clear()
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    assert run_identity.code_tag("database/inference") == "a" * 40


def test_a_commit_that_was_given_is_the_tag_of_a_checkout_with_changes(monkeypatch, tmp_path) -> None:
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


@pytest.fixture(name="ended")
def _ended(bindings, monkeypatch) -> dict:
    """A run to finish whose parts are made up: what each of them is asked for, and what it answers."""
    for name in ("training-deployer", "inference-deployer"):
        write_binding(bindings, name)
    parts = {"asked": [], "training-deployer": True, "inference-deployer": False, "MLflow": "MLflow's run is FAILED"}

    def answer(part: str, *given: str):
        parts["asked"].append((part, *given))
        if isinstance(parts[part], Exception):
            raise parts[part]
        return parts[part]

    monkeypatch.setattr(liquibase, "release_own_lock", answer)
    monkeypatch.setattr(finish_run, "end_pipeline_run", lambda *given: answer("MLflow", *given))
    monkeypatch.setenv("PIPELINE_RUN", "run-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    return parts


ALL_PARTS = [("training-deployer",), ("inference-deployer",), ("MLflow", "run-1", "Failed")]


def test_the_end_of_a_run_is_told_in_one_line(ended) -> None:
    assert finish_run.run("Failed") == (
        "run run-1 ended as Failed; training database: lock released; inference database: no lock of this run; "
        "MLflow's run is FAILED"
    )
    assert ended["asked"] == ALL_PARTS


@pytest.mark.parametrize("part", ["training-deployer", "inference-deployer", "MLflow"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TemporaryError("it does not answer"), TemporaryError),
        (psycopg2.OperationalError("it is starting up"), TemporaryError),
        (StepError("it refuses"), StepError),
        (psycopg2.errors.InsufficientPrivilege("it denies"), StepError),
    ],
)
def test_what_is_away_keeps_nothing_else_from_being_ended(ended, part, error, kind) -> None:
    ended[part] = error
    with pytest.raises(StepError, match=f"^run run-1 ended as Failed; .*{error}") as told:
        finish_run.run("Failed")
    assert type(told.value) is kind
    assert ended["asked"] == ALL_PARTS


def test_what_has_no_address_is_left_alone(ended, bindings, monkeypatch) -> None:
    shutil.rmtree(bindings / "training-deployer")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    told = finish_run.run("")
    assert told.startswith("run run-1 ended; training database left alone (")
    assert told.endswith("inference database: no lock of this run; MLflow left alone (MLFLOW_TRACKING_URI is not set)")
    assert ended["asked"] == [("inference-deployer",)]


def test_a_status_that_is_none_of_argos_is_refused(ended) -> None:
    with pytest.raises(StepError, match=r"^status is 'Running'; allowed is Succeeded, Failed, Error or nothing$"):
        finish_run.run("Running")
    assert ended["asked"] == []


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
def test_a_run_ends_as_its_orchestrator_says(before, status, after) -> None:
    assert tracking._ended(before, status) == after


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
def test_only_the_own_lock_is_released(deployer, monkeypatch, holder, released) -> None:
    monkeypatch.setenv("PIPELINE_RUN", "run-1")
    query(deployer, HOLD, (holder,))
    try:
        assert liquibase.release_own_lock("inference-deployer") is released
        assert query(deployer, HELD) == [(False, None) if released else (True, holder)]
    finally:
        query(deployer, "UPDATE {schema}.databasechangeloglock SET locked = FALSE, lockedby = NULL, lockgranted = NULL")
