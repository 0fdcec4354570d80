"""An exported model answers as Keras does; a refusal names the layer that cannot be exported."""

import numpy as np
import pytest

from pipeline.errors import StepError
from pipeline.registry import onnx_export, round_trip
from pipeline.training_db import ServedRows
from pipeline.user_code import load_keras


def model(*layers, shape=(12, 10, 3)):
    """Return a classifier of four classes with these layers first."""
    keras = load_keras()
    last = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4, activation="softmax")]
    return keras.Sequential([keras.Input(shape), *layers, *last])


def test_layers_for_training_are_left_out() -> None:
    layers = load_keras().layers
    augmentation = load_keras().Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    built = model(augmentation, layers.RandomTranslation(0.1, 0.1), layers.GaussianNoise(0.1), layers.Dropout(0.5))
    onnx_export.check(built.to_json(), "float32", (0, 1))
    rows = np.random.default_rng(1).random((5, 12, 10, 3), "float32")
    exported = onnx_export.export(built, "float32", rows)
    assert np.allclose(onnx_export.probabilities(exported, rows), built(rows, training=False), atol=1e-5)


def test_batch_normalization_after_a_random_layer_uses_its_averages() -> None:
    """Not the statistics of the batch, as in training."""
    layers = load_keras().layers
    built = model(layers.RandomFlip("horizontal"), layers.Conv2D(4, 3), layers.BatchNormalization())
    onnx_export.check(built.to_json(), "float32", (0, 1))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_normalization_is_exported(dtype) -> None:
    layer = load_keras().layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])
    onnx_export.check(model(layer).to_json(), dtype, (0, 255))


@pytest.mark.parametrize(("axis", "invert"), [((1, 2, 3), False), ((1, 2, 3), True), (None, False), ((3, 1), False)])
def test_an_adapted_normalization_is_exported(axis, invert) -> None:
    """The edge of all images is white, so the deviation of its pixels is 0."""
    rows = np.full((20, 12, 10, 3), 255, "f4")
    rows[:, 2:-2, 2:-2] = np.random.default_rng(1).uniform(0, 255, (20, 8, 6, 3))
    layer = load_keras().layers.Normalization(axis=axis, invert=invert)
    layer.adapt(rows)
    onnx_export.export(model(layer), "float32", rows[:4])


def test_a_layer_that_cannot_be_served_is_named() -> None:
    built = model(
        load_keras().layers.Conv2D(4, 3),
        load_keras().layers.Discretization([0.2, 0.6], name="bins"),
        load_keras().layers.Rescaling(1.0),
    )
    with pytest.raises(StepError, match=r"the layer bins \(Discretization\) cannot be served: ") as refused:
        onnx_export.check(built.to_json(), "float32", (0, 1))
    assert "\n" not in str(refused.value)


def test_a_difference_between_the_databases_is_measured() -> None:
    rows = np.random.default_rng(1).random((6, 12, 10, 3), "float32")
    built = model()
    exported = onnx_export.export(built, "float32", rows)
    served = ServedRows(rows, np.asarray(built(rows)))
    assert round_trip.refusal(exported, served) is None
    reason = round_trip.refusal(exported, served._replace(probabilities=served.probabilities + 0.25))
    assert reason is not None
    assert "6 validation rows" in reason
    assert "differs by 0.25; allowed is 0.0001" in reason
