"""The API's operations that predict, and its limits, for a model of a table: the inputs are rows as JSON objects."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, RootModel, WithJsonSchema
from starlette.routing import Route

from app import problems, rows
from app.answers import Answers, BatchAnswer, PredictionAnswer, Reader
from app.likeness import outside
from app.predictions import Model, PredictionError, Predictions, RefusedInput
from app.records import EncodedColumn, Encoding
from app.work import Work

MAX_ROWS = 1000
# The name of the drift of the predicted classes.
CLASS_STATISTIC = "class"
# Longest body per path, in bytes.
LIMITS = {"/predictions": 256 * 2**10, "/predictions/batch": 16 * 2**20}
# HTTP status per error; a wrong row is a RefusedInput, which app.problems knows.
STATUS: dict[type[Exception], int] = {}
OPTIONS: dict[str, Any] = {}
# The columns are known once a model is served; until then any row is described.
VALUE = {"anyOf": [{"type": kind} for kind in ("number", "string", "boolean", "null")]}
ANY_ROW = {"type": "object", "additionalProperties": VALUE, "examples": [{"age": 41.5, "city": "Bern", "smoker": None}]}


class Row(RootModel[Annotated[dict[str, Any], WithJsonSchema(ANY_ROW)]]):
    """A value, or null, for each of the model's columns, which GET /models/{name} lists."""


class Column(BaseModel):
    """A feature column of the model."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(examples=["age"])
    type: str = Field(description="Its type in the table", examples=["double precision"])
    kind: str = Field(description="number, boolean or text", examples=["number"])
    nulls: bool = Field(description="Whether training rows have NULL in it", examples=[False])
    mean: float | None = Field(
        default=None, description="Mean over the training rows; null for a text", examples=[41.5]
    )
    deviation: float | None = Field(
        default=None, description="Standard deviation over the training rows; null for a text", examples=[12.25]
    )
    vocabulary: list[str] | None = Field(
        default=None,
        description="For a text: its values in the training rows; any other value counts as unknown",
        examples=[None],
    )


class ModelInput(BaseModel):
    """The input of the served model."""

    input_shape: list[int] = Field(description="Number of values that a row is encoded as", examples=[[30]])
    input_dtype: str = Field(examples=["float32"])
    columns: list[Column] = Field(description="The columns that a row must have")


def describe(model: Model) -> ModelInput:
    """Return the description of the model's input. Raises RefusedInput if the model takes no rows of a table."""
    columns = [Column(**column) for column in _encoding(model)["columns"]]
    return ModelInput(input_shape=list(model.input_shape), input_dtype=model.input_dtype, columns=columns)


def add(app: FastAPI, predictions: Predictions, work: Work) -> None:
    """Add the operations that predict, and the OpenAPI description with the served model's columns."""
    answers = Answers(predictions, work, READER)

    @app.post(
        "/predictions",
        tags=["predictions"],
        summary="Classify a row",
        responses=problems.declare(400, 401, 403, 408, 413, 422, 429, 503),
    )
    async def predict(request: Request, row: Row) -> PredictionAnswer:
        """Return the label and the probability per class.

        The body is the row itself: a value for each column, null if it is not known, and nothing else. A text that no
        training row has counts as unknown. The prediction is logged under its id.
        """
        return await answers.one(request, row.root)

    @app.post(
        "/predictions/batch",
        tags=["predictions"],
        summary="Classify several rows",
        responses=problems.declare(400, 401, 403, 408, 413, 422, 429, 503),
    )
    async def predict_batch(
        request: Request,
        rows: Annotated[list[Row], Body(min_length=1, max_length=MAX_ROWS, description="1 to 1000 rows")],
    ) -> BatchAnswer:
        """Return one answer per row, in their order. All are logged, or none if one is refused."""
        return await answers.batch(request, [row.root for row in rows])

    async def openapi(request: Request) -> JSONResponse:
        """Return the OpenAPI description, with the served model's columns for those who may predict."""
        if "predict" not in request.state.subject.roles:
            return JSONResponse(app.openapi())
        return JSONResponse(await work.run(request, lambda: _with_columns(app.openapi(), predictions)))

    app.router.routes.insert(0, Route("/openapi.json", openapi, include_in_schema=False))


def _with_columns(description: dict[str, Any], predictions: Predictions) -> dict[str, Any]:
    """Return the description with the schema of the served model's rows, unchanged while there is no model."""
    try:
        model = predictions.model()
    except PredictionError:
        model = None
    if model is None or model.encoding is None:
        return description
    components = description["components"]
    schemas = {**components["schemas"], "Row": rows.schema(model.encoding)}
    return {**description, "components": {**components, "schemas": schemas}}


def _rows(model: Model, items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_row(number, items, _encoding(model)) for number in range(len(items))]


def _row(number: int, items: Sequence[Mapping[str, Any]], encoding: Encoding) -> str:
    try:
        return rows.read(items[number], encoding)
    except RefusedInput as error:
        if len(items) == 1:
            raise
        raise RefusedInput(f"row {number + 1}: {error}") from error


def _encoding(model: Model) -> Encoding:
    if model.encoding is None:
        raise RefusedInput(f"version {model.version} of {model.model} does not take rows of a table")
    return model.encoding


def unlike(model: Model, row: Any) -> list[str]:
    """Return the values of a row, given as JSON, that lie outside of all training rows, and its unknown texts."""
    values: dict[str, Any] = json.loads(row)
    unknown = [
        f"{column['name']} is a text that no training row has"
        for column in _encoding(model)["columns"]
        if column["kind"] == "text" and _text(column, values[column["name"]]) not in (None, *column["vocabulary"])
    ]
    # The statistic of a column with the name of the classes' own has another name.
    numbers = {
        f"column {name}" if name == CLASS_STATISTIC else name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return [*outside(model, numbers), *unknown]


def _text(column: EncodedColumn, value: str | None) -> str | None:
    """Return a text as the database compares it, which ignores blanks at the end of a character(n)."""
    return value.rstrip(" ") if value is not None and column["type"].startswith("character(") else value


READER = Reader(_rows, unlike)
