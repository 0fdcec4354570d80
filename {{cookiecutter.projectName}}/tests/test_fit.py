"""The aggregates' Python: starting weights, frozen layers, random layers and the loss, without a database."""

import json
import struct
import sys

import numpy as np
import pytest

from database.python import fit, heartbeat
from database.python.state import HEADER
from pipeline.training.row_progress import RowProgress
from pipeline.training_db import SGD, model_config
from pipeline.user_code import load_keras

ROWS = np.random.default_rng(1).normal(size=(32, 4)).astype("<f4")
LABELS = (ROWS[:, 0] > 0).astype("<i4")


def two_layers(*more, frozen: bool = False) -> str:
    """Return the JSON of a model of four numbers and two classes: two Dense layers, the first one frozen or not."""
    keras = load_keras()
    first = keras.layers.Dense(3, trainable=not frozen)
    return keras.Sequential(
        [keras.Input((4,)), first, *more, keras.layers.Dense(2, activation="softmax")]
    ).to_json()  # fmt: skip


def trained(architecture: str, weights: bytes = b"", epoch: int = 1, **parameters) -> tuple[float, np.ndarray]:
    """Return the mean loss and the weights (17,) after one pass over the rows."""
    values = {"batch_size": 8, "seed": 3, **parameters}
    config = model_config(architecture, (4,), 2, "float32", values, {**SGD, "config": {"learning_rate": 0.1}}, epoch)
    state = fit.transition(b"fit", ROWS.tobytes(), LABELS.tobytes(), len(ROWS), weights, config, {})
    _, _, rows, loss, _ = struct.unpack_from(HEADER, state)
    return loss / rows, np.frombuffer(state, "<f4", 23, struct.calcsize(HEADER))


def test_a_weight_that_is_nan_is_initialised_from_the_seed() -> None:
    """All NaN is the same as no weights; given numbers replace the others."""
    architecture = two_layers(frozen=True)
    assert np.array_equal(trained(architecture)[1], trained(architecture, np.full(23, np.nan, "<f4").tobytes())[1])
    given = np.full(23, np.nan, "<f4")
    given[:12] = 0.5
    values = trained(architecture, given.tobytes())[1]
    assert values[:12].tolist() == [0.5] * 12
    assert np.isfinite(values).all()


def test_a_frozen_layer_does_not_change() -> None:
    frozen, free = trained(two_layers(frozen=True))[1], trained(two_layers())[1]
    started = trained(two_layers(frozen=True), seed=3)[1]
    assert np.array_equal(frozen[:15], started[:15])
    assert not np.array_equal(free[:12], frozen[:12])


def test_evaluation_refuses_to_replace_a_weight() -> None:
    """Weights that are no numbers give a loss that is none, not the loss of other weights."""
    config = model_config(two_layers(), (4,), 2, "float32")
    state = fit.transition(
        b"evaluate", ROWS.tobytes(), LABELS.tobytes(), 32, np.full(23, np.nan, "<f4").tobytes(), config, {}
    )
    assert np.isnan(struct.unpack_from(HEADER, state)[3])


def test_predictions_are_those_of_keras() -> None:
    """Predictions equal Keras's for a block of more than 256 rows, and a second block's follow the first's."""
    keras = load_keras()
    architecture = two_layers(keras.layers.Dropout(0.5), keras.layers.BatchNormalization())
    model = keras.models.model_from_json(architecture)
    weights = b"".join(np.asarray(weight, "<f4").tobytes() for weight in model.weights)
    config = model_config(architecture, (4,), 2, "float32")
    rows = np.random.default_rng(2).normal(size=(300, 4)).astype("<f4")
    session: dict = {}
    state = fit.transition(b"predict", rows.tobytes(), bytes(1200), 300, weights, config, session)
    state = fit.transition(state, ROWS.tobytes(), LABELS.tobytes(), 32, weights, config, session)
    answers = np.frombuffer(state, "<f4", offset=struct.calcsize(HEADER)).reshape(-1, 2)
    assert answers == pytest.approx(model(np.concatenate([rows, ROWS])).numpy(), abs=1e-6)
    assert struct.unpack_from(HEADER, state)[2] == 332


def test_random_layers_train() -> None:
    noisy = two_layers(load_keras().layers.GaussianNoise(0.5))
    assert trained(noisy)[0] == trained(noisy)[0]
    assert trained(noisy)[0] != trained(two_layers())[0]


def test_the_loss_is_that_of_keras() -> None:
    """With learning rate 0 in effect: one batch, so the loss is that of the starting weights."""
    keras = load_keras()
    architecture = two_layers()
    whole, _ = trained(architecture, batch_size=32)
    keras.utils.set_random_seed(3)
    model = keras.models.model_from_json(architecture)
    answers = model(ROWS).numpy()
    assert whole == pytest.approx(-np.log(answers[np.arange(32), LABELS]).mean(), rel=1e-5)
    smooth, _ = trained(architecture, batch_size=32, label_smoothing=0.2)
    targets = np.eye(2)[LABELS]
    expected = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(targets, answers)
    assert smooth == pytest.approx(float(expected), rel=1e-5)
    weighted, _ = trained(architecture, batch_size=32, class_weights=[1.0, 3.0])
    factors = np.where(LABELS == 1, 3.0, 1.0)
    assert weighted == pytest.approx((-np.log(answers[np.arange(32), LABELS]) * factors).mean(), rel=1e-5)


def test_the_client_reads_the_message_of_an_aggregate() -> None:
    session: dict = {}
    assert heartbeat.is_heartbeat_due(session)
    assert not heartbeat.is_heartbeat_due(session)
    shown: list[str] = []
    progress = RowProgress(2, 1000, shown.append)
    for rows in (100, 250):
        progress.read(f"NOTICE:  {heartbeat.heartbeat(struct.pack(HEADER, b'fit', bytes(16), rows, 1.0, 1))}\n")
    progress.read("NOTICE:  rows seen: fit 1 50\n")
    progress.read(f"NOTICE:  {heartbeat.heartbeat(struct.pack(HEADER, b'evaluate', bytes(16), 99, 1.0, 1))}\n")
    assert [text.split(", ")[0] for text in shown] == [
        "epoch 2: 100 of 1,000 rows", "epoch 2: 250 of 1,000 rows", "epoch 2: 300 of 1,000 rows",
    ]  # fmt: skip


def test_a_configuration_without_a_loss_is_as_before() -> None:
    config = json.loads(model_config(two_layers(), (4,), 2, "float32", {"batch_size": 8}))
    assert not {"class_weights", "label_smoothing"} & config.keys()


def test_a_session_with_a_compiled_query_is_refused(monkeypatch, tmp_path) -> None:
    """PostgreSQL's compiler and TensorFlow in one process end the server."""
    assert not fit.compiler_is_loaded()
    monkeypatch.setattr(fit, "compiler_is_loaded", lambda: True)
    assert fit.start_tensorflow(0, {})
    monkeypatch.delitem(sys.modules, "tensorflow")
    with pytest.raises(ValueError, match="SET jit = off in a new session"):
        fit.start_tensorflow(0, {})
