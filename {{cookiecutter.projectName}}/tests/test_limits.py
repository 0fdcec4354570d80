"""Numbers of a caller that would take too much memory are refused before anything is allocated."""

import json

import pytest

from database.python import fit, limits
from pipeline import user_code
from pipeline.errors import StepError
from pipeline.training_db import model_config
from pipeline.user_code import load_keras

CONFIG = json.loads(model_config("{}", (4,), 2, "float32"))


def architecture(*layers) -> str:
    keras = load_keras()
    return keras.Sequential([keras.Input((8, 8, 1)), *layers]).to_json()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; allowed is a whole number from 1 to 2147483647"),
        ({"batch_size": True}, "batch_size is True"),
        ({"classes": 10**6}, "classes is 1000000; allowed is a whole number from 1 to 10000"),
        ({"threads": 10**6}, "threads is 1000000"),
        ({"seed": None}, "seed is None"),
        ({"epoch": "1"}, "epoch is '1'"),
        ({"shape": [10**6, 10**6]}, "has 1,000,000,000,000 values; at most 100,000,000 are allowed"),
        ({"shape": [4, 0]}, "shape is [4, 0]; allowed is a list of whole numbers above 0"),
        ({"shape": 4}, "shape is 4"),
        ({"dtype": "O"}, "dtype is 'O'; allowed is uint8 or float32"),
    ],
)
def test_a_wrong_number_is_refused(changed: dict, message: str) -> None:
    limits.refuse_wrong_numbers(CONFIG)
    with pytest.raises(ValueError) as refused:
        fit.cached_model(json.dumps({**CONFIG, **changed}), {})
    assert message in str(refused.value)


def test_a_model_with_too_many_weights_is_refused() -> None:
    """Keras would allocate 2.5 TB for it."""
    keras = load_keras()
    large = architecture(keras.layers.Flatten(), keras.layers.Dense(1, name="d"))
    wide = large.replace('"units": 1,', '"units": 10000000000,')
    assert wide != large
    limits.refuse_large_model(keras, large)
    with pytest.raises(ValueError, match="the model has 650,000,000,000 weights; at most 40,000,000 are allowed"):
        limits.refuse_large_model(keras, wide)


def test_a_model_with_too_many_layers_is_refused(monkeypatch) -> None:
    keras = load_keras()
    monkeypatch.setattr(limits, "MOST_LAYERS", 3)
    three = architecture(*(keras.layers.ReLU() for _ in range(2)))
    limits.refuse_large_model(keras, three)
    with pytest.raises(ValueError, match=r"the model has \d layers; at most 3 are allowed"):
        limits.refuse_large_model(keras, architecture(*(keras.layers.ReLU() for _ in range(4))))


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_with_too_many_values_is_refused(nested: bool) -> None:
    keras = load_keras()
    layers = keras.layers.UpSampling2D(10**4, name="up"), keras.layers.GlobalAveragePooling2D()
    if nested:
        layers = (keras.Sequential([keras.Input((8, 8, 1)), *layers]),)
    with pytest.raises(
        ValueError, match="the layer up returns 6,400,000,000 values per row; at most 100,000,000 are allowed"
    ):
        limits.refuse_large_model(keras, architecture(*layers))


def test_a_person_gets_the_sentence_before_the_deployment(monkeypatch) -> None:
    """The pipeline checks with the same module, so `train_model` does not refuse what was deployed."""
    keras = load_keras()
    layers = keras.layers.Flatten(name="flat"), keras.layers.Dense(2, "softmax")
    monkeypatch.setattr(user_code, "_build_model", lambda *_, **__: keras.models.model_from_json(architecture(*layers)))
    user_code.build_architecture((8, 8, 1), 2, (0, 255))
    monkeypatch.setattr(limits, "MOST_VALUES", 50)
    with pytest.raises(StepError, match=r"^model\.py: build_model\(\): the layer \w+ returns 64 values per row"):
        user_code.build_architecture((8, 8, 1), 2, (0, 255))
