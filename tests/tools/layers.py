"""Tries every public layer of Keras in a generated project, and prints a page of docs/reference with the results.

    python tests/tools/layers.py PROJECT     with the Python of the project's pipeline environment

Each layer stands in a small classifier, which the aggregate's Python trains on a few rows and the pipeline exports.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

HEADER = """# Layers

This page lists the layers of Keras {keras} that a model can have. *Trains*: the training database builds and trains the
layer. *Served*: its ONNX model answers as Keras does, to 0.0001. `deploy_training_code` checks a whole model in the
same way before anything is trained, and names the layer that cannot be served.

| layer | trains | served |
|---|---|---|
"""
IMAGE, SEQUENCE, VOLUME, ROW = (8, 8, 3), (6, 4), (4, 4, 4, 2), (5,)
# Wrappers and base classes, which need another layer, and layers that are no part of a classifier of numbers.
NOT_TRIED = {
    "Layer",
    "Wrapper",
    "InputLayer",
    "InputSpec",
    "GRUCell",
    "LSTMCell",
    "SimpleRNNCell",
    "Pipeline",
    "CutMix",
    "MixUp",
    "MaxNumBoundingBoxes",
    "ReversibleEmbedding",
}
# Layers that more than one tensor enters, and the shape of each.
MERGES = {
    "Add": ROW,
    "Average": ROW,
    "Maximum": ROW,
    "Minimum": ROW,
    "Multiply": ROW,
    "Subtract": ROW,
    "Concatenate": ROW,
    "Dot": ROW,
    "Attention": SEQUENCE,
    "AdditiveAttention": SEQUENCE,
    "MultiHeadAttention": SEQUENCE,
    "GroupQueryAttention": SEQUENCE,
}
# Of these, the layers that take two arguments; the others take a list.
TWO_ARGUMENTS = {"MultiHeadAttention", "GroupQueryAttention"}
# Arguments of the constructor per layer.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Activation": {"activation": "tanh"},
    "ActivityRegularization": {"l2": 0.1},
    "AlphaDropout": {"rate": 0.2},
    "CategoryEncoding": {"num_tokens": 4},
    "CenterCrop": {"height": 4, "width": 4},
    "Cropping1D": {"cropping": 1},
    "Cropping2D": {"cropping": 1},
    "Cropping3D": {"cropping": 1},
    "Dense": {"units": 4},
    "DepthwiseConv1D": {"kernel_size": 2},
    "DepthwiseConv2D": {"kernel_size": 2},
    "Discretization": {"bin_boundaries": [0.2, 0.6]},
    "Dot": {"axes": 1},
    "Dropout": {"rate": 0.2},
    "EinsumDense": {"equation": "ab,bc->ac", "output_shape": 4},
    "Embedding": {"input_dim": 4, "output_dim": 3},
    "Normalization": {"mean": 1.0, "variance": 4.0},
    "GaussianDropout": {"rate": 0.2},
    "GaussianNoise": {"stddev": 0.2},
    "GroupNormalization": {"groups": 1},
    "GroupQueryAttention": {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1},
    "Hashing": {"num_bins": 3},
    "HashedCrossing": {"num_bins": 3},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 2},
    "Permute": {"dims": (2, 1)},
    "RandomBrightness": {"factor": 0.1},
    "RandomContrast": {"factor": 0.1},
    "RandomCrop": {"height": 4, "width": 6},
    "RandomColorDegeneration": {"factor": 0.1},
    "RandomHue": {"factor": 0.1},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.1},
    "RandomSaturation": {"factor": 0.1},
    "RandomSharpness": {"factor": 0.1},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "RepeatVector": {"n": 2},
    "Rescaling": {"scale": 0.5},
    "Reshape": {"target_shape": (-1,)},
    "Resizing": {"height": 4, "width": 4},
    "UpSampling1D": {"size": 2},
}
# The shape of a row per layer whose name does not imply it.
SHAPES = {
    "Permute": SEQUENCE,
    "Masking": SEQUENCE,
    "GRU": SEQUENCE,
    "LSTM": SEQUENCE,
    "SimpleRNN": SEQUENCE,
    "RNN": SEQUENCE,
    "Bidirectional": SEQUENCE,
    "TimeDistributed": SEQUENCE,
    "StackedRNNCells": SEQUENCE,
    "ConvLSTM1D": (3, 6, 2),
    "ConvLSTM2D": (3, 6, 6, 2),
    "ConvLSTM3D": (2, 4, 4, 4, 2),
    "GroupNormalization": IMAGE,
    "CenterCrop": IMAGE,
    "Resizing": IMAGE,
    "Equalization": IMAGE,
    "AutoContrast": IMAGE,
    "Solarization": IMAGE,
    "AugMix": IMAGE,
    "RandAugment": IMAGE,
    "ContrastLimitedAdaptiveHistogramEqualization": IMAGE,
    "SpectralNormalization": IMAGE,
    "MelSpectrogram": (256,),
    "STFTSpectrogram": (256, 1),
}


def main(project: str) -> None:
    """Print the page."""
    sys.path.insert(0, project)
    keras = importlib.import_module("pipeline.user_code").load_keras()
    sys.stdout.write(HEADER.format(keras=keras.__version__))
    for name, layer in public_layers(keras):
        trains, served = results(keras, name, layer)
        sys.stdout.write(f"| {name} | {trains} | {served} |\n")


def public_layers(keras: Any) -> Iterator[tuple[str, type]]:
    """Yield name and class of each public layer once, under the name of its class."""
    for name in sorted(dir(keras.layers)):
        layer = getattr(keras.layers, name)
        if isinstance(layer, type) and layer.__name__ == name and name not in NOT_TRIED:
            yield name, layer


def results(keras: Any, name: str, layer: type) -> tuple[str, str]:
    """Return whether a layer trains and is served, yes or no; print the reason to standard error."""
    allowed = importlib.import_module("database.python.allowed")
    if ("keras.layers", name) not in allowed.PAIRS:
        return "no", "no"
    try:
        model = classifier(keras, name, layer)
    except Exception as error:
        sys.stderr.write(f"{name} cannot be built: {error}\n")
        return "no", "no"
    return attempt(name, lambda: train(model)), attempt(name, lambda: export(model))


def classifier(keras: Any, name: str, layer: type) -> Any:
    """Return a classifier of two classes with the layer in it."""
    layers = keras.layers
    made = {
        "Bidirectional": lambda: layers.Bidirectional(layers.GRU(3)),
        "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3)),
        "RNN": lambda: layers.RNN(layers.LSTMCell(3)),
        "StackedRNNCells": lambda: layers.RNN(layers.StackedRNNCells([layers.GRUCell(3), layers.GRUCell(2)])),
        "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Conv2D(2, 2)),
    }.get(name, lambda: layer(**arguments(name)))()
    inputs = keras.Input(shape_of(name), name="images")
    several = (inputs, inputs) if name in TWO_ARGUMENTS else ([inputs, inputs],)
    inner = made(*(several if name in MERGES else (inputs,)))
    inner = layers.Flatten()(layers.Rescaling(1.0)(inner))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(inner))


def arguments(name: str) -> dict[str, Any]:
    """Return the arguments with which a layer is made."""
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    if name.startswith("AveragePooling"):
        return {"pool_size": 2}
    if name.startswith("Adaptive"):
        return {"output_size": 2}
    if name.startswith(("Conv", "SeparableConv")):
        return {"filters": 2, "kernel_size": 2}
    if name.startswith("SpatialDropout"):
        return {"rate": 0.2}
    return {"units": 3} if name in ("GRU", "LSTM", "SimpleRNN") else {}


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of the rows that a layer gets."""
    if name in MERGES or name in SHAPES:
        return MERGES.get(name) or SHAPES[name]
    if name.endswith(("1D", "1DTranspose")):
        return SEQUENCE
    if name.endswith(("3D", "3DTranspose")):
        return VOLUME
    return IMAGE if name.startswith("Random") or name.endswith(("2D", "2DTranspose")) else ROW


