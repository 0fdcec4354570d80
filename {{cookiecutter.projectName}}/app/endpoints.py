"""The operations of the API."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from app import authentication, documentation, inputs, logs, problems
from app.answers import EXAMPLE_ID
from app.authentication import Authentication, Authenticator
from app.predictions import Predictions, WaitingForModel
from app.protection import HOST_REFUSED, NO_PAGE, PROBES, Hosts, SecurityHeaders
from app.request_limits import Limits
from app.settings import Settings
from app.subjects import Subject
from app.work import Shared, Work

# Bytes of a body that holds no input of the model.
MAX_BODY = 64 * 2**10
# Characters.
MAX_LABEL = 1000
UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


class Label(BaseModel):
    """The true class of an input."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"label": "7"}]})

    label: str = Field(max_length=MAX_LABEL, description="One of the model's classes", examples=["7"])


class LabelAnswer(BaseModel):
    """A recorded label."""

    prediction_id: str = Field(examples=[EXAMPLE_ID])
    label: str = Field(description="The recorded class", examples=["7"])
    predicted_label: str = Field(description="The class that the model predicted", examples=["1"])
    model: str = Field(examples=["image_classifier"])
    version: int = Field(description="Version of the model that predicted it", examples=[3])


class ModelAnswer(inputs.ModelInput):
    """The served version of the model."""

    model: str = Field(examples=["image_classifier"])
    alias: str = Field(description="The stage that this API serves", examples=["staging"])
    version: int = Field(examples=[3])
    classes: list[str] = Field(description="In the order of the model's output", examples=[["0", "1"]])
    metrics: dict[str, Any] = Field(
        description="On held-out rows: accuracy_score, f1_score, loss, rows, confusion_matrix (true × predicted)",
        examples=[
            {"accuracy_score": 0.95, "f1_score": 0.94, "loss": 0.2, "rows": 2, "confusion_matrix": [[1, 0], [0, 1]]}
        ],
    )
    data_hash: str = Field(description="Hash of the data it was trained on", examples=["6a197e257aa7"])
    git_commit: str = Field(description="Commit it was trained from", examples=["4f1c0de"])
    created_at: str = Field(
        description="Time of its export to the inference database", examples=["2026-01-31T12:00:00+00:00"]
    )
    changed_at: str = Field(description="Time at which it got the alias", examples=["2026-01-31T12:05:00+00:00"])


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["alive"])


class Readiness(BaseModel):
    """A model is served, and the database answers."""

    status: str = Field(examples=["ready"])
    model: str = Field(examples=["image_classifier"])
    alias: str = Field(description="The stage that this API serves", examples=["staging"])
    version: int = Field(examples=[3])


