"""What the API takes where the model takes images: files."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, UploadFile
from pydantic import BaseModel, Field
from starlette.formparsers import MultiPartParser

from app import problems
from app.answers import BatchAnswer, PredictionAnswer, answer, answer_batch
from app.images import FORMATS, MAX_BYTES, ImageError, TooLarge, UnknownFormat, decode
from app.predictions import Model, Predictions

MAX_IMAGES = 64
# Boundaries and headers of a form.
MAX_REST = 64 * 2**10
# The longest body of each path.
LIMITS = {"/predictions": MAX_BYTES + MAX_REST, "/predictions/batch": 32 * 2**20}
# What each error is answered with.
STATUS: dict[type[Exception], int] = {TooLarge: 413, UnknownFormat: 415, ImageError: 422}
# No form here has a text field, and the client says by which codec one would be read: some take minutes.
OPTIONS = {"form_limits": {"max_files": MAX_IMAGES + 1, "max_fields": 64, "max_part_size": 4096}}
# Files are kept in memory, where the limits bound a request's: a container's disk may not be writable.
MultiPartParser.spool_max_size = MAX_BYTES


class ModelInput(BaseModel):
    """What the served model takes."""

    input_shape: list[int] = Field(description="Height, width, channels", examples=[[8, 8, 1]])
    input_dtype: str = Field(examples=["uint8"])


def described(model: Model) -> ModelInput:
    """Return what the model takes."""
    return ModelInput(input_shape=list(model.input_shape), input_dtype=model.input_dtype)


def add(app: FastAPI, predictions: Predictions) -> None:
    """Add the operations that predict."""

    def form(field: str) -> dict[str, Any]:
        """Say which files a field takes."""
        types = ", ".join(f"image/{name.lower()}" for name in FORMATS)
        return {"requestBody": {"content": {"multipart/form-data": {"encoding": {field: {"contentType": types}}}}}}

    @app.post(
        "/predictions",
        tags=["predictions"],
        summary="Classify an image",
        responses=problems.declared(400, 408, 413, 415, 422, 503),
        openapi_extra=form("image"),
    )
    def predict(
        request: Request,
        image: Annotated[UploadFile, File(description="A PNG, JPEG or WebP image, up to 10 MiB and 25 million pixels")],
    ) -> PredictionAnswer:
        """Return the label and the probability of each class.

        The image is turned as its EXIF data says, resized to the model's height and width, made grey or RGB as the
        model takes it, and laid on white where it is transparent. The prediction is logged under its id.
        """
        return answer(request, predictions, _content(image), _rows)

    @app.post(
        "/predictions/batch",
        tags=["predictions"],
        summary="Classify several images",
        responses=problems.declared(400, 408, 413, 415, 422, 503),
        openapi_extra=form("images"),
    )
    def predict_batch(
        request: Request,
        images: Annotated[
            list[UploadFile],
            File(min_length=1, max_length=MAX_IMAGES, description="1 to 64 images, together up to 32 MiB"),
        ],
    ) -> BatchAnswer:
        """Return an answer for each image, in their order. All are logged, or none if one is refused."""
        return answer_batch(request, predictions, [_content(image) for image in images], _rows)


def _content(image: UploadFile) -> bytes:
    content = image.file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLarge(f"the file is larger than the {MAX_BYTES:,} bytes that are allowed")
    return content


def _rows(model: Model, contents: Sequence[bytes]) -> list[bytes]:
    return [_row(number, contents, model) for number in range(len(contents))]


def _row(number: int, contents: Sequence[bytes], model: Model) -> bytes:
    try:
        return decode(contents[number], model.input_shape, model.input_dtype)
    except ImageError as error:
        if len(contents) == 1:
            raise
        raise type(error)(f"image {number + 1}: {error}") from error
