"""Load and check the code that a person writes: `dataset.py` and `model.py`."""

import contextlib
import functools
import hashlib
import importlib
import inspect
import json
import os
import sys
import traceback
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from database.python.allowed import refuse_foreign_objects
from database.python.limits import MOST_CLASSES, MOST_WEIGHTS, refuse_large_model
from pipeline import code_files
from pipeline.errors import StepError
from pipeline.settings import ROOT

# Importing Keras takes 4 s, so it is imported when it is first used.
if TYPE_CHECKING:
    import keras


class Dataset(NamedTuple):
    """Features (n, …), uint8 or float32; labels (n,), int32 from 0; and the names of the classes."""

    features: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    classes: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.features.shape[1:]


class Architecture(NamedTuple):
    """A model: Keras JSON, one row's shape, numbers of classes and of weights, and the weights that model.py set.

    `starting_weights` is float32 bytes in Keras's order, NaN where a run's seed decides; empty when it does for all.
    """

    json: str
    shape: tuple[int, ...]
    classes: int
    weight_count: int
    starting_weights: bytes = b""

    @property
    def hash(self) -> str:
        """SHA-256 of the JSON, the shape and the starting weights, hexadecimal."""
        content = f"{self.json}\n{self.shape}\n{self.classes}".encode()
        if self.starting_weights:
            content += hashlib.sha256(self.starting_weights).digest()
        return hashlib.sha256(content).hexdigest()


@functools.cache
def load_dataset() -> Dataset:
    """Call `dataset.load()` and check what it returns. Raises StepError with the first mistake."""
    loaded = _call("dataset", "load")
    if not isinstance(loaded, tuple) or len(loaded) != 3:
        raise StepError("dataset.py: load() must return (features, labels, classes)")
    return check_dataset(*loaded)


def check_dataset(features: object, labels: object, classes: object) -> Dataset:
    """Return the data set with int32 labels. Raises StepError with the first mistake."""
    where = "dataset.py: load():"
    if not isinstance(features, np.ndarray) or features.dtype not in (np.uint8, np.float32):
        kind = getattr(features, "dtype", type(features).__name__)
        raise StepError(
            f"{where} features are {kind}; they must be a numpy array of uint8 or float32, with rows of one shape"
        )
    if features.ndim < 2 or 0 in features.shape:
        raise StepError(f"{where} features have the shape {features.shape}; it must be (rows, …) and none of it 0")
    if features.dtype == np.float32 and not np.isfinite(features).all():
        row = int(np.argwhere(~np.isfinite(features))[0][0])
        raise StepError(f"{where} row {row} of the features holds NaN or infinity; every value must be a number")
    if not isinstance(classes, list | tuple):
        raise StepError(f"{where} classes are {type(classes).__name__}; they must be a list of names")
    names = [str(name) for name in classes]
    if len(names) < 2 or len(set(names)) != len(names):
        raise StepError(f"{where} classes are {names}; at least two different names are needed")
    if len(names) > MOST_CLASSES:
        raise StepError(f"{where} there are {len(names):,} classes; at most {MOST_CLASSES:,} are allowed")
    array = np.asarray(labels)
    if array.shape != (len(features),):
        raise StepError(f"{where} labels have the shape {array.shape}; {len(features)} rows need ({len(features)},)")
    return Dataset(np.ascontiguousarray(features), _whole_labels(array, len(names), where), names)


def _whole_labels(labels: npt.NDArray[Any], classes: int, where: str) -> npt.NDArray[np.int32]:
    """Return labels (n,) as int32. Raises StepError unless all are whole numbers from 0 to `classes` - 1."""
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise StepError(f"{where} labels are {labels.dtype}; they must be whole numbers, none missing") from error
    wrong = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < classes))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise StepError(
            f"{where} the label of row {row} is {labels[row]}; allowed are the whole numbers 0 to {classes - 1}"
        )
    return numbers.astype("<i4")


