"""project.yaml's class weights and label smoothing become parameters of the training."""

import numpy as np
import pytest

from pipeline.errors import StepError
from pipeline.training import loss
from pipeline.training_db import TrainingData

COUNTS = [60, 30, 10]
DATA = TrainingData(
    "d", "h", (2,), "float32", ["a", "b", "3"], {"train": 100}, {"rows": 100, "class_counts": COUNTS, "inputs": []}
)


@pytest.fixture
def declare(monkeypatch):
    """A function that puts a key into project.yaml."""
    answers: dict[str, object] = {}
    monkeypatch.setattr(loss, "section", answers.get)
    return answers.__setitem__


def test_nothing_is_the_default(declare) -> None:
    assert loss.loss_parameters(DATA) == {}


def test_balanced_weights_are_those_of_scikit_learn(declare) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = [number for number, count in enumerate(COUNTS) for _ in range(count)]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    declare("classWeights", "balanced")
    assert loss.loss_parameters(DATA)["class_weights"] == pytest.approx(expected.tolist())


def test_weights_are_given_by_name(declare) -> None:
    declare("classWeights", {"b": 2, 3: 0.5})
    declare("labelSmoothing", 0.1)
    assert loss.loss_parameters(DATA) == {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classWeights", "even", "classWeights is 'even'; use balanced, or a line `a: 2` per class"),
        ("classWeights", {"c": 2}, "classWeights names c; the classes are a, b, 3"),
        ("classWeights", {"a": -1}, "classWeights.a is -1; use a number of 0 or more"),
        ("classWeights", {"a": True}, "classWeights.a is True"),
        ("labelSmoothing", 1, "labelSmoothing is 1; use a number from 0 to below 1"),
        ("labelSmoothing", "0.1", "labelSmoothing is '0.1'"),
    ],
)
def test_a_wrong_value_is_refused(declare, key, value, message) -> None:
    declare(key, value)
    with pytest.raises(StepError) as refused:
        loss.loss_parameters(DATA)
    assert message in str(refused.value)
