"""Refusal of descriptions of models and optimizers before anything is built."""

import importlib
import inspect
import json
import re

import pytest

from database.python import allowed
from pipeline import user_code
from pipeline.errors import StepError

DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": None}
TENSOR = {
    "class_name": "__keras_tensor__",
    "config": {"shape": [None, 4], "dtype": "float32", "keras_history": ["a", 0, 0]},
}


def built_with(**kwargs) -> dict:
    """Return a description of a layer that is called with these arguments."""
    return {**DENSE, "inbound_nodes": [{"args": [TENSOR], "kwargs": kwargs}]}


def nested(levels: int) -> dict:
    """Return a description that is this many levels deep."""
    description: dict = {}
    for _ in range(levels):
        description = {"config": description}
    return description


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"module": "os", "class_name": "system", "config": {}}, "os.system cannot be trained"),
        ({"module": "keras", "class_name": "layers.Lambda", "config": {}}, "keras.layers.Lambda cannot"),
        ({"module": "keras", "class_name": "layers.Dense", "config": {"units": 3}}, "keras.layers.Dense cannot"),
        ({"module": "keras", "class_name": "layers.TFSMLayer", "config": {"filepath": "/etc"}}, "TFSMLayer cannot"),
        ({"module": "keras", "class_name": "function", "config": "datasets.mnist.load_data"}, "keras.function cannot"),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, "builtins.function cannot"),
        ({"module": "keras.layers", "class_name": "Lambda", "config": {}}, "keras.layers.Lambda cannot"),
        ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/"}}, "StringLookup"),
        ({"module": "keras.utils", "class_name": "get_file", "config": {}}, "keras.utils.get_file cannot"),
        ({"module": "keras.src.ops.numpy", "class_name": "backend", "config": {}}, "keras.src.ops.numpy.backend"),
        ({"module": None, "class_name": "__lambda__", "config": {}}, "__lambda__ cannot"),
        ({"module": None, "class_name": "__typespec__", "config": {}}, "__typespec__ cannot"),
        ({"class_name": "Dense", "config": {"units": 3}}, "None.Dense cannot"),
        ({**DENSE, "registered_name": "mine>Dense"}, "keras.layers.Dense cannot"),
        ({**DENSE, "class_name": ["Dense"]}, "cannot be trained"),
        ({**DENSE, "module": {"keras": 1}}, "cannot be trained"),
        ({**DENSE, "compile_config": {"loss": "mse"}}, "has a compile_config"),
        ({**DENSE, "config": {"units": 3, "kernel_quantizer": {**DENSE, "module": "keras.quantizers"}}}, "quantizers"),
        ({**DENSE, "inbound_nodes": [[["input", 0, 0, {}]]]}, "must have args and kwargs"),
        ({**DENSE, "inbound_nodes": [{"args": [TENSOR], "kwargs": [1]}]}, "must have args and kwargs"),
        ({**DENSE, "inbound_nodes": {"args": ["/etc/passwd"], "kwargs": {}}}, "argument '/etc/passwd'"),
        (built_with(call_endpoint="serving"), "argument 'serving'"),
        (built_with(mask=[TENSOR, {"class_name": "Dense"}]), "only tensors, numbers"),
        (nested(100), "or 64 levels"),
        ([0] * 600_000, "more than 500,000 parts"),
    ],
)
def test_a_description_that_could_do_more_than_compute_is_refused(description, message) -> None:
    """Wherever it stands, and with the place in model.py for the person who wrote it."""
    for place in (description, [{"layers": [DENSE, description]}]):
        with pytest.raises(ValueError, match=re.escape(message)):
            allowed.refuse_foreign_objects(place)
    with pytest.raises(StepError, match=r"^model.py: build_model\(\): "):
        user_code._refuse_foreign_objects(description, "model.py: build_model():")


def test_a_description_deeper_than_pythons_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        allowed.refuse_foreign_objects(nested(100_000))


@pytest.mark.parametrize(
    "arguments", [{"training": False}, {"mask": None}, {"query": TENSOR}, {"value": [TENSOR, 2.5]}]
)
def test_a_layer_may_be_called_with_tensors_and_numbers(arguments) -> None:
    allowed.refuse_foreign_objects(built_with(**arguments))


@pytest.mark.parametrize("module", allowed.ALLOWED)
def test_every_allowed_name_is_a_class_of_keras(module) -> None:
    """Keras finds each name in its public modules, or the module itself has it; none is an abstract base."""
    user_code.load_keras()
    serialization = importlib.import_module("keras.src.saving.serialization_lib")
    for name in allowed.ALLOWED[module].split():
        keras_object = serialization._retrieve_class_or_fn(name, None, module, "class", {})
        assert inspect.isclass(keras_object), (module, name)
        assert hasattr(keras_object, "from_config")
        assert keras_object.__module__.startswith("keras.src."), (module, name)


def test_models_as_people_write_them_are_allowed() -> None:
    """Operators on tensors, nested models, layers called in inference, schedules and initializers with arguments."""
    keras = user_code.load_keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    base = keras.Sequential(
        [layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(seed=1)), layers.ReLU()]
    )
    base.compile(loss="mse")
    x = base(inputs / 255.0, training=False)
    x = layers.Bidirectional(layers.GRU(3, kernel_regularizer=keras.regularizers.L2(0.1)))(layers.Reshape((6, 24))(x))
    model = keras.Model(inputs, layers.Dense(2, activation=keras.activations.softmax)(x * 2 + 1))
    description = json.loads(model.to_json())
    user_code._remove_compilation(description)
    allowed.refuse_foreign_objects(description)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    allowed.refuse_foreign_objects(keras.optimizers.serialize(keras.optimizers.AdamW(schedule)))
