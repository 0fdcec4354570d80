"""Mistakes in dataset.py and model.py: a one-line message, and no write to a database."""

import concurrent.futures

import pytest

from .project import Project

DATASET = """import numpy as np
from sklearn.datasets import load_digits


def load():
    digits = load_digits()
    features = (digits.images * 15).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(float)
    {change}
    return features, labels, [str(digit) for digit in range(10)]
"""
# The project's tests/test_source.py has the other mistakes, which the same function refuses.
DATASETS = {
    "class-missing-in-a-split": (
        "chosen = (labels != 3) | (np.cumsum(labels == 3) == 1); features, labels = features[chosen], labels[chosen]",
        "split (",
    ),
    "label-above": ("labels[7] = 10", "the label of row 7 is 10.0; allowed are the whole numbers 0 to 9"),
    "features-nan": (
        "features = features.astype(np.float32); features[9] = np.nan",
        "row 9 of the features holds NaN",
    ),
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


@pytest.fixture(scope="module")
def refused_datasets(trained: Project) -> dict[str, str]:
    """The message per data set; two commands run at a time, because each imports the whole pipeline."""

    def refuse(name: str) -> str:
        project = trained.variant(name, dataset=DATASET.replace("{change}", DATASETS[name][0]))
        return project.refuses("upload_dataset")

    tables: dict[str, set[str]] = {"dataset": set(), "dataset_batch": set()}
    with trained.database("trainer") as database, concurrent.futures.ThreadPoolExecutor(2) as pool:
        before = database.fingerprints(tables)
        sentences = dict(zip(DATASETS, pool.map(refuse, DATASETS), strict=True))
        assert database.fingerprints(tables) == before
    return sentences


@pytest.mark.parametrize("name", DATASETS)
def test_dataset(refused_datasets: dict[str, str], name: str) -> None:
    """An unusable data set is refused with a one-line message, and both tables stay unchanged."""
    assert refused_datasets[name].startswith("error: dataset.py")
    assert DATASETS[name][1] in refused_datasets[name]


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
