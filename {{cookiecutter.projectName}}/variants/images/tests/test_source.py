"""dataset.py keeps the contract, is packed, trained on and asked; a broken contract is refused with the reason."""

import importlib

import numpy as np
import pytest

from app.images import BYTES
from pipeline import user_code
from pipeline.data import mini_batches, source
from pipeline.databases import connect, query
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.training_db import AS_STORED, TrainingData
from pipeline.user_code import load_dataset

IMAGES = np.zeros((4, 8, 8, 1), np.uint8)
LABELS = np.array([0, 1, 0, 1])
ASK = "SELECT {schema}.predict(%s, %s, %s)"


def served() -> tuple[str, str]:
    return settings().model, settings().promotion_stage


def test_the_data_set_keeps_the_contract() -> None:
    data = load_dataset()
    assert data.labels.dtype == np.dtype("<i4")
    assert set(data.labels.tolist()) <= set(range(len(data.classes)))


@pytest.mark.parametrize(
    ("features", "labels", "classes", "message"),
    [
        ([[1]], LABELS, ["a", "b"], "features are list"),
        (IMAGES.astype(np.int64), LABELS, ["a", "b"], "features are int64"),
        (IMAGES.ravel(), LABELS, ["a", "b"], "features have the shape (256,)"),
        (IMAGES[:0], LABELS[:0], ["a", "b"], "features have the shape (0, 8, 8, 1)"),
        (np.full((4, 2), np.nan, np.float32), LABELS, ["a", "b"], "row 0 of the features holds NaN"),
        (IMAGES, LABELS, None, "classes are NoneType"),
        (IMAGES, LABELS, "ab", "classes are str"),
        (IMAGES, LABELS, ["a"], "at least two different names"),
        (IMAGES, LABELS, ["a", "a"], "at least two different names"),
        (IMAGES, LABELS[:3], ["a", "b"], "labels have the shape (3,); 4 rows need (4,)"),
        (IMAGES, np.array([0, 1, 2, 1]), ["a", "b"], "the label of row 2 is 2; allowed are the whole numbers 0 to 1"),
        (IMAGES, np.array([0, -1, 0, 1]), ["a", "b"], "the label of row 1 is -1"),
        (IMAGES, np.array([0, np.nan, 0, 1]), ["a", "b"], "row 1 is nan; allowed are the whole numbers 0 to 1"),
        (IMAGES, np.array([0, 0.5, 0, 1]), ["a", "b"], "the label of row 1 is 0.5"),
        (IMAGES, np.array([0, None, 0, 1], object), ["a", "b"], "the label of row 1 is None"),
        (IMAGES, np.array(["cat", "dog", "cat", "dog"]), ["a", "b"], "labels are <U3"),
    ],
)
def test_wrong_data_is_refused_with_a_sentence(features, labels, classes, message) -> None:
    with pytest.raises(StepError) as refused:
        user_code.check_dataset(features, labels, classes)
    assert str(refused.value).startswith("dataset.py: load():")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_models_of_other_values_are_not_compared() -> None:
    """A served version that was trained on 0 to 1 cannot be scored on rows of 0 to 255."""
    statistics = {"rows": 2, "class_counts": [1, 1], "inputs": [], "pixels": BYTES}
    data = TrainingData("d", "h", (8, 8, 1), "float32", ["a", "b"], {}, statistics)

    def with_pixels(**changed):
        return data._replace(statistics={**statistics, "pixels": {**BYTES, **changed}})

    assert source.features_for(data, data) is AS_STORED
    assert source.features_for(with_pixels(maximum=1), data) is None
    assert source.features_for(with_pixels(channels="BGR"), data) is None
    assert source.features_for(data._replace(classes=["b", "a"]), data) is None
    assert source.features_for(data._replace(shape=(8, 8, 3)), data) is None


@pytest.mark.parametrize("result", [None, (IMAGES, LABELS), [IMAGES, LABELS, ["a", "b"]]])
def test_load_must_return_three_values(monkeypatch, result) -> None:
    monkeypatch.setattr(importlib.import_module("dataset"), "load", lambda: result)
    with pytest.raises(StepError, match=r"^dataset\.py: load\(\) must return \(features, labels, classes\)$"):
        load_dataset.__wrapped__()


@pytest.mark.servers
def test_one_row_and_a_batch_are_answered_alike(app) -> None:
    rows = load_dataset().features[:5]
    batch = query(app, "SELECT {schema}.predict_batch(%s, 5, %s, %s)", (rows.tobytes(), *served()))[0][0]
    single = [query(app, ASK, (row.tobytes(), *served()))[0][0] for row in rows]
    assert np.allclose(np.reshape(batch, (5, -1)), single, atol=1e-6)
    assert np.sum(single, axis=1) == pytest.approx(1, abs=1e-3)


@pytest.mark.servers
def test_a_prediction_is_logged_and_labelled(app) -> None:
    data = load_dataset()
    row = data.features[0].tobytes()
    answer = query(app, "SELECT {schema}.run_inference_task(%s, %s, %s)", (row, *served()))[0][0]
    assert answer["label"] == data.classes[int(np.argmax(answer["probabilities"]))]
    with connect("inference-deployer") as deployer:
        logged = query(
            deployer, "SELECT label, version FROM {schema}.prediction_log WHERE prediction_id = %s",
            (answer["prediction_id"],),
        )  # fmt: skip
    assert logged == [(answer["label"], answer["version"])]


@pytest.mark.servers
def test_the_database_holds_the_rows_that_were_packed(trainer) -> None:
    packed = mini_batches.pack(load_dataset(), 1, 512)
    stored = query(
        trainer,
        "SELECT split, sum(row_count)::int FROM {schema}.dataset_batch WHERE dataset = %s GROUP BY split",
        (packed.dataset,),
    )
    assert dict(stored) == {split: len(rows) for split, rows in packed.rows.items()}
