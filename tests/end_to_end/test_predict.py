"""The functions that serve: correct, consistent predictions, and messages for wrong arguments."""

from collections.abc import Iterator

import psycopg2
import pytest

from .project import Project
from .servers import Database

MODEL = "image_classifier"
ROWS = 300
UNKNOWN = 'no version of model "{model}" holds the alias "{stage}": promote one first'


@pytest.fixture
def app(trained: Project) -> Iterator[Database]:
    """A session of the app's role."""
    with trained.database("inference-app") as database:
        yield database


@pytest.fixture(scope="module")
def unseen(trained: Project) -> list[tuple[bytes, int]]:
    """Rows and labels of the holdout, unpacked from the training database."""
    with trained.database("trainer") as database:
        blocks = database.query(
            "SELECT row_count, features, labels FROM {schema}.dataset_batch WHERE split = 'holdout' ORDER BY batch_id"
        )
    return [
        (bytes(features[64 * row : 64 * (row + 1)]), int.from_bytes(labels[4 * row : 4 * (row + 1)], "little"))
        for count, features, labels in blocks
        for row in range(count)
    ]


def test_predict_agrees_with_the_labels(trained: Project, app: Database, unseen: list[tuple[bytes, int]]) -> None:
    """Row by row, predict has the accuracy of model_info, and its answers are probabilities."""
    ask = "SELECT {schema}.predict(%s, %s, 'staging')"
    answers = [app.value(ask, (row, MODEL)) for row, _ in unseen]
    correct = sum(answer.index(max(answer)) == label for answer, (_, label) in zip(answers, unseen, strict=True))
    accuracy = app.value("SELECT metrics -> 'accuracy_score' FROM {schema}.model_info")
    assert correct / len(unseen) == pytest.approx(accuracy)
    for answer in answers:
        assert len(answer) == 10
        assert sum(answer) == pytest.approx(1, abs=1e-5)


def test_batch_equals_single_rows(app: Database, unseen: list[tuple[bytes, int]]) -> None:
    """predict_batch of more rows than ONNX Runtime gets at once equals predict of each row."""
    rows = [row for row, _ in unseen * 3][:ROWS]
    batch = app.value("SELECT {schema}.predict_batch(%s, %s, %s, 'staging')", (b"".join(rows), len(rows), MODEL))
    assert len(batch) == 10 * ROWS
    for number, row in enumerate(rows[: len(unseen)]):
        single = app.value("SELECT {schema}.predict(%s, %s, 'staging')", (row, MODEL))
        assert batch[10 * number : 10 * (number + 1)] == pytest.approx(single, abs=1e-6)


def test_task_logs_one_row(trained: Project, app: Database, unseen: list[tuple[bytes, int]]) -> None:
    """run_inference_task answers as predict does and logs one row with the id that it returns."""
    image, _ = unseen[0]
    with trained.database("inference-deployer") as owner:
        before = owner.value("SELECT count(*) FROM {schema}.prediction_log")
        answer = app.value("SELECT {schema}.run_inference_task(%s, %s, 'staging')", (image, MODEL))
        assert owner.value("SELECT count(*) FROM {schema}.prediction_log") == before + 1
        logged = owner.query(
            "SELECT model, version, label, probabilities FROM {schema}.prediction_log WHERE prediction_id = %s",
            (answer["prediction_id"],),
        )
    probabilities = app.value("SELECT {schema}.predict(%s, %s, 'staging')", (image, MODEL))
    assert answer["probabilities"] == pytest.approx(probabilities, abs=1e-6)
    assert answer["label"] == str(probabilities.index(max(probabilities)))
    assert (answer["model"], answer["version"]) == (MODEL, 1)
    assert logged == [(MODEL, 1, answer["label"], pytest.approx(probabilities, abs=1e-6))]


CALLS = {
    "predict": "SELECT {schema}.predict(%(rows)s, %(model)s, %(stage)s)",
    "predict_batch": "SELECT {schema}.predict_batch(%(rows)s, %(count)s, %(model)s, %(stage)s)",
    "run_inference_task": "SELECT {schema}.run_inference_task(%(rows)s, %(model)s, %(stage)s)",
}
GOOD = {"rows": bytes(64), "count": 1, "model": MODEL, "stage": "staging"}
BYTES = "features {given} for {count} rows; the model takes 64 bytes per row (8×8×1 uint8)"
EVERY = [
    ({"rows": bytes(63)}, "22023", BYTES.format(given="has 63 bytes", count=1)),
    ({"rows": b""}, "22023", BYTES.format(given="has 0 bytes", count=1)),
    ({"rows": None}, "22023", BYTES.format(given="is NULL", count=1)),
    ({"model": "unknown"}, "P0002", UNKNOWN.format(model="unknown", stage="staging")),
    ({"stage": "production"}, "P0002", UNKNOWN.format(model=MODEL, stage="production")),
    ({"model": None}, "P0002", UNKNOWN.format(model="<NULL>", stage="staging")),
    ({"stage": None}, "P0002", UNKNOWN.format(model=MODEL, stage="<NULL>")),
]
BATCH = [
    ({"rows": bytes(128), "count": 3}, "22023", BYTES.format(given="has 128 bytes", count=3)),
    ({"count": 0}, "22023", BYTES.format(given="has 64 bytes", count=0)),
    ({"count": -1}, "22023", BYTES.format(given="has 64 bytes", count=-1)),
    ({"count": None}, "22023", BYTES.format(given="has 64 bytes", count=None)),
]


@pytest.mark.parametrize(
    ("call", "wrong", "state", "message"),
    [(call, *case) for call in CALLS for case in EVERY] + [("predict_batch", *case) for case in BATCH],
)
def test_wrong_arguments_are_refused(
    trained: Project, app: Database, call: str, wrong: dict[str, object], state: str, message: str
) -> None:
    """A wrong argument is an SQL error with a message; no row is logged, and the session stays usable."""
    count = "SELECT count(*) FROM {schema}.prediction_log"
    with trained.database("inference-deployer") as owner:
        before = owner.value(count)
        with pytest.raises(psycopg2.Error) as error:
            app.query(CALLS[call], {**GOOD, **wrong})
        assert owner.value(count) == before
    assert error.value.pgcode == state
    assert error.value.diag.message_primary.removeprefix("plpy.Error: ") == message
    assert app.value(CALLS["predict"], GOOD)
