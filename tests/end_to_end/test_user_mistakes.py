"""Mistakes in dataset.py and model.py: a one-line message, and no write to a database."""

import concurrent.futures

import pytest

from .project import Project

DATASET = """import numpy as np
from sklearn.datasets import load_digits


def load():
    digits = load_digits()
    features = digits.images.astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(float)
    {change}
    return features, labels, [str(digit) for digit in range(10)]
"""
DATASETS = {
    "class-missing-in-a-split": (
        "chosen = (labels != 3) | (np.cumsum(labels == 3) == 1); features, labels = features[chosen], labels[chosen]",
        "split (",
    ),
    "label-nan": ("labels[5] = np.nan", "the label of row 5 is nan; allowed are the whole numbers 0 to 9"),
    "label-above": ("labels[7] = 10", "the label of row 7 is 10.0; allowed are the whole numbers 0 to 9"),
    "label-below": ("labels[7] = -1", "the label of row 7 is -1.0"),
    "label-broken": ("labels[0] = 0.5", "the label of row 0 is 0.5"),
    "labels-too-few": ("labels = labels[1:]", "labels have the shape (1796,); 1797 rows need (1797,)"),
    "features-int64": ("features = features.astype(int)", "features are int64"),
    "features-nan": (
        "features = features.astype(np.float32); features[9] = np.nan",
        "row 9 of the features holds NaN",
    ),
    "features-flat": ("features = features.ravel()", "features have the shape (115008,)"),
    "no-result": ("return None", "load() must return (features, labels, classes)"),
    "failing": (
        "raise RuntimeError('the disk is empty')",
        "load() failed: RuntimeError: the disk is empty (dataset.py, line 9)",
    ),
    "not-python": ("def oops(:", "dataset.py cannot be imported: SyntaxError"),
}
MODEL = """import keras
from keras import layers


@keras.saving.register_keras_serializable(package="mine")
class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def build_model(shape, classes):
    {change}
    return keras.Sequential([keras.Input(shape), layers.Rescaling(1 / 255), layers.Flatten(), *more])


def build_optimizer(learning_rate):
    return keras.optimizers.SGD(learning_rate)
"""
END = "layers.Dense(classes, activation='softmax')"
MODELS = {
    "lambda": (f"more = [layers.Lambda(lambda x: x), {END}]", "keras.layers.Lambda cannot be trained"),
    "outputs": ("more = [layers.Dense(classes + 1)]", "returns (11,) per row; 10 classes need (10,)"),
    "own-layer": (f"more = [Doubled(), {END}]", "Doubled cannot be trained in the database"),
    "failing": (
        "raise RuntimeError('no idea')",
        "build_model() failed: RuntimeError: no idea (model.py, line 12)",
    ),
    "no-model": ("return None", "returned NoneType; a keras.Model with a known input is needed"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_dataset(trained: Project, name: str) -> None:
    """An unusable data set is refused with a one-line message, and both tables stay unchanged."""
    change, message = DATASETS[name]
    project = trained.variant(name, dataset=DATASET.replace("{change}", change))
    tables: dict[str, set[str]] = {"dataset": set(), "dataset_batch": set()}
    with trained.database("trainer") as database:
        before = database.fingerprints(tables)
        sentence = project.refuses("upload_dataset")
        assert database.fingerprints(tables) == before
    assert sentence.startswith("error: dataset.py")
    assert message in sentence


@pytest.fixture(scope="module")
def refused_models(trained: Project) -> dict[str, str]:
    """The message per model; two commands run at a time, because each imports TensorFlow."""

    def refuse(name: str) -> str:
        project = trained.variant(f"model-{name}", model=MODEL.replace("{change}", MODELS[name][0]))
        return project.refuses("deploy_training_db")

    tables: dict[str, set[str]] = {"model_architecture": set(), "databasechangelog": set()}
    with trained.database("training-deployer") as database, concurrent.futures.ThreadPoolExecutor(2) as pool:
        before = database.fingerprints(tables)
        sentences = dict(zip(MODELS, pool.map(refuse, MODELS), strict=True))
        assert database.fingerprints(tables) == before
    return sentences


@pytest.mark.parametrize("name", MODELS)
def test_model(refused_models: dict[str, str], name: str) -> None:
    """A model that the database cannot train is refused with a one-line message before a deployment."""
    assert refused_models[name].startswith("error: model.py")
    assert MODELS[name][1] in refused_models[name]
