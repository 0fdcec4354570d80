"""Mutated architectures in a session of the training database that records what Python opens and imports."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .project import Project
from .servers import Database
from .test_rights import layer

pytestmark = pytest.mark.security

MUTATIONS = 10_000
PER_CALL = 1000
# What stands in place of a part of a description: names of modules, classes and functions, paths, and whole objects.
MODULES = [
    "keras", "keras.layers", "keras.utils", "keras.datasets", "keras.src.ops.numpy", "keras.src.saving",
    "tensorflow", "os", "builtins", "subprocess", "keras.layers.", None,
]  # fmt: skip
NAMES = [
    "layers.TFSMLayer", "layers.Lambda", "Lambda", "TFSMLayer", "StringLookup", "TextVectorization", "function",
    "datasets.mnist.load_data", "utils.get_file", "system", "eval", "Dense", "Flatten", "Dropout", "GRU", "Sequential",
    "Functional", "saving.load_model", "backend", "__lambda__", "__typespec__", "__numpy__", "__tensor__",
]  # fmt: skip
PATHS = ["/etc/passwd", "file:///etc/passwd", "/tmp", "http://127.0.0.1:1/", "relu", "same", "float32", ""]  # noqa: S108
KEYS = [
    "module", "class_name", "config", "registered_name", "args", "kwargs", "filepath", "vocabulary", "build_config",
    "compile_config", "activation", "kernel_initializer", "layer", "function", "inbound_nodes", "dtype",
]  # fmt: skip
# The check of the training function and what it builds after it, in a session that records.
WATCH = """CREATE FUNCTION pg_temp.build(descriptions text) RETURNS text LANGUAGE plpython3u AS $python$
import json
import os
import sys

{allowed}

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", KERAS_BACKEND="tensorflow")
import keras

KNOWN = ("keras", "tensorflow", "numpy")
OUTSIDE = ("socket", "subprocess", "os", "shutil", "urllib", "ctypes", "ftplib", "glob", "tempfile", "pty")


def record(event, arguments):
    if not GD.get("is_watching"):
        return
    path = str(arguments[0]) if arguments else ""
    is_code = any(f"-packages/{name}/" in path for name in KNOWN)
    if event == "open" and not is_code or event == "import" and path.split(".")[0] not in KNOWN:
        GD["events"].add(f"{event} {path}")
    elif event.split(".")[0] in OUTSIDE:
        GD["events"].add(f"{event} {path}")


def recorded(name, function):
    def call(*arguments, **keywords):
        if GD.get("is_watching"):
            GD["events"].add(f"tensorflow {name} {arguments}")
        return function(*arguments, **keywords)

    return call


def build(description):
    try:
        refuse_foreign_objects(description)
    except ValueError:
        return "refused"
    try:
        keras.models.model_from_json(json.dumps(description))
    except Exception:
        return "not built"
    return "built"


models = json.loads(descriptions)
if "events" not in GD:
    GD["events"] = set()
    sys.addaudithook(record)
    # TensorFlow's own file functions are C++, of which Python's hook learns nothing.
    from tensorflow.python.lib.io import _pywrap_file_io

    for name, function in [*vars(_pywrap_file_io).items()]:
        if callable(function):
            setattr(_pywrap_file_io, name, recorded(name, function))
    # The first model of a session imports modules.
    keras.models.model_from_json(json.dumps(models[0]))
GD["is_watching"] = True
try:
    outcomes = [build(model) for model in models]
finally:
    GD["is_watching"] = False
return json.dumps([outcomes, sorted(GD["events"])])
$python$"""


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each part of a description."""
    yield path
    children = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def called(description: dict[str, Any], name: str, *arguments: str, **keywords: Any) -> dict[str, Any]:
    """Return a layer of a Functional model that is called with the outputs of other layers."""
    config = {"shape": [None, 5], "dtype": "float32"}
    tensors = [
        {"class_name": "__keras_tensor__", "config": {**config, "keras_history": [of, 0, 0]}} for of in arguments
    ]
    calls = [{"args": tensors, "kwargs": keywords}] if tensors else []
    return {**description, "name": name, "inbound_nodes": calls}


def sequential(shape: list[int | None], *inner: dict[str, Any]) -> dict[str, Any]:
    """Return a Sequential model of an input and some layers."""
    rows = layer("InputLayer", batch_shape=shape, name="rows")
    return layer("Sequential", module="keras", layers=[rows, *inner], name="model")


