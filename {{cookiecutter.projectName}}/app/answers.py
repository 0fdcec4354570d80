"""What the API says of one or several inputs, of whatever kind the model takes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, Field

from app import logs
from app.predictions import Input, Model, Prediction, Predictions, RefusedInput

Given = TypeVar("Given")
EXAMPLE_ID = "0b1f7c9e-3d52-4c8a-9a57-0f6f7f1f2c11"


class PredictionAnswer(BaseModel):
    """What the model says of one input."""

    prediction_id: str = Field(description="Names this prediction when its label is given", examples=[EXAMPLE_ID])
    label: str = Field(description="The class with the highest probability", examples=["7"])
    probabilities: dict[str, float] = Field(
        description="Probability of each class", examples=[{"1": 0.02, "7": 0.97, "9": 0.01}]
    )
    model: str = Field(description="Name of the model", examples=["image_classifier"])
    version: int = Field(description="Version of the model that answered", examples=[3])


class BatchAnswer(BaseModel):
    """What the model says of several inputs."""

    predictions: list[PredictionAnswer] = Field(description="In the order of the inputs")


def answer(
    request: Request, predictions: Predictions, given: Given, read: Callable[[Model, Sequence[Given]], list[Input]]
) -> PredictionAnswer:
    """Answer one input and note it for the log; `read` makes what the model takes of what was given."""
    found = _answers(predictions, [given], read)[0]
    logs.note(request, prediction_id=found.prediction_id, label=found.label, version=found.version)
    return found


def answer_batch(
    request: Request,
    predictions: Predictions,
    given: Sequence[Given],
    read: Callable[[Model, Sequence[Given]], list[Input]],
) -> BatchAnswer:
    """Answer several inputs in their order, all or none, and note them for the log."""
    found = _answers(predictions, given, read)
    logs.note(
        request,
        prediction_ids=[answer.prediction_id for answer in found],
        versions=sorted({answer.version for answer in found}),
    )
    return BatchAnswer(predictions=found)


def _answers(
    predictions: Predictions, given: Sequence[Given], read: Callable[[Model, Sequence[Given]], list[Input]]
) -> list[PredictionAnswer]:
    """Read and predict; once more when the model was meanwhile replaced by one that takes something else."""
    model = predictions.served()
    try:
        found = predictions.predict_many(read(model, given))
        replaced = any(prediction.version != model.version for prediction in found)
    except RefusedInput:
        found, replaced = [], True
    if replaced:
        newest = predictions.served(newest=True)
        if not found or not newest.takes_what(model):
            found = predictions.predict_many(read(newest, given))
    return [_answer(prediction, predictions.classes(prediction.version)) for prediction in found]


def _answer(prediction: Prediction, classes: Sequence[str]) -> PredictionAnswer:
    return PredictionAnswer(
        prediction_id=prediction.prediction_id,
        label=prediction.label,
        probabilities=dict(zip(classes, prediction.probabilities, strict=True)),
        model=prediction.model,
        version=prediction.version,
    )
