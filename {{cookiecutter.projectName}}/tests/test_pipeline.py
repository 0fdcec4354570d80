"""The pipeline on real servers: one epoch, deployed and served. `make test` starts the servers."""

import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import psycopg2
import pytest
from conftest import run_pipeline

from pipeline.databases import binding, connect, interruptible, query
from pipeline.errors import StepError, TemporaryError
from pipeline.settings import settings

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("deployed")]
PREDICT = "SELECT {schema}.predict(%s, %s, %s)"


def served() -> tuple[str, str]:
    return settings().model, settings().promotion_stage


def test_the_same_again_changes_nothing() -> None:
    output = run_pipeline("deploy_training_db", "upload_dataset", "train_model", "--epochs", "1", "promote_model")
    assert "was there already" in output
    assert "was trained before" in output
    assert "version 1 " in output


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(60)",
        # The statement swallows the cancel request and ends normally.
        "DO $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END $$",
    ],
)
def test_ctrl_c_ends_any_statement(statement) -> None:
    # A process that a shell starts in the background ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection = connect("trainer")
    person = threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    person.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), connection, interruptible():
        query(connection, statement)
    assert time.monotonic() - started < 30
    person.join()
    assert query(connection, "SELECT 1") == [(1,)]
    connection.close()


@pytest.mark.parametrize(
    ("features", "stage", "message"),
    [
        (b"12", None, "features has 2 bytes for 1 rows; the model takes"),
        (None, None, "features is NULL for 1 rows"),
        (b"12", "nowhere", 'holds the alias "nowhere"'),
    ],
)
def test_wrong_arguments_of_predict_are_refused_with_a_sentence(app, features, stage, message) -> None:
    with pytest.raises(psycopg2.Error, match=message):
        query(app, PREDICT, (features, settings().model, stage or settings().promotion_stage))


@pytest.mark.parametrize("name", ["training-deployer", "inference-deployer"])
def test_no_function_has_a_superusers_rights_or_is_public(name) -> None:
    with connect(name) as deployer:
        functions = query(
            deployer,
            "SELECT proname, rolsuper, "
            "proacl IS NULL OR EXISTS (SELECT 1 FROM aclexplode(proacl) AS granted WHERE granted.grantee = 0) "
            "FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner "
            "WHERE pronamespace = %s::regnamespace",
            (f'"{settings().schema}"',),
        )
    assert len(functions) >= 4
    assert [row for row in functions if row[1] or row[2]] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT onnx FROM {schema}.model_version",
        "SELECT {schema}.open_model('', 1)",
        "SELECT {schema}.answer_row(''::bytea, '')",
        "SELECT {schema}.answer_batch(''::bytea, 1, '')",
        "SELECT {schema}.as_real(''::bytea)",
        "SELECT * FROM {schema}.prediction_log",
        "SELECT * FROM {schema}.prediction_label",
        "SELECT {schema}.purge_predictions()",
        "UPDATE {schema}.model_alias SET version = 1",
        "CREATE TABLE {schema}.mine (id int)",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE plpython3u AS 'return 1'",
    ],
)
def test_the_app_role_may_only_predict(app, statement) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(app, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {schema}.dataset_batch",
        "SELECT {schema}.model_transition(''::bytea, ''::bytea, ''::bytea, 1, ''::bytea, '')",
        "DROP TABLE {schema}.training_run",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE plpython3u AS 'return 1'",
    ],
)
def test_the_trainer_role_may_only_train(trainer, statement) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(trainer, statement)


@pytest.fixture(name="own_binding")
def _own_binding(tmp_path, monkeypatch):
    """A copy of the app's binding that a test may change."""
    shutil.copytree(pathlib.Path(os.environ["SERVICE_BINDING_ROOT"], "inference-app"), tmp_path / "inference-app")
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    binding.cache_clear()
    yield tmp_path / "inference-app"
    binding.cache_clear()


def test_a_certificate_of_another_authority_is_not_trusted(own_binding) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=another authority"]
    subprocess.run([*command, "-keyout", os.devnull, "-out", own_binding / "ca.crt"], check=True, capture_output=True)
    with pytest.raises(StepError, match="certificate verify failed"):
        connect("inference-app")


@pytest.mark.parametrize(("key", "value"), [("sslmode", "disable"), ("password", "wrong")])
def test_tls_and_the_right_password_are_needed(own_binding, key, value) -> None:
    (own_binding / key).write_text(value, encoding="utf-8")
    if key == "sslmode":
        (own_binding / "ca.crt").unlink()
    with pytest.raises(StepError, match=r"inference-app: postgresql localhost:.* does not answer: ") as raised:
        connect("inference-app")
    assert not isinstance(raised.value, TemporaryError)
