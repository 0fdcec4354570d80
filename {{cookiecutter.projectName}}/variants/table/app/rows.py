"""Rows of the table that a model was trained on, as the model's encoding describes them."""

import functools
import json
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typing_extensions
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema, with_config
from pydantic_core import ErrorDetails

from app.predictions import RefusedInput
from app.records import EncodedColumn, Encoding

Value = float | int | bool | str | None
Row = dict[str, Value]
# pydantic reads a TypedDict with any names as keys; a type checker knows only those written out in the code.
TYPED_DICT = typing.cast(Callable[[str, Mapping[str, object]], type[Row]], typing_extensions.TypedDict)
# Each type holds whole numbers from -limit to limit - 1.
WHOLE_NUMBER_LIMITS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
# PostgreSQL's numeric holds whole numbers beyond those that a float holds exactly; the model reads all as floats.
EXACT = "numeric"
MAX_NUMBER = sys.float_info.max
# PostgreSQL cannot store this character.
NO_ZERO = r"^[^\x00]*$"
TEXT = Annotated[str, Field(pattern=NO_ZERO)]
KINDS = {"number": float, "boolean": bool}
ALLOWED = {"number": "a number", "boolean": "true or false", "text": "text without the character of code 0"}
# Longest part of a wrong value, in characters, and most column names in a message.
MAX_SHOWN = 60
MAX_NAMES = 20


def read(row: Mapping[str, Any], encoding: Encoding) -> str:
    """Return a row as JSON. Raises RefusedInput, which names the column, unless it has exactly the model's columns."""
    names = [column["name"] for column in encoding["columns"]]
    for name in row:
        if name not in names:
            more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            raise RefusedInput(
                f"there is no column {_short(name)}; the columns are {', '.join(names[:MAX_NAMES])}{more}"
            )
    try:
        return json.dumps(_reader(_key(encoding)).validate_python(row))
    except ValidationError as error:
        raise RefusedInput(_reason(error.errors(include_url=False)[0], row, encoding)) from error


def schema(encoding: Encoding) -> dict[str, Any]:
    """Return the JSON Schema of a row."""
    row = _reader(_key(encoding)).json_schema()
    return {**row, "description": f"The features that predict {encoding['label']}", "examples": [typical(encoding)]}


def typical(encoding: Encoding) -> Row:
    """Return a row of the columns' means, more frequent booleans and first known texts."""
    return {column["name"]: _typical(column) for column in encoding["columns"]}


def is_whole(column: EncodedColumn) -> bool:
    """Return whether a column holds only whole numbers."""
    return column["type"] in WHOLE_NUMBER_LIMITS


def is_exact(column: EncodedColumn) -> bool:
    """Return whether a column's numbers may be whole numbers that no float holds exactly."""
    return column["type"] == "bigint" or column["type"].startswith(EXACT)


def _typical(column: EncodedColumn) -> Value:
    if column["kind"] == "text":
        return next(iter(column["vocabulary"]), None)
    if column["kind"] == "boolean":
        return column["mean"] >= 0.5
    if not is_whole(column):
        return float(f"{column['mean']:.4g}")
    limit = WHOLE_NUMBER_LIMITS[column["type"]]
    # The mean is a float, which may be rounded to a number beyond the type's limit.
    return min(max(round(column["mean"]), -limit), limit - 1)


def _key(encoding: Encoding) -> str:
    return json.dumps(encoding, sort_keys=True)


@functools.lru_cache(8)
def _reader(key: str) -> TypeAdapter[Row]:
    """Return the validator of rows with exactly the encoding's columns; it does not convert text to numbers."""
    columns: list[EncodedColumn] = json.loads(key)["columns"]
    row = TYPED_DICT("Row", {column["name"]: _type(column) for column in columns})
    return TypeAdapter(with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))(row))


def _type(column: EncodedColumn) -> object:
    """Return the type of a column's values. Null is always allowed: it is encoded as the mean, or as no known text."""
    field = Field(title=column["name"], description=f"{column['type']} in the table")
    if is_whole(column):
        limit = WHOLE_NUMBER_LIMITS[column["type"]]
        # JSON does not distinguish 1.0 from 1.
        return Annotated[Annotated[int, Field(ge=-limit, le=limit - 1), BeforeValidator(_whole)] | None, field]
    if column["kind"] == "text":
        unknown = {"type": "string", "pattern": NO_ZERO, "description": "Any other text: unknown to the model"}
        values = [{"enum": column["vocabulary"]}, unknown, {"type": "null"}]
        return Annotated[TEXT | None, WithJsonSchema({"anyOf": values}), field]
    if column["type"].startswith(EXACT):
        exact = Field(ge=-MAX_NUMBER, le=MAX_NUMBER)
        return Annotated[Annotated[int | float, exact, WithJsonSchema({"type": "number"})] | None, field]
    kind = KINDS[column["kind"]]
    return Annotated[kind | None, field]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _reason(details: ErrorDetails, row: Mapping[str, Any], encoding: Encoding) -> str:
    """Return what is wrong with a row as a sentence that names the column."""
    name = str(details["loc"][0])
    columns = {column["name"]: column for column in encoding["columns"]}
    if name not in row:
        return f"column {name} is missing; give null for an unknown value"
    allowed = ALLOWED[columns[name]["kind"]]
    if is_whole(columns[name]):
        limit = WHOLE_NUMBER_LIMITS[columns[name]["type"]]
        allowed = f"a whole number from {-limit} to {limit - 1}"
    return f"column {name} must be {allowed}, or null; {_short(row[name])} was given"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
