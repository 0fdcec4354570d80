"""model.py keeps the contract; a mistake in it is refused with one sentence."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from pipeline import user_code
from pipeline.errors import StepError


@pytest.mark.parametrize("shape", [(30,), (8, 8, 1), (32, 32, 3)])
def test_the_model_takes_rows_and_images_and_is_the_same_each_time(shape) -> None:
    first = user_code.build_architecture(shape, 3)
    second = user_code.build_architecture(shape, 3)
    assert first.weight_count > 0
    assert first.hash == second.hash


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


def test_a_package_that_is_missing_while_the_model_is_built_is_named(monkeypatch) -> None:
    def build_model(shape: tuple[int, ...], classes: int):
        importlib.import_module("nowhere.at.all")

    monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
    with pytest.raises(StepError, match=r"No module named 'nowhere'; add the package of nowhere with `make lock ADD="):
        user_code.build_architecture((2,), 3)


def test_a_syntax_error_in_a_module_beside_the_model_names_its_file(monkeypatch, tmp_path) -> None:
    (tmp_path / "beside.py").write_text("\n\ndef (\n")
    monkeypatch.syspath_prepend(tmp_path)

    def build_model(shape: tuple[int, ...], classes: int):
        importlib.import_module("beside")

    monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
    with pytest.raises(StepError, match=r"SyntaxError: invalid syntax \(beside\.py, line 3\)"):
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


@pytest.fixture
def build(monkeypatch):
    """A function that replaces build_model by another one, and returns the architecture."""

    def architecture(build_model, shape=(2,), classes=3) -> user_code.Architecture:
        monkeypatch.setattr(importlib.import_module("model"), "build_model", build_model)
        return user_code.build_architecture(shape, classes)

    return architecture


def dense(*layers, classes: int = 3):
    """Return a model of one row of two numbers, with these layers before the last one."""
    keras = user_code.load_keras()
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(classes, activation="softmax")])


def test_several_inputs_are_named(build) -> None:
    def build_model(shape, classes):
        keras = user_code.load_keras()
        first, second = keras.Input(shape, name="left"), keras.Input(shape, name="right")
        return keras.Model([first, second], keras.layers.Dense(classes, activation="softmax")(first + second))

    with pytest.raises(
        StepError, match=r"the model has the inputs left, right and the outputs .*; one of each is needed"
    ):
        build(build_model)


def test_fresh_weights_are_left_to_the_seed_of_a_run(build) -> None:
    assert build(lambda shape, classes: dense()).starting_weights == b""


def test_weights_that_the_code_sets_are_kept(build) -> None:
    def build_model(shape, classes):
        model = dense(user_code.load_keras().layers.Dense(2, name="base"))
        model.get_layer("base").set_weights([np.full((2, 2), 7, "f4"), np.ones(2, "f4")])
        return model

    fresh, given = (
        build(lambda shape, classes: dense(user_code.load_keras().layers.Dense(2, name="base"))),
        build(build_model),
    )
    values = np.frombuffer(given.starting_weights, "<f4")
    # The kernel and bias of the base, then the kernel of the last layer, which the seed decides, and its bias.
    assert values[:6].tolist() == [7] * 4 + [1] * 2
    assert np.isnan(values[6:12]).all()
    assert values[12:].tolist() == [0] * 3
    assert given.json == fresh.json
    assert given.hash != fresh.hash


def test_weights_that_are_no_numbers_are_refused(build) -> None:
    def build_model(shape, classes):
        model = dense()
        model.set_weights([np.full((2, 3), np.nan, "f4"), np.zeros(3, "f4")])
        return model

    with pytest.raises(StepError, match=r"the weight .*kernel holds NaN or infinity"):
        build(build_model)


def test_a_model_that_is_another_at_each_call_is_refused(build) -> None:
    sizes = iter((1, 2))

    def build_model(shape, classes):
        return dense(*[user_code.load_keras().layers.Dense(2) for _ in range(next(sizes))])

    with pytest.raises(StepError, match="two calls return models with different weights"):
        build(build_model)


def test_an_adapted_normalization_is_described_by_its_numbers(build) -> None:
    def build_model(shape, classes):
        layer = user_code.load_keras().layers.Normalization()
        layer.adapt(np.array([[0, 10], [4, 30]], "f4"))
        return dense(layer)

    built = build(build_model)
    assert built.weight_count == 9
    assert built.starting_weights == b""
    model = user_code.load_keras().models.model_from_json(built.json)
    assert model.layers[0](np.array([[2, 20]], "f4")).numpy() == pytest.approx(0, abs=1e-6)


def test_frozen_layers_stay_frozen(build) -> None:
    def build_model(shape, classes):
        keras = user_code.load_keras()
        base = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)], name="base")
        base.trainable = False
        return dense(base)

    model = user_code.load_keras().models.model_from_json(build(build_model).json)
    assert [tuple(weight.shape) for weight in model.trainable_weights] == [(4, 3), (3,)]


@pytest.mark.parametrize("wanted", [2, 3])
def test_the_model_gets_the_range_of_values_if_it_takes_it(monkeypatch, wanted) -> None:
    calls = []

    def of_two(shape, classes):
        calls.append((shape, classes))
        return dense()

    def of_three(shape, classes, value_range=(0, 255)):
        calls.append((shape, classes, value_range))
        return dense()

    monkeypatch.setattr(importlib.import_module("model"), "build_model", of_two if wanted == 2 else of_three)
    user_code.build_architecture((2,), 3, (-1.0, 1.0))
    assert calls[0] == ((2,), 3, (-1.0, 1.0))[:wanted]


def test_the_optimizer_has_the_learning_rate() -> None:
    described = user_code.build_optimizer(0.25)
    assert described["config"]["learning_rate"] == pytest.approx(0.25)
    assert described == user_code.build_optimizer(0.25)


def test_tensorflows_messages_are_silenced() -> None:
    """In a process of its own, because TensorFlow prints them once, when it is imported."""
    run_code("from pipeline import user_code; user_code.build_architecture((8, 8, 1), 3)")


def test_keras_is_imported_without_packages_for_other_work() -> None:
    """They can be imported afterwards."""
    run_code(
        "import sys; from pipeline import user_code; user_code.load_keras()\n"
        "assert not {'matplotlib', 'pandas', 'sklearn'} & sys.modules.keys()\n"
        "import matplotlib, pandas, sklearn"
    )


def run_code(code: str) -> None:
    """Run Python in a process of its own, which must print nothing to standard error."""
    completed = subprocess.run([sys.executable, "-c", code], cwd=user_code.ROOT, capture_output=True, text=True)
    assert (completed.returncode, completed.stderr) == (0, "")