FUNCTIONAL = {
    "name": "model",
    "trainable": True,
    "layers": [
        called(layer("InputLayer", batch_shape=[None, 5], name="rows"), "rows"),
        called(layer("Dense", name="hidden", units=5, activation="relu"), "hidden", "rows"),
        called(layer("BatchNormalization", name="norm"), "norm", "hidden", training=False),
        called(layer("Add", name="sum", module="keras.src.ops.numpy"), "sum", "norm", "rows"),
    ],
    "input_layers": [["rows", 0, 0]],
    "output_layers": [["sum", 0, 0]],
}
# Small models, because thousands of them are built.
BASES = [
    sequential([None, 5], layer("Dense", units=3, kernel_initializer=layer("HeNormal", module="keras.initializers"))),
    sequential([None, 4, 3], layer("TimeDistributed", layer=layer("Dense", units=2)), layer("Dropout", rate=0.5)),
    sequential([None, 4, 3], layer("RNN", cell=layer("SimpleRNNCell", units=2))),
    layer("Functional", module="keras.src.models.functional", **FUNCTIONAL),
]
OBJECTS = st.builds(
    lambda module, name, config: {"module": module, "class_name": name, "config": config, "registered_name": None},
    st.sampled_from(MODULES),
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from([*PATHS, *NAMES, 3, True]), max_size=3)
    | st.sampled_from(PATHS + NAMES),
)
# Complete objects that open a file where nothing refuses them.
ATTACKS = [
    layer("layers.TFSMLayer", module="keras", filepath="/etc"),
    layer("TFSMLayer", filepath="/etc", call_endpoint="serve"),
    layer("StringLookup", vocabulary="/etc/passwd"),
    layer("layers.IntegerLookup", module="keras", vocabulary="/etc/passwd"),
    layer("TextVectorization", vocabulary="/etc/passwd"),
]
ATOMS = st.sampled_from([*MODULES, *NAMES, *PATHS]) | st.integers(-3, 40)
VALUES = OBJECTS | st.sampled_from(ATTACKS) | ATOMS | st.lists(OBJECTS, max_size=2)
CHANGES = st.lists(st.tuples(st.integers(1, 200), st.sampled_from([*KEYS, ""]), VALUES), min_size=1, max_size=4)


def mutated(base: dict[str, Any], changes: list[tuple[int, str, Any]]) -> dict[str, Any]:
    """Return a description with parts replaced, or with a key added beside them; a number chooses the part."""
    description = copy.deepcopy(base)
    for number, key, value in changes:
        paths = list(places(description))[1:]
        path = paths[number % len(paths)]
        part: Any = description
        for step in path[:-1]:
            part = part[step]
        part[(key if isinstance(part, dict) else "") or path[-1]] = copy.deepcopy(value)
    return description


def mutations() -> list[dict[str, Any]]:
    """Return the same descriptions in every run."""
    descriptions: list[dict[str, Any]] = []

    @settings(
        max_examples=MUTATIONS // len(BASES), derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(CHANGES)
    def collect(changes: list[tuple[int, str, Any]]) -> None:
        descriptions.extend(mutated(base, changes) for base in BASES)

    collect()
    return descriptions


def built(database: Database, descriptions: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the outcome per description, and the events that the session recorded while it built them."""
    outcomes: list[str] = []
    events: list[str] = []
    for start in range(0, len(descriptions), PER_CALL):
        text = json.dumps(descriptions[start : start + PER_CALL])
        more, events = json.loads(database.value("SELECT pg_temp.build(%s)", (text,)))
        outcomes += more
    return outcomes, events


@pytest.fixture
def watched(trained: Project) -> Iterator[Database]:
    """A session of the training database with a function that builds models and records."""
    allowed = (trained.folder / "database" / "python" / "allowed.py").read_text(encoding="utf-8")
    with trained.database("training-deployer") as database:
        database.query(WATCH.replace("{allowed}", allowed))
        yield database


def test_no_mutated_architecture_leaves_keras(watched: Database) -> None:
    """None opens a file or a socket, starts a process, or imports anything but Keras, TensorFlow and numpy."""
    outcomes, events = built(watched, [*BASES, *mutations()])
    assert outcomes[: len(BASES)] == ["built"] * len(BASES)
    assert len(outcomes) >= MUTATIONS
    assert min(map(outcomes.count, ("refused", "built"))) > MUTATIONS / 20
    assert events == []
