"""The API's operations that predict, and its limits, for a model of images: the inputs are image files."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Request, UploadFile
from pydantic import BaseModel, Field
from starlette.formparsers import MultiPartParser

from app import problems
from app.answers import Answers, BatchAnswer, PredictionAnswer, Reader
from app.decoders import Place
from app.images import (
    BYTES,
    DTYPES,
    FORMATS,
    MAX_BYTES,
    ImageError,
    TooLarge,
    UnknownFormat,
    decode,
    row_statistics,
    statistic_names,
)
from app.likeness import outside
from app.predictions import Model, Predictions
from app.work import Work

MAX_IMAGES = 64
# Bytes of a form's boundaries and headers.
MAX_FORM_OVERHEAD = 64 * 2**10
# Longest body per path, in bytes.
LIMITS = {"/predictions": MAX_BYTES + MAX_FORM_OVERHEAD, "/predictions/batch": 32 * 2**20}
# HTTP status per error.
STATUS: dict[type[Exception], int] = {TooLarge: 413, UnknownFormat: 415, ImageError: 422}
# The forms have no text fields. Without these limits a client could send one in a codec that takes minutes to decode.
OPTIONS: dict[str, Any] = {"form_limits": {"max_files": MAX_IMAGES + 1, "max_fields": 64, "max_part_size": 4096}}
# Uploads stay in memory, bounded by the limits above: a container's disk may be read-only.
MultiPartParser.spool_max_size = MAX_BYTES


class Pixels(BaseModel):
    """The values of the pixels that the model was trained on; the API converts image files to them."""

    minimum: float = Field(description="Value of black", examples=[0])
    maximum: float = Field(description="Value of white", examples=[255])
    whole: bool = Field(description="Whether all values are whole numbers")
    channels: str = Field(description="Order of three channels: RGB or BGR", examples=["RGB"])


class ModelInput(BaseModel):
    """The input of the served model."""

    input_shape: list[int] = Field(description="Height, width, channels", examples=[[8, 8, 1]])
    input_dtype: str = Field(examples=["uint8"])
    pixels: Pixels


def describe(model: Model) -> ModelInput:
    """Return the description of the model's input."""
    pixels = Pixels(**(model.pixels or BYTES))
    return ModelInput(input_shape=list(model.input_shape), input_dtype=model.input_dtype, pixels=pixels)


def add(app: FastAPI, predictions: Predictions, work: Work) -> None:
    """Add the operations that predict."""
    answers = Answers(predictions, work, READER)
    _add_predict(app, answers)
    _add_predict_batch(app, answers)


def _form(field: str) -> dict[str, Any]:
    """Return the OpenAPI entry that names the media types of a field."""
    types = ", ".join(f"image/{name.lower()}" for name in FORMATS)
    return {"requestBody": {"content": {"multipart/form-data": {"encoding": {field: {"contentType": types}}}}}}


def _add_predict(app: FastAPI, answers: Answers) -> None:
    @app.post(
        "/predictions",
        tags=["predictions"],
        summary="Classify an image",
        responses=problems.declare(400, 401, 403, 408, 413, 415, 422, 429, 503),
        openapi_extra=_form("image"),
    )
    async def predict(
        request: Request,
        image: Annotated[UploadFile, File(description="A PNG, JPEG or WebP image, up to 10 MiB and 25 million pixels")],
    ) -> PredictionAnswer:
        """Return the label and the probability per class.

        The image is rotated by its EXIF orientation, fitted into the model's height and width, and converted to grey or
        RGB as the model needs. Transparent parts are laid on white. The values are scaled to those that the model was
        trained on. The prediction is logged under its id.
        """
        return await answers.one(request, _content(image))


def _add_predict_batch(app: FastAPI, answers: Answers) -> None:
    @app.post(
        "/predictions/batch",
        tags=["predictions"],
        summary="Classify several images",
        responses=problems.declare(400, 401, 403, 408, 413, 415, 422, 429, 503),
        openapi_extra=_form("images"),
    )
    async def predict_batch(
        request: Request,
        images: Annotated[
            list[UploadFile],
            File(min_length=1, max_length=MAX_IMAGES, description="1 to 64 images, together up to 32 MiB"),
        ],
    ) -> BatchAnswer:
        """Return one answer per image, in their order. All are logged, or none if one is refused."""
        return await answers.batch(request, [_content(image) for image in images])


def _content(image: UploadFile) -> bytes:
    content = image.file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLarge(f"the file is larger than the {MAX_BYTES:,} bytes that are allowed")
    return content


def _rows(model: Model, contents: Sequence[bytes]) -> list[bytes]:
    with Place() as place:
        return [_row(number, contents, model, place) for number in range(len(contents))]


def _row(number: int, contents: Sequence[bytes], model: Model, place: Place) -> bytes:
    try:
        return decode(contents[number], model.input_shape, model.input_dtype, model.pixels, place.decoder)
    except ImageError as error:
        if len(contents) == 1:
            raise
        raise type(error)(f"image {number + 1}: {error}") from error


def unlike(model: Model, row: Any) -> list[str]:
    """Return the statistics of a row, given as bytes, that lie outside of all training rows."""
    values = row_statistics(np.frombuffer(row, DTYPES[model.input_dtype])[np.newaxis])[0].tolist()
    return outside(model, dict(zip(statistic_names(len(values)), values)))


READER = Reader(_rows, unlike)
