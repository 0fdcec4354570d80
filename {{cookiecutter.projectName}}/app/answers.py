"""The API's answers about one or several inputs, whether images or rows of a table."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastapi import Request
from pydantic import BaseModel, Field

from app import logs
from app.predictions import Input, Model, Prediction, Predictions, RefusedInput
from app.subjects import Subject
from app.work import Work

EXAMPLE_ID = "0b1f7c9e-3d52-4c8a-9a57-0f6f7f1f2c11"


class Reader(NamedTuple):
    """Functions for the items of a request: image files, or rows of a table.

    `read` turns items into the model's inputs; `unlike` returns a phrase per value of an input that is unlike all
    training rows.
    """

    read: Callable[[Model, Sequence[Any]], Sequence[Input]]
    unlike: Callable[[Model, Any], list[str]]


class PredictionAnswer(BaseModel):
    """The model's prediction for one input."""

    prediction_id: str = Field(
        description="Identifies this prediction when its label is recorded", examples=[EXAMPLE_ID]
    )
    label: str = Field(description="The class with the highest probability", examples=["7"])
    probabilities: dict[str, float] = Field(
        description="Probability per class", examples=[{"1": 0.02, "7": 0.97, "9": 0.01}]
    )
    model: str = Field(description="Name of the model", examples=["image_classifier"])
    version: int = Field(description="Version of the model that answered", examples=[3])
    unlike_training: list[str] = Field(
        description="Statistics and values of the input that are unlike all training rows; empty when none is",
        examples=[["mean 215 (training rows: 32 to 101)"]],
    )


class BatchAnswer(BaseModel):
    """The model's predictions for several inputs."""

    predictions: list[PredictionAnswer] = Field(description="In the order of the inputs")


class Answers:
    """Reads the items of a request and predicts, in threads."""

    def __init__(self, predictions: Predictions, work: Work, reader: Reader) -> None:
        self._predictions = predictions
        self._work = work
        self._reader = reader

    async def one(self, request: Request, item: object) -> PredictionAnswer:
        """Answer one item and add the answer to the request's log line."""
        prediction = (await self._of(request, [item]))[0]
        logs.note(request, prediction_id=prediction.prediction_id, label=prediction.label, version=prediction.version)
        return prediction

    async def batch(self, request: Request, items: Sequence[object]) -> BatchAnswer:
        """Answer several items in their order, all or none, and add the answers to the request's log line."""
        answers = await self._of(request, items)
        logs.note(
            request,
            prediction_ids=[answer.prediction_id for answer in answers],
            versions=sorted({answer.version for answer in answers}),
        )
        return BatchAnswer(predictions=answers)

    async def _of(self, request: Request, items: Sequence[object]) -> list[PredictionAnswer]:
        subject: Subject = request.state.subject
        return await self._work.run(request, lambda: self._answers(items, subject.name))

    def _answers(self, items: Sequence[object], subject: str) -> list[PredictionAnswer]:
        """Read and predict; do both again if a model with another kind of input replaced the first one meanwhile."""
        predictions, reader = self._predictions, self._reader
        model = predictions.served()
        answers: list[Prediction] = []
        inputs: Sequence[Input] = ()
        try:
            inputs = reader.read(model, items)
            answers = predictions.predict_many(inputs, subject)
            replaced = any(prediction.version != model.version for prediction in answers)
        except RefusedInput:
            replaced = True
        if replaced:
            newest = predictions.served(newest=True)
            if not answers or not newest.has_same_input(model):
                inputs = reader.read(newest, items)
                answers = predictions.predict_many(inputs, subject)
            model = newest
        return [
            _answer(prediction, predictions.classes(prediction.version), reader.unlike(model, given))
            for prediction, given in zip(answers, inputs, strict=True)
        ]


def _answer(prediction: Prediction, classes: Sequence[str], unlike: list[str]) -> PredictionAnswer:
    return PredictionAnswer(
        prediction_id=prediction.prediction_id,
        label=prediction.label,
        probabilities=dict(zip(classes, prediction.probabilities, strict=True)),
        model=prediction.model,
        version=prediction.version,
        unlike_training=unlike,
    )
