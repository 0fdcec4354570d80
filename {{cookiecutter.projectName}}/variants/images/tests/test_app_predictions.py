"""The app's calls of a real inference database, with the app's role. `make test` starts the servers."""

import concurrent.futures
import io
import threading
import uuid

import numpy as np
import psycopg2
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app import endpoints
from app import predictions as module
from app.authentication import Nobody
from app.predictions import DatabaseAway, Predictions, RefusedInput, UnknownPrediction, WaitingForModel
from app.settings import settings
from pipeline.databases import query

SUBJECT = "alice"
pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("deployed")]


@pytest.fixture(name="predictions")
def _predictions():
    predictions = Predictions(settings(), 2)
    yield predictions
    predictions.close()


@pytest.fixture(name="row")
def _row(predictions) -> bytes:
    return bytes(row_bytes(predictions.served()))


def row_bytes(model) -> int:
    return int(np.prod(model.input_shape)) * {"uint8": 1, "float32": 4}[model.input_dtype]


def end_sessions(deployer) -> int:
    """End the app's sessions, as a restart of the server does; return their number."""
    name = f"{settings().project_name} app"
    ended = query(
        deployer, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (name,)
    )
    assert all(is_ended for (is_ended,) in ended)
    return len(ended)


def test_the_model_is_what_the_database_says(predictions, deployer) -> None:
    model = predictions.model()
    (known,) = query(
        deployer,
        "SELECT version, classes, input_shape, input_dtype, metrics, changed_at FROM {schema}.model_info "
        "WHERE model = %s AND alias = %s",
        (settings().model, settings().stage),
    )
    assert (model.version, list(model.classes), list(model.input_shape), model.input_dtype) == known[:4]
    assert (model.metrics, model.changed_at) == known[4:]
    assert predictions.model(newest=True) is model


def test_predictions_are_answered_in_order_and_logged(predictions, deployer) -> None:
    size = row_bytes(predictions.served())
    rows = [bytes([n]) * size for n in range(20)]
    answers = predictions.predict_many(rows, SUBJECT)
    single = [predictions.predict(row, SUBJECT).probabilities for row in rows]
    assert single == [answer.probabilities for answer in answers]
    assert answers[0].label == predictions.classes(answers[0].version)[int(np.argmax(answers[0].probabilities))]
    logged = query(
        deployer,
        "SELECT label, version, subject FROM {schema}.prediction_log WHERE prediction_id = ANY (%s::uuid[])",
        ([answer.prediction_id for answer in answers],),
    )
    assert sorted(logged) == sorted((answer.label, answer.version, SUBJECT) for answer in answers)


def test_a_wrong_row_is_refused_and_nothing_is_logged(predictions, deployer, row) -> None:
    count = "SELECT count(*) FROM {schema}.prediction_log"
    before = query(deployer, count)
    with pytest.raises(RefusedInput, match=r"features has \d+ bytes for 1 rows"):
        predictions.predict_many([row, row + b"x"], SUBJECT)
    assert query(deployer, count) == before


def test_a_label_is_recorded(predictions, row) -> None:
    prediction = predictions.predict(row, SUBJECT)
    label = predictions.served().classes[-1]
    answer = predictions.record_label(prediction.prediction_id, label, SUBJECT)
    assert answer == {
        "prediction_id": prediction.prediction_id,
        "label": label,
        "predicted_label": prediction.label,
        "model": prediction.model,
        "version": prediction.version,
    }
    last = predictions.accuracy()[-1]
    assert last.keys() >= {"version", "labelled_at", "labelled", "accuracy"}
    assert last["version"] == prediction.version and last["labelled_at"].tzinfo
    assert {"statistic", "predictions", "psi"} == predictions.drift()[0].keys()


@pytest.mark.parametrize(
    "label", ["'; DROP TABLE x; --", "\\'", "%s %(a)s", "{}", '"', "E'\\000'", "\0", "\ud800", "x" * 100_000, ""]
)
def test_no_label_is_more_than_a_label(predictions, row, label) -> None:
    prediction = predictions.predict(row, SUBJECT)
    with pytest.raises(RefusedInput):
        predictions.record_label(prediction.prediction_id, label, SUBJECT)


def test_an_unknown_prediction_is_said(predictions) -> None:
    for prediction_id in (str(uuid.uuid4()), "seven", "'; --", "\0"):
        with pytest.raises(UnknownPrediction):
            predictions.record_label(prediction_id, predictions.served().classes[0], SUBJECT)