def build_architecture(
    shape: tuple[int, ...], classes: int, value_range: tuple[float, float] = (0, 255)
) -> Architecture:
    """Build the model of `model.py` and return it. Raises StepError when it cannot be trained.

    `shape` is the shape of one row, `value_range` has its smallest and largest value.
    """
    where = "model.py: build_model():"
    load_keras()  # before model.py imports it, which would print TensorFlow's messages
    arguments = (shape, classes, value_range)[: _parameter_count("model", "build_model", 2, 3)]
    model = _build_model(arguments, seed=1)
    _require_fit(model, shape, classes, where)
    _require_probabilities(model, shape, where)
    adapted = _normalize_by_constants(model)
    description = json.loads(model.to_json())
    description.pop("build_config", None)
    _remove_compilation(description)
    _refuse_foreign_objects(description, where)
    text = json.dumps(description, sort_keys=True)
    try:
        refuse_large_model(load_keras(), text)
    except ValueError as error:
        raise StepError(f"{where} {error}") from error
    fresh: keras.Model = load_keras().models.model_from_json(text)
    weights = [np.asarray(weight) for weight in model.weights if id(weight) not in adapted]
    again = _build_model(arguments, seed=2)
    adapted |= _normalize_by_constants(again)
    others = [np.asarray(weight) for weight in again.weights if id(weight) not in adapted]
    if [weight.shape for weight in weights] != [other.shape for other in others]:
        raise StepError(
            f"{where} two calls return models with different weights; each call must return the same layers"
        )
    starting_weights = _starting_weights(weights, others, [np.asarray(weight) for weight in fresh.weights])
    return Architecture(text, shape, classes, fresh.count_params(), starting_weights)


def _build_model(arguments: tuple[object, ...], seed: int) -> "keras.Model":
    """Call `build_model` with Keras's random numbers from a seed. Raises StepError."""
    keras = load_keras()
    keras.backend.clear_session()  # Keras numbers layer names; the same code must give the same JSON
    keras.utils.set_random_seed(seed)
    model = _call("model", "build_model", *arguments)
    if not isinstance(model, keras.Model) or not model.built:
        raise StepError(
            f"model.py: build_model(): returned {type(model).__name__}; a keras.Model with a known input is needed"
        )
    return model


def _require_fit(model: "keras.Model", shape: tuple[int, ...], classes: int, where: str) -> None:
    """Raise StepError unless the model takes one row, answers with one number per class, and is not too large."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        inputs, outputs = (", ".join(tensor.name for tensor in tensors) for tensors in (model.inputs, model.outputs))
        raise StepError(f"{where} the model has the inputs {inputs} and the outputs {outputs}; one of each is needed")
    # A Functional model may keep its only input or output in a list.
    input_shape, output_shape = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    if input_shape != (None, *shape):
        raise StepError(f"{where} the model takes {input_shape[1:]} per row; the data set has {shape}")
    if output_shape != (None, classes):
        raise StepError(f"{where} the model returns {output_shape[1:]} per row; {classes} classes need ({classes},)")
    if model.count_params() > MOST_WEIGHTS:
        raise StepError(
            f"{where} the model has {model.count_params():,} weights; at most {MOST_WEIGHTS:,} fit, with their "
            "optimizer's slots, into one value of the database (1 GB)"
        )
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight)).all():
            raise StepError(f"{where} the weight {weight.path} holds NaN or infinity; every weight must be a number")


def _normalize_by_constants(model: "keras.Model") -> set[int]:
    """Let Normalization layers describe the mean and variance they were adapted to; return the ids of these weights.

    Keras computes with copies of the two that it makes once, so weights that the database loads would have no effect.
    """
    ids = set()
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__name__ == "Normalization" and layer.input_mean is None and layer.built:
            ids |= {id(weight) for weight in layer.weights}
            layer.input_mean, layer.input_variance = np.asarray(layer.adapt_mean), np.asarray(layer.adapt_variance)
    return ids


def _starting_weights(
    weights: list[npt.NDArray[Any]], others: list[npt.NDArray[Any]], fresh: list[npt.NDArray[Any]]
) -> bytes:
    """Return the weights of a model as float32 bytes, NaN where `build_model` did not set them; empty if it set none.

    Two models built from different seeds share the weights that the person's code set, and constants such as a bias of
    zeros. `fresh` has the constants of a model that nobody changed.
    """
    same = [np.array_equal(weight, other) for weight, other in zip(weights, others, strict=True)]
    if all(not is_same or np.array_equal(weight, constant) for is_same, weight, constant in zip(same, weights, fresh)):
        return b""
    values = [weight if is_same else np.full_like(weight, np.nan) for weight, is_same in zip(weights, same)]
    return np.concatenate([value.ravel() for value in values]).astype("<f4").tobytes()


def _require_probabilities(model: "keras.Model", shape: tuple[int, ...], where: str) -> None:
    """Raise StepError unless the model's output for a row is probabilities."""
    try:
        outputs = np.asarray(model(np.zeros((2, *shape), np.float32), training=False))
    except Exception as error:
        # Layers raise any kind of exception.
        raise StepError(f"{where} the model cannot compute a row: {_described(error, 'model')}") from error
    if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        raise StepError(
            f"{where} the model's outputs are no probabilities (they add up to {outputs[0].sum():.3g}); "
            "end it with a Dense layer of one unit per class and activation softmax"
        )