def create_app(settings: Settings, predictions: Predictions, who: Authenticator) -> FastAPI:
    """Return the API over `predictions`, which it closes when it shuts down; `who` authenticates its clients."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        predictions.close()

    app = FastAPIOffline(
        title=settings.project_name,
        description=settings.description,
        version="1",
        # It serves Swagger UI's files; the page is this project's own.
        docs_url=None,
        redoc_url=None,
        # A redirect from /docs/ to /docs would name the host of the request, which may be anything.
        redirect_slashes=False,
        lifespan=lifespan,
        **inputs.OPTIONS,
    )
    work = Work()
    problems.install(app, inputs.STATUS)
    inputs.add(app, predictions, work)
    _add_labels(app, predictions, work)
    _add_model(app, settings, predictions, work)
    _add_health(app, settings, predictions)
    documentation.add(app)
    _complete_description(app)
    _add_middleware(app, settings, who)
    return app


def _add_middleware(app: FastAPI, settings: Settings, who: Authenticator) -> None:
    """Add the middleware; the last one added runs first."""
    per_minute = settings.requests_per_minute if settings.authentication != "none" else 0
    app.add_middleware(Limits, per_minute=per_minute, at_once=settings.concurrent_requests)
    app.add_middleware(Authentication, authenticator=who)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-ID"],
        )
    app.add_middleware(Hosts, allowed=settings.allowed_hosts, exempt=PROBES, refuse=_refuse_host)
    app.add_middleware(SecurityHeaders, headers={"Content-Security-Policy": NO_PAGE, "Cache-Control": "no-store"})
    app.add_middleware(
        logs.Requests, limits=inputs.LIMITS, default_limit=MAX_BODY, total_limit=settings.uploads_mib * 2**20
    )


def _refuse_host(request: Request) -> Response:
    return problems.problem(request, 400, HOST_REFUSED)


def _add_labels(app: FastAPI, predictions: Predictions, work: Work) -> None:
    @app.post(
        "/predictions/{prediction_id}/label",
        tags=["predictions"],
        summary="Record the true class of a prediction's input",
        responses=problems.declare(400, 401, 403, 404, 408, 413, 422, 429, 503),
    )
    async def record_label(
        request: Request,
        prediction_id: Annotated[
            str, Path(pattern=UUID, description="`prediction_id` of the prediction", examples=[EXAMPLE_ID])
        ],
        body: Label,
    ) -> LabelAnswer:
        """Record the true class, whether or not the model predicted it. The last of several labels counts."""
        subject: Subject = request.state.subject
        answer = await work.run(request, lambda: predictions.record_label(prediction_id, body.label, subject.name))
        recorded = LabelAnswer(**answer)
        logs.note(request, prediction_id=prediction_id, label=recorded.label, version=recorded.version)
        return recorded


def _add_model(app: FastAPI, settings: Settings, predictions: Predictions, work: Work) -> None:
    @app.get(
        "/models/{name}",
        tags=["model"],
        summary="The served model",
        responses=problems.declare(401, 403, 404, 422, 429, 503),
    )
    async def read_model(
        request: Request,
        name: Annotated[
            str, Path(pattern="^[a-z0-9_]{1,63}$", description="Name of the model", examples=["image_classifier"])
        ],
    ) -> ModelAnswer:
        """Return the served version: its inputs, its classes and its metrics on held-out rows."""
        if name != settings.model:
            raise HTTPException(404, f"this API serves no model of that name, only {settings.model}")
        model = await work.run(request, predictions.served)
        return ModelAnswer(
            model=model.model,
            alias=model.alias,
            version=model.version,
            classes=list(model.classes),
            **dict(inputs.describe(model)),
            metrics=dict(model.metrics),
            data_hash=model.data_hash,
            git_commit=model.git_commit,
            created_at=model.created_at.isoformat(),
            changed_at=model.changed_at.isoformat(),
        )


def _add_health(app: FastAPI, settings: Settings, predictions: Predictions) -> None:
    @app.get("/healthz", tags=["health"], summary="Is the process alive?", responses=problems.declare())
    async def healthz() -> Health:
        """Answer at once, without asking the database."""
        return Health(status="alive")

    # However many probes come, one of them asks the database.
    newest = Shared(lambda: predictions.model(newest=True))

    @app.get("/readyz", tags=["health"], summary="Can it answer?", responses=problems.declare(503))
    async def readyz() -> Readiness:
        """Ask the database. The app becomes ready without a restart as soon as a version holds the stage."""
        model = await newest()
        if not model:
            raise WaitingForModel(
                f"this API is waiting for a model: no version of {settings.model} holds the stage {settings.stage} yet"
            )
        return Readiness(status="ready", model=model.model, alias=model.alias, version=model.version)


def _complete_description(app: FastAPI) -> None:
    """Add the schema of the errors, which is no operation's return type, and the authentication to the description."""
    # FastAPI keeps the description that it returns here, and serves it.
    description = app.openapi()
    authentication.describe(description)
    schemas = description["components"].setdefault("schemas", {})
    schemas["Problem"] = problems.Problem.model_json_schema()
