"""Exit codes: servers that refuse are mistakes; servers that are away are worth a retry."""

from types import SimpleNamespace

import psycopg2
import psycopg2.errors
import pytest
from fake_servers import error_body, refusing_database, serving, tracking_server, write_binding

from pipeline import __main__ as command
from pipeline import databases, doctor, tracking
from pipeline.errors import StepError, TemporaryError

pytestmark = pytest.mark.usefixtures("clean_environment")


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


def test_a_full_disk_is_named_as_the_likely_reason(monkeypatch, capsys) -> None:
    def failing(**_: object) -> None:
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(command, "command_line", lambda: failing)
    monkeypatch.setattr(command.shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(SystemExit):
        command.main()
    assert "closed the connection unexpectedly; 3 MiB are free at " in capsys.readouterr().err


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
