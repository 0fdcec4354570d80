"""The operations of the API."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from app import inputs, logs, problems
from app.answers import EXAMPLE_ID
from app.predictions import Predictions, WaitingForModel
from app.settings import Settings

# Of every body that holds no input of the model.
MAX_BODY = 64 * 2**10
MAX_LABEL = 1000
UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


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


class ModelAnswer(inputs.ModelInput):
    """The version of a model that is served."""

    model: str = Field(examples=["image_classifier"])
    alias: str = Field(description="The stage that this API serves", examples=["staging"])
    version: int = Field(examples=[3])
    classes: list[str] = Field(description="In the order of the model's output", examples=[["0", "1"]])
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
        **inputs.OPTIONS,
    )
    problems.install(app, inputs.STATUS)
    inputs.add(app, predictions)
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
    together = settings.uploads_mib * 2**20
    app.add_middleware(logs.Requests, limits=inputs.LIMITS, limit=MAX_BODY, together=together)
    return app


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
            **dict(inputs.described(model)),
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