def build_optimizer(learning_rate: float) -> dict[str, Any]:
    """Return the optimizer of `model.py` as Keras configuration. Raises StepError when it cannot be used."""
    keras = load_keras()
    keras.backend.clear_session()  # Keras numbers its name too, and the name is part of the run's hash
    optimizer = _call("model", "build_optimizer", learning_rate)
    where = "model.py: build_optimizer():"
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise StepError(f"{where} returned {type(optimizer).__name__}; a keras.optimizers.Optimizer is needed")
    description: dict[str, Any] = keras.optimizers.serialize(optimizer)
    _refuse_foreign_objects(description, where)
    return description


def _remove_compilation(description: object) -> None:
    """Remove how a model and the models in it were compiled: the training compiles the whole model itself."""
    if isinstance(description, dict):
        description.pop("compile_config", None)
        description = list(description.values())
    if isinstance(description, list):
        for part in description:
            _remove_compilation(part)


def _refuse_foreign_objects(description: object, where: str) -> None:
    """Raise StepError for a description that the database would refuse to build."""
    try:
        refuse_foreign_objects(description)
    except ValueError as error:
        raise StepError(f"{where} {error}") from error


def load_keras() -> types.ModuleType:
    """Import Keras on TensorFlow, without its start-up messages, and return it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_libraries(), _without_packages("matplotlib", "pandas", "sklearn"):
        keras = importlib.import_module("keras")
    return keras


@contextlib.contextmanager
def _without_packages(*packages: str) -> Iterator[None]:
    """Make imports of these packages fail, unless they are loaded already.

    Keras imports them for data frames, scikit-learn's interface and plots, which the pipeline does not use. That takes
    1.9 s of processor time. Code that needs them with Keras imports them first.
    """
    hidden: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
    # Python raises ModuleNotFoundError for a module that is None.
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Silence the C++ libraries that TensorFlow loads; no setting silences them before its import.

    When the import fails, Python's own exception still gives the reason.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _call(module: str, function: str, *arguments: object) -> Any:
    """Call a person's function. Raises StepError with its error and line."""
    code = _import(module)
    if not callable(getattr(code, function, None)):
        raise StepError(code_files.no_function(module, function))
    try:
        return getattr(code, function)(*arguments)
    except (Exception, SystemExit) as error:
        # numpy names neither the rows nor the fix.
        is_ragged = module == "dataset" and "inhomogeneous" in str(error)
        remedy = "; all rows need the same shape, so resize the images" if is_ragged else ""
        raise StepError(f"{module}.py: {function}() failed: {_described(error, module)}{remedy}") from error


def _parameter_count(module: str, function: str, least: int, most: int) -> int:
    """Return how many of `most` arguments a person's function takes, `least` if its signature is unknown."""
    code = getattr(_import(module), function, None)
    try:
        parameters = inspect.signature(code).parameters.values() if callable(code) else ()
    except ValueError:
        return least
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return most
    return min(most, max(least, sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters)))


def _import(module: str) -> types.ModuleType:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise StepError(code_files.not_imported(module, _described(error, module))) from error


def _described(error: BaseException, module: str) -> str:
    """Return the error with the line of the person's own file that raised it, and the fix for a missing package."""
    if isinstance(error, SyntaxError):
        return code_files.syntax_error(error)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(f"{module}.py")
    ]
    place = f" ({module}.py, line {lines[-1]})" if lines else ""
    text = str(error).strip().splitlines()
    described = f"{type(error).__name__}: {text[0] if text else ''}{place}"
    if isinstance(error, ModuleNotFoundError) and error.name and code_files.is_missing(error.name):
        return f"{described}; {code_files.package_hint(error.name.partition('.')[0])}"
    return described
