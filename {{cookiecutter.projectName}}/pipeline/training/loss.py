"""Parameters of the loss: class weights and label smoothing, as project.yaml sets them."""

import math
from typing import Any

from pipeline.errors import StepError
from pipeline.settings import is_number, section
from pipeline.training_db import TrainingData

BALANCED = "balanced"


def loss_parameters(data: TrainingData) -> dict[str, Any]:
    """Return the parameters that project.yaml sets: `class_weights`, one per class in order, and `label_smoothing`.

    Raises StepError when a value is not allowed.
    """
    parameters: dict[str, Any] = {}
    weights, smoothing = section("classWeights"), section("labelSmoothing")
    if weights is not None:
        parameters["class_weights"] = _class_weights(weights, data)
    if smoothing is not None:
        if not is_number(smoothing) or not 0 <= smoothing < 1:
            raise StepError(f"project.yaml: labelSmoothing is {smoothing!r}; use a number from 0 to below 1")
        parameters["label_smoothing"] = float(smoothing)
    return parameters


def _class_weights(weights: Any, data: TrainingData) -> list[float]:
    """Return the factor per class; a class that is not named has 1. Raises StepError."""
    if weights == BALANCED:
        return balanced(data.statistics["class_counts"])
    if not isinstance(weights, dict):
        raise StepError(
            f"project.yaml: classWeights is {weights!r}; use {BALANCED}, or a line `{data.classes[0]}: 2` per class"
        )
    named = {str(name): weight for name, weight in weights.items()}
    for name, weight in named.items():
        if name not in data.classes:
            raise StepError(f"project.yaml: classWeights names {name}; the classes are {', '.join(data.classes[:20])}")
        if not is_number(weight) or not 0 <= weight < math.inf:
            raise StepError(f"project.yaml: classWeights.{name} is {weight!r}; use a number of 0 or more")
    return [float(named.get(name, 1)) for name in data.classes]


def balanced(counts: list[int]) -> list[float]:
    """Return rows / (classes · rows of the class) per class, as scikit-learn's class_weight="balanced"."""
    return [sum(counts) / (len(counts) * count) for count in counts]