@pytest.mark.parametrize("changed", [{"stage": "production"}, {"project_name": "not-deployed-yet"}])
def test_waiting_for_a_model(row, changed) -> None:
    other = "production" if settings().stage == "staging" else "staging"
    chosen = {**vars(settings()), **changed, **({"stage": other} if "stage" in changed else {})}
    waiting = Predictions(type(settings())(**chosen), 1)
    assert waiting.model() is None
    if "project_name" in changed:
        assert waiting.accuracy() == []
    assert waiting.drift() == []
    for ask in (waiting.served, lambda: waiting.predict(row, SUBJECT)):
        with pytest.raises(WaitingForModel):
            ask()
    waiting.close()


def test_a_connection_is_used_again(predictions) -> None:
    sessions = {
        predictions._call(lambda database: database._execute("SELECT pg_backend_pid() AS pid"))[0]["pid"]
        for _ in range(5)
    }
    assert len(sessions) == 1


def test_a_broken_connection_is_replaced(predictions, deployer, row) -> None:
    expected = predictions.predict(row, SUBJECT).probabilities
    assert end_sessions(deployer) == 1
    assert predictions.predict(row, SUBJECT).probabilities == expected
    # One that was never the matter stays.
    assert predictions.predict(row, SUBJECT).probabilities == expected
    assert end_sessions(deployer) == 1


def test_a_database_that_does_not_answer_is_said_without_the_password(monkeypatch, tmp_path) -> None:
    folder = tmp_path / "inference-app"
    folder.mkdir()
    keys = {"type": "postgresql", "host": "127.0.0.1", "port": "1", "database": "d", "username": "u"}
    for key, value in {**keys, "password": "p4ssw0rd"}.items():
        (folder / key).write_text(value, encoding="utf-8")
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    away = Predictions(settings(), 1)
    for _ in range(2):
        with pytest.raises(DatabaseAway, match=r"^the inference database does not answer$") as refused:
            away.model()
        assert "127.0.0.1" in str(refused.value.__cause__)
        assert "p4ssw0rd" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_a_statement_that_takes_too_long_is_ended(monkeypatch, row) -> None:
    monkeypatch.setattr(module, "STATEMENT_SECONDS", 0.2)
    slow = Predictions(settings(), 1)
    with pytest.raises(DatabaseAway, match=r"longer than 0.2 s"):
        slow._call(lambda database: database._execute("SELECT pg_sleep(10)"))
    # The session is still good.
    assert slow.model()
    slow.close()


def test_who_finds_no_connection_is_told_so(monkeypatch, row) -> None:
    monkeypatch.setattr(module, "POOL_SECONDS", 0.1)
    busy, released = threading.Event(), threading.Event()
    small = Predictions(settings(), 1)

    def hold(database) -> None:
        busy.set()
        assert released.wait(30)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        holding = pool.submit(small._call, hold)
        assert busy.wait(30)
        with pytest.raises(DatabaseAway, match="no connection"):
            small.predict(row, SUBJECT)
        released.set()
        holding.result()
    assert small.predict(row, SUBJECT)
    small.close()


def test_threads_share_the_pool(deployer, row) -> None:
    end_sessions(deployer)
    shared = Predictions(settings(), 2)
    expected = shared.predict(row, SUBJECT).probabilities
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shared.predict(row, SUBJECT).probabilities, range(100)))
    assert answers == [expected] * 100
    assert end_sessions(deployer) == 2
    shared.close()


def test_the_role_may_not_read_the_weights(predictions) -> None:
    with pytest.raises(DatabaseAway, match="does not grant the app its rights"):
        predictions._call(lambda database: list(database.create_dataframe("model_version", settings().schema)))
    with pytest.raises(psycopg2.errors.SyntaxError):
        predictions._call(lambda database: database._execute("SELEC"))


def test_the_api_over_the_database(predictions) -> None:
    model = predictions.served()
    height, width, channels = model.input_shape
    buffer = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (width, height)).save(buffer, "PNG")
    with TestClient(endpoints.create_app(settings(), predictions, Nobody())) as client:
        answer = client.post("/predictions", files={"image": buffer.getvalue()}).json()
        assert list(answer["probabilities"]) == list(model.classes)
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        labelled = client.post(f"/predictions/{answer['prediction_id']}/label", json={"label": model.classes[0]})
        assert labelled.json()["predicted_label"] == answer["label"]
        assert client.get(f"/models/{settings().model}").json()["version"] == answer["version"]
