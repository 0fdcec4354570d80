"""What the API takes where the model takes rows of a table: JSON, a value for each column's name."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, RootModel, WithJsonSchema
from starlette.routing import Route

from app import problems, rows
from app.answers import BatchAnswer, PredictionAnswer, answer, answer_batch
from app.predictions import Model, PredictionError, Predictions, RefusedInput

MAX_ROWS = 1000
# The longest body of each path.
LIMITS = {"/predictions": 256 * 2**10, "/predictions/batch": 16 * 2**20}
# What each error is answered with: those of a row are the database's.
STATUS: dict[type[Exception], int] = {}
OPTIONS: dict[str, Any] = {}
# Which columns there are is known once a model is served.
VALUE = {"anyOf": [{"type": kind} for kind in ("number", "string", "boolean", "null")]}
ANY_ROW = {"type": "object", "additionalProperties": VALUE, "examples": [{"age": 41.5, "city": "Bern", "smoker": None}]}


class Row(RootModel[Annotated[dict[str, Any], WithJsonSchema(ANY_ROW)]]):
    """A value, or null, for each of the model's columns; GET /models/{name} tells them."""


class Column(BaseModel):
    """A column that the model predicts from."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(examples=["age"])
    type: str = Field(description="Its type in the table", examples=["double precision"])
    kind: str = Field(description="number, boolean or text", examples=["number"])
    nulls: bool = Field(description="Whether it is NULL in training rows", examples=[False])
    mean: float | None = Field(None, description="Of the training rows, not of a text", examples=[41.5])
    deviation: float | None = Field(None, description="Of the training rows, not of a text", examples=[12.25])
    vocabulary: list[str] | None = Field(
        None, description="Of a text: what it is in training rows; any other counts as unknown", examples=[None]
    )


class ModelInput(BaseModel):
    """What the served model takes."""

    input_shape: list[int] = Field(description="How many numbers a row becomes", examples=[[30]])
    input_dtype: str = Field(examples=["float32"])
    columns: list[Column] = Field(description="What a row must have")


def described(model: Model) -> ModelInput:
    """Return what the model takes."""
    columns = [Column(**column) for column in _encoding(model)["columns"]]
    return ModelInput(input_shape=list(model.input_shape), input_dtype=model.input_dtype, columns=columns)


def add(app: FastAPI, predictions: Predictions) -> None:
    """Add the operations that predict, and the description of the rows that the served model takes."""

    @app.post(
        "/predictions",
        tags=["predictions"],
        summary="Classify a row",
        responses=problems.declared(400, 408, 413, 422, 503),
    )
    def predict(request: Request, row: Row) -> PredictionAnswer:
        """Return the label and the probability of each class.

        The body is the row itself: a value for each column, null where it is not known, and nothing else. A text that
        no training row had counts as unknown. The prediction is logged under its id.
        """
        return answer(request, predictions, row.root, _rows)

    @app.post(
        "/predictions/batch",
        tags=["predictions"],
        summary="Classify several rows",
        responses=problems.declared(400, 408, 413, 422, 503),
    )
    def predict_batch(
        request: Request,
        rows: Annotated[list[Row], Body(min_length=1, max_length=MAX_ROWS, description="1 to 1000 rows")],
    ) -> BatchAnswer:
        """Return an answer for each row, in their order. All are logged, or none if one is refused."""
        return answer_batch(request, predictions, [row.root for row in rows], _rows)

    def openapi(request: Request) -> JSONResponse:
        """Return the description of the API, with the columns of the served model in it."""
        return JSONResponse(_with_columns(app.openapi(), predictions))

    # A function that asks the database is not to hold up others, as the framework's own would.
    app.router.routes.insert(0, Route("/openapi.json", openapi, include_in_schema=False))


def _with_columns(description: dict[str, Any], predictions: Predictions) -> dict[str, Any]:
    """Return the description with the served model's rows; as it is while there is none."""
    try:
        model = predictions.model()
    except PredictionError:
        model = None
    if model is None or model.encoding is None:
        return description
    components = description["components"]
    schemas = {**components["schemas"], "Row": rows.schema(model.encoding)}
    return {**description, "components": {**components, "schemas": schemas}}


def _rows(model: Model, given: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_row(number, given, _encoding(model)) for number in range(len(given))]


def _row(number: int, given: Sequence[Mapping[str, Any]], encoding: rows.Encoding) -> str:
    try:
        return rows.read(given[number], encoding)
    except RefusedInput as error:
        if len(given) == 1:
            raise
        raise RefusedInput(f"row {number + 1}: {error}") from error


def _encoding(model: Model) -> rows.Encoding:
    if model.encoding is None:
        raise RefusedInput(f"version {model.version} of {model.model} does not take rows of a table")
    return model.encoding
