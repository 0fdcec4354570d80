"""The operations of the API."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, File, Path, Request, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from app import logs, problems
from app.images import FORMATS, MAX_BYTES, ImageError, TooLarge, decode
from app.predictions import Model, Prediction, Predictions, RefusedInput, WaitingForModel
from app.settings import Settings

MAX_IMAGES = 64
# Boundaries and headers of a form, and every other body.
MAX_REST = 64 * 2**10
MAX_BATCH_BYTES = 32 * 2**20
MAX_LABEL = 1000
UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
EXAMPLE_ID = "0b1f7c9e-3d52-4c8a-9a57-0f6f7f1f2c11"
# Files are kept in memory, where the limits bound a request's: a container's disk may not be writable.
MultiPartParser.spool_max_size = MAX_BYTES


class PredictionAnswer(BaseModel):
    """What the model says of one image."""

    prediction_id: str = Field(description="Names this prediction when its label is given", examples=[EXAMPLE_ID])
    label: str = Field(description="The class with the highest probability", examples=["7"])
    probabilities: dict[str, float] = Field(
        description="Probability of each class", examples=[{"1": 0.02, "7": 0.97, "9": 0.01}]
    )
    model: str = Field(description="Name of the model", examples=["image_classifier"])
    version: int = Field(description="Version of the model that answered", examples=[3])


class BatchAnswer(BaseModel):
    """What the model says of several images."""

    predictions: list[PredictionAnswer] = Field(description="In the order of the images")


class Label(BaseModel):
    """What a prediction should have been."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"label": "7"}]})

    label: str = Field(max_length=MAX_LABEL, description="One of the model's classes", examples=["7"])


class LabelAnswer(BaseModel):
    """A label that was recorded."""

    prediction_id: str = Field(examples=[EXAMPLE_ID])
    label: str = Field(description="What was recorded", examples=["7"])
    predicted_label: str = Field(description="What the model had said", examples=["1"])
    model: str = Field(examples=["image_classifier"])
    version: int = Field(description="Version of the model that had answered", examples=[3])


class ModelAnswer(BaseModel):
    """The version of a model that is served."""

    model: str = Field(examples=["image_classifier"])
    alias: str = Field(description="The stage that this API serves", examples=["staging"])
    version: int = Field(examples=[3])
    classes: list[str] = Field(description="In the order of the model's output", examples=[["0", "1"]])
    input_shape: list[int] = Field(description="Height, width, channels", examples=[[8, 8, 1]])
    input_dtype: str = Field(examples=["uint8"])
    metrics: dict[str, Any] = Field(
        description="Of held-out rows: accuracy_score, f1_score, loss, rows, confusion_matrix (true × predicted)",
        examples=[
            {"accuracy_score": 0.95, "f1_score": 0.94, "loss": 0.2, "rows": 2, "confusion_matrix": [[1, 0], [0, 1]]}
        ],
    )
    data_hash: str = Field(description="Names the data it was trained on", examples=["6a197e257aa7"])
    git_commit: str = Field(description="The commit it was trained from", examples=["4f1c0de"])
    created_at: str = Field(description="When it came into the database", examples=["2026-01-31T12:00:00+00:00"])
    changed_at: str = Field(description="When it got the alias", examples=["2026-01-31T12:05:00+00:00"])


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["alive"])


class Readiness(BaseModel):
    """A model is served, and the database answers."""

    status: str = Field(examples=["ready"])
    model: str = Field(examples=["image_classifier"])
    alias: str = Field(description="The stage that this API serves", examples=["staging"])
    version: int = Field(examples=[3])


