"""model.py keeps the contract; a mistake in it is refused with one sentence."""

import importlib

import pytest

from database.python import fit
from pipeline import user_code
from pipeline.errors import StepError


@pytest.mark.parametrize("shape", [(30,), (8, 8, 1), (32, 32, 3)])
def test_the_model_takes_rows_and_images_and_is_the_same_each_time(shape) -> None:
    first = user_code.build_architecture(shape, 3)
    second = user_code.build_architecture(shape, 3)
    assert first.weight_count > 0
    assert first.hash == second.hash


def test_the_database_refuses_the_same_names() -> None:
    assert fit.KERAS_MODULES == user_code.KERAS_MODULES
    assert fit.REFUSED_CLASSES == user_code.REFUSED_CLASSES


@pytest.mark.parametrize(
    ("units", "activation", "message"), [(3, "relu", "are no probabilities"), (4, "softmax", "returns")]
)
def test_a_model_without_probabilities_is_refused(monkeypatch, units, activation, message) -> None:
    def build_model(shape: tuple[int, ...], classes: int):
        keras = user_code.load_keras()
        return keras.Sequential([keras.Input(shape), keras.layers.Dense(units, activation=activation)])

    monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
    with pytest.raises(StepError, match=message):
        user_code.build_architecture((2,), 3)


def test_a_model_that_is_too_large_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(user_code, "MOST_WEIGHTS", 10)
    with pytest.raises(StepError, match="at most 10 fit"):
        user_code.build_architecture((30,), 2)


def test_a_model_with_branches_is_accepted(monkeypatch) -> None:
    def build_model(shape: tuple[int, ...], classes: int):
        layers = user_code.load_keras().layers
        images = layers.Input(shape)
        left = layers.Flatten()(images)
        out = layers.Dense(classes, activation="softmax")(left + layers.LeakyReLU()(left))
        return user_code.load_keras().Model(images, out)

    monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
    assert user_code.build_architecture((2, 2, 1), 3).weight_count == 15


def test_the_optimizer_has_the_learning_rate() -> None:
    described = user_code.build_optimizer(0.25)
    assert described["config"]["learning_rate"] == pytest.approx(0.25)
    assert described == user_code.build_optimizer(0.25)


@pytest.mark.parametrize(
    ("node", "message"),
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
def test_objects_that_are_not_keras_own_are_refused(node, message) -> None:
    with pytest.raises(StepError, match="cannot be trained in the database") as raised:
        user_code.refuse_foreign_objects(node, "model.py:")
    assert message in str(raised.value)
