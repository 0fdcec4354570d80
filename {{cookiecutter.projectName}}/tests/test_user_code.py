"""dataset.py and model.py keep the contract, and whoever breaks it is told how in one sentence."""

import ast
import importlib
import re

import numpy as np
import pytest

from pipeline import user_code
from pipeline.errors import StepError

IMAGES = np.zeros((4, 8, 8, 1), np.uint8)
LABELS = np.array([0, 1, 0, 1])


def test_the_data_set_keeps_the_contract() -> None:
    data = user_code.load_dataset()
    assert data.labels.dtype == np.dtype("<i4")
    assert set(data.labels.tolist()) <= set(range(len(data.classes)))


def test_the_model_fits_the_data_set_and_is_the_same_each_time() -> None:
    data = user_code.load_dataset()
    first = user_code.build_architecture(data.shape, len(data.classes))
    second = user_code.build_architecture(data.shape, len(data.classes))
    assert first.weight_count > 0
    assert first.hash == second.hash


def test_the_database_refuses_the_same_names() -> None:
    sql = (user_code.ROOT / "database" / "training" / "004-fit-and-evaluate.sql").read_text(encoding="utf-8")
    for name in ("KERAS_MODULES", "REFUSED_CLASSES"):
        declared = ast.literal_eval(re.search(f"^{name} = " + r"([{].*?^[}])", sql, re.MULTILINE | re.DOTALL)[1])
        assert declared == getattr(user_code, name)


@pytest.mark.parametrize(
    ("units", "activation", "told"), [(3, "relu", "is no probabilities"), (4, "softmax", "returns")]
)
def test_a_model_that_is_no_classifier_is_refused(monkeypatch, units, activation, told) -> None:
    def build_model(shape: tuple[int, ...], classes: int):
        keras = user_code.load_keras()
        return keras.Sequential([keras.Input(shape), keras.layers.Dense(units, activation=activation)])

    monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
    with pytest.raises(StepError, match=told):
        user_code.build_architecture((2,), 3)


def test_a_model_that_fits_into_no_value_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(user_code, "MOST_WEIGHTS", 10)
    data = user_code.load_dataset()
    with pytest.raises(StepError, match="at most 10 fit"):
        user_code.build_architecture(data.shape, len(data.classes))


def test_the_model_that_is_given_takes_plain_rows_too() -> None:
    assert user_code.build_architecture((13,), 3).classes == 3


def test_a_model_with_branches_is_accepted(monkeypatch) -> None:
    def build_model(shape: tuple[int, ...], classes: int):
        layers = user_code.load_keras().layers
        images = layers.Input(shape)
        left = layers.Flatten()(images)
        out = layers.Dense(classes, activation="softmax")(left + layers.LeakyReLU()(left))
        return user_code.load_keras().Model(images, out)

    monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
    assert user_code.build_architecture((2, 2, 1), 3).weight_count == 15


def test_the_optimizer_takes_the_learning_rate() -> None:
    described = user_code.build_optimizer(0.25)
    assert described["config"]["learning_rate"] == pytest.approx(0.25)
    assert described == user_code.build_optimizer(0.25)


@pytest.mark.parametrize(
    ("features", "labels", "classes", "told"),
    [
        ([[1]], LABELS, ["a", "b"], "features are list"),
        (IMAGES.astype(np.int64), LABELS, ["a", "b"], "features are int64"),
        (IMAGES[:0], LABELS[:0], ["a", "b"], "features have the shape (0, 8, 8, 1)"),
        (np.full((4, 2), np.nan, np.float32), LABELS, ["a", "b"], "row 0 of the features holds NaN"),
        (IMAGES, LABELS, None, "classes are NoneType"),
        (IMAGES, LABELS, "ab", "classes are str"),
        (IMAGES, LABELS, ["a"], "at least two different names"),
        (IMAGES, LABELS, ["a", "a"], "at least two different names"),
        (IMAGES, LABELS[:3], ["a", "b"], "labels have the shape (3,)"),
        (IMAGES, np.array([0, 1, 2, 1]), ["a", "b"], "the label of row 2 is 2; allowed are the whole numbers 0 to 1"),
        (IMAGES, np.array([0, -1, 0, 1]), ["a", "b"], "the label of row 1 is -1"),
        (IMAGES, np.array([0, np.nan, 0, 1]), ["a", "b"], "the label of row 1 is nan"),
        (IMAGES, np.array([0, 0.5, 0, 1]), ["a", "b"], "the label of row 1 is 0.5"),
        (IMAGES, np.array([0, None, 0, 1], object), ["a", "b"], "the label of row 1 is None"),
        (IMAGES, np.array(["cat", "dog", "cat", "dog"]), ["a", "b"], "labels are <U3"),
    ],
)
def test_wrong_data_is_refused_with_a_sentence(features, labels, classes, told) -> None:
    with pytest.raises(StepError) as refused:
        user_code.check_dataset(features, labels, classes)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"module": "os", "class_name": "system", "config": {}}, "os.system"),
        ({"module": "keras.layers", "class_name": "Lambda", "config": {}}, "keras.layers.Lambda"),
        ({"config": {"layers": [{"module": "builtins", "class_name": "function", "config": "eval"}]}}, "builtins"),
        ({"module": "keras.layers", "class_name": "Dense", "registered_name": "mine>Dense"}, "keras.layers.Dense"),
        ({"module": None, "class_name": "__lambda__", "config": {}}, "__lambda__"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/"}}, "TFSMLayer"),
        ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/"}}, "StringLookup"),
    ],
)
def test_what_keras_does_not_provide_is_refused(node, told) -> None:
    with pytest.raises(StepError, match="cannot be trained in the database") as refused:
        user_code.refuse_foreign_objects(node, "model.py:")
    assert told in str(refused.value)