def create_app(settings: Settings, predictions: Predictions) -> FastAPI:
    """Return the API over the given calls of the database, which it closes at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        predictions.close()

    app = FastAPIOffline(
        title=settings.project_name,
        description=settings.description,
        version="1",
        redoc_url=None,
        lifespan=lifespan,
        swagger_ui_parameters={"tryItOutEnabled": True},
        # No form here has a text field, and the client says by which codec one would be read: some take minutes.
        form_limits={"max_files": MAX_IMAGES + 1, "max_fields": 64, "max_part_size": 4096},
    )
    problems.install(app)
    _add_predictions(app, predictions)
    _add_labels(app, predictions)
    _add_model(app, settings, predictions)
    _add_health(app, settings, predictions)
    _describe_problems(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    # Added last it is outermost.
    limits = {"/predictions": MAX_BYTES + MAX_REST, "/predictions/batch": MAX_BATCH_BYTES}
    app.add_middleware(logs.Requests, limits=limits, limit=MAX_REST, together=settings.uploads_mib * 2**20)
    return app


def _add_predictions(app: FastAPI, predictions: Predictions) -> None:
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
        found = _answers(predictions, [_content(image)])[0]
        logs.note(request, prediction_id=found.prediction_id, label=found.label, version=found.version)
        return found

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
        found = _answers(predictions, [_content(image) for image in images])
        logs.note(
            request,
            prediction_ids=[answer.prediction_id for answer in found],
            versions=sorted({answer.version for answer in found}),
        )
        return BatchAnswer(predictions=found)


def _content(image: UploadFile) -> bytes:
    content = image.file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLarge(f"the file is larger than the {MAX_BYTES:,} bytes that are allowed")
    return content


def _answers(predictions: Predictions, contents: Sequence[bytes]) -> list[PredictionAnswer]:
    """Decode and predict; once more when the model was meanwhile replaced by one that takes another shape."""
    model = predictions.served()
    try:
        found = predictions.predict_many(_rows(contents, model))
        replaced = any(prediction.version != model.version for prediction in found)
    except RefusedInput:
        found, replaced = [], True
    if replaced:
        newest = predictions.served(newest=True)
        if not found or not newest.takes_what(model):
            found = predictions.predict_many(_rows(contents, newest))
    return [_answer(prediction, predictions.classes(prediction.version)) for prediction in found]


def _rows(contents: Sequence[bytes], model: Model) -> list[bytes]:
    return [_row(number, contents, model) for number in range(len(contents))]


def _row(number: int, contents: Sequence[bytes], model: Model) -> bytes:
    try:
        return decode(contents[number], model.input_shape, model.input_dtype)
    except ImageError as error:
        if len(contents) == 1:
            raise
        raise type(error)(f"image {number + 1}: {error}") from error


def _answer(prediction: Prediction, classes: Sequence[str]) -> PredictionAnswer:
    return PredictionAnswer(
        prediction_id=prediction.prediction_id,
        label=prediction.label,
        probabilities=dict(zip(classes, prediction.probabilities, strict=True)),
        model=prediction.model,
        version=prediction.version,
    )


def _add_labels(app: FastAPI, predictions: Predictions) -> None:
    @app.post(
        "/predictions/{prediction_id}/label",
        tags=["predictions"],
        summary="Say what a prediction should have been",
        responses=problems.declared(400, 404, 408, 413, 422, 503),
    )
    def record_label(
        request: Request,
        prediction_id: Annotated[str, Path(pattern=UUID, description="From the prediction", examples=[EXAMPLE_ID])],
        body: Label,
    ) -> LabelAnswer:
        """Record the true class, whether it is the predicted one or not. Of several labels the last one counts."""
        found = LabelAnswer(**predictions.record_label(prediction_id, body.label))
        logs.note(request, prediction_id=prediction_id, label=found.label, version=found.version)
        return found


def _add_model(app: FastAPI, settings: Settings, predictions: Predictions) -> None:
    @app.get("/models/{name}", tags=["model"], summary="The served model", responses=problems.declared(404, 422, 503))
    def read_model(
        name: Annotated[
            str, Path(pattern="^[a-z0-9_]{1,63}$", description="Name of the model", examples=["image_classifier"])
        ],
    ) -> ModelAnswer:
        """Return the version that answers, what it takes, its classes and its metrics on held-out rows."""
        if name != settings.model:
            raise HTTPException(404, f"this API serves no model of that name, only {settings.model}")
        model = predictions.served()
        return ModelAnswer(
            model=model.model,
            alias=model.alias,
            version=model.version,
            classes=list(model.classes),
            input_shape=list(model.input_shape),
            input_dtype=model.input_dtype,
            metrics=model.metrics,
            data_hash=model.data_hash,
            git_commit=model.git_commit,
            created_at=model.created_at.isoformat(),
            changed_at=model.changed_at.isoformat(),
        )


def _add_health(app: FastAPI, settings: Settings, predictions: Predictions) -> None:
    @app.get("/healthz", tags=["health"], summary="Is the process alive?", responses=problems.declared())
    async def healthz() -> Health:
        """Return at once, whatever the database does."""
        return Health(status="alive")

    @app.get("/readyz", tags=["health"], summary="Can it answer?", responses=problems.declared(503))
    def readyz() -> Readiness:
        """Ask the database. While it waits for a model it is not ready, and says so: one comes without a restart."""
        model = predictions.model(newest=True)
        if not model:
            raise WaitingForModel(
                f"this API is waiting for a model: no version of {settings.model} holds the stage {settings.stage} yet"
            )
        return Readiness(status="ready", model=model.model, alias=model.alias, version=model.version)


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of the errors, which no operation returns by itself, to the OpenAPI description."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schemas = describe().setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = problems.Problem.model_json_schema()
        return app.openapi_schema

    app.openapi = openapi
