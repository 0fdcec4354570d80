"""Limits of `fit`, `evaluate` and `predict_block`: a caller's numbers decide how much memory a model takes."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# A weight with two optimizer slots is 12 bytes, 24 as hexadecimal text; a value of the database holds 1 GB.
MOST_WEIGHTS = 40_000_000
# The confusion matrix (int64, classes²) is one value of the database, too.
MOST_CLASSES = 10_000
# TensorFlow compiles a model in one go, which nothing can cancel.
MOST_LAYERS = 1_000
# Values of a row, and of what a layer returns for a row.
MOST_VALUES = 100_000_000
# Lowest and highest value of each whole number in `config`.
NUMBERS = {
    "batch_size": (1, 2**31 - 1),
    "classes": (1, MOST_CLASSES),
    "seed": (0, 2**32 - 1),
    "epoch": (0, 2**31 - 1),
    "threads": (0, 1024),
}
DTYPES = ("uint8", "float32")


def refuse_wrong_numbers(settings: "Mapping[str, Any]") -> None:
    """Raise ValueError unless the numbers, shape and dtype of `config` are within the limits."""
    for name, (lowest, highest) in NUMBERS.items():
        value = settings.get(name)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(f"config: {name} is {value!r}; allowed is a whole number from {lowest} to {highest}")
    shape = settings.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"config: shape is {shape!r}; allowed is a list of whole numbers above 0")
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(
            f"config: a row of shape {shape} has {math.prod(shape):,} values; at most {MOST_VALUES:,} are allowed"
        )
    if settings.get("dtype") not in DTYPES:
        raise ValueError(f"config: dtype is {settings.get('dtype')!r}; allowed is {' or '.join(DTYPES)}")


def refuse_large_model(keras: "Any", description: str) -> None:
    """Raise ValueError when a model (Keras JSON) has too many weights or layers, or a layer returns too many values.

    Within the scope Keras describes the weights without allocating memory for them.
    """
    from keras.src.backend.common import global_state

    with keras.StatelessScope(initialize_variables=False):
        model = keras.models.model_from_json(description)
    # Keras would keep them for a later initialization.
    global_state.set_global_attribute("uninitialized_variables", [])
    layers = list(model._flatten_layers(include_self=False))
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"the model has {len(layers):,} layers; at most {MOST_LAYERS:,} are allowed")
    weights = sum(math.prod(weight.shape) for weight in model.weights)
    if weights > MOST_WEIGHTS:
        raise ValueError(f"the model has {weights:,} weights; at most {MOST_WEIGHTS:,} are allowed")
    for layer in layers:
        for shape in output_shapes(layer):
            if row_values(shape) > MOST_VALUES:
                raise ValueError(
                    f"the layer {layer.name} returns {row_values(shape):,} values per row; "
                    f"at most {MOST_VALUES:,} are allowed"
                )


def output_shapes(layer: "Any") -> "Iterator[tuple[int | None, ...]]":
    """Yield the shape of each tensor that a layer returns.

    Nothing for a layer that only another layer calls, such as the one inside Bidirectional.
    """
    for node in layer._inbound_nodes:
        for tensor in node.output_tensors:
            yield tuple(tensor.shape)


def row_values(shape: "tuple[int | None, ...]") -> int:
    """Return the number of values per row of a tensor (rows, …); a size that is not known counts as 1."""
    return math.prod(size for size in shape[1:] if size is not None)