def attempt(name: str, work: Callable[[], None]) -> str:
    """Return yes, or no when the work fails; print the reason to standard error."""
    try:
        work()
    except Exception as error:
        sys.stderr.write(f"{name}: {error}\n")
        return "no"
    return "yes"


def rows_for(model: Any) -> Any:
    """Return eight random rows of whole numbers 0 to 3, which every layer takes."""
    import numpy as np

    return np.random.default_rng(1).integers(0, 4, (8, *model.input_shape[1:])).astype("<f4")


def train(model: Any) -> None:
    """Train on a block of rows as the training database does, from JSON. Raises ValueError."""
    import numpy as np

    fit = importlib.import_module("database.python.fit")
    training_db = importlib.import_module("pipeline.training_db")
    rows, labels = rows_for(model), np.arange(8, dtype="<i4") % 2
    config = training_db.model_config(model.to_json(), rows.shape[1:], 2, "float32", {"batch_size": 4, "seed": 1})
    fit.transition(b"fit", rows.tobytes(), labels.tobytes(), 8, b"", config, {})


def export(model: Any) -> None:
    """Export the model of its JSON, and compare it with Keras. Raises StepError."""
    onnx_export = importlib.import_module("pipeline.registry.onnx_export")
    fresh = importlib.import_module("keras").models.model_from_json(json.dumps(json.loads(model.to_json())))
    onnx_export.export(fresh, "float32", rows_for(model))


if __name__ == "__main__":
    main(sys.argv[1])
