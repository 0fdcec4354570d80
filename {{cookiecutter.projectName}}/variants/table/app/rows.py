"""Rows of the table that a model was trained on, as its encoding describes them."""

import functools
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from typing_extensions import TypedDict

from app.predictions import RefusedInput

Encoding = Mapping[str, Any]
WHOLE = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
# PostgreSQL holds no such character.
NO_ZERO = r"^[^\x00]*$"
TEXT = Annotated[str, Field(pattern=NO_ZERO)]
KINDS = {"number": float, "boolean": bool}
TOLD = {"number": "a number", "boolean": "true or false", "text": "text without the character of code 0"}
# So much of a wrong value, and so many columns, are told.
SHOWN = 60
MOST_NAMES = 20


def read(row: Mapping[str, Any], encoding: Encoding) -> str:
    """Return a row as JSON. Raises RefusedInput, which names the column, unless it has exactly the columns."""
    names = [column["name"] for column in encoding["columns"]]
    for name in row:
        if name not in names:
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            raise RefusedInput(
                f"there is no column {_short(name)}; the columns are {', '.join(names[:MOST_NAMES])}{more}"
            )
    try:
        return json.dumps(_reader(_key(encoding)).validate_python(row))
    except ValidationError as error:
        raise RefusedInput(_told(error.errors(include_url=False)[0], row, encoding)) from error


def schema(encoding: Encoding) -> dict[str, Any]:
    """Return the JSON Schema of a row."""
    described = _reader(_key(encoding)).json_schema()
    label = encoding["label"]
    return {**described, "description": f"What {label} is predicted from", "examples": [typical(encoding)]}


def typical(encoding: Encoding) -> dict[str, Any]:
    """Return a row of means, commoner booleans and first words."""
    return {column["name"]: _typical(column) for column in encoding["columns"]}


def is_whole(column: Mapping[str, Any]) -> bool:
    """Whether a column holds whole numbers alone."""
    return column["type"] in WHOLE


def _typical(column: Mapping[str, Any]) -> Any:
    if column["kind"] == "text":
        return next(iter(column["vocabulary"]), None)
    if column["kind"] == "boolean":
        return column["mean"] >= 0.5
    return round(column["mean"]) if is_whole(column) else float(f"{column['mean']:.4g}")


def _key(encoding: Encoding) -> str:
    return json.dumps(encoding, sort_keys=True)


@functools.lru_cache(8)
def _reader(key: str) -> TypeAdapter[dict[str, Any]]:
    """Return what reads rows of an encoding: exactly its columns, no text for a number or the like."""
    columns = json.loads(key)["columns"]
    row = TypedDict("Row", {column["name"]: _type(column) for column in columns})
    row.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return TypeAdapter(row)


def _type(column: Mapping[str, Any]) -> Any:
    """Return the type of a column's values. NULL is allowed everywhere: the model takes it for the mean, or no word."""
    told = Field(title=column["name"], description=f"{column['type']} in the table")
    if is_whole(column):
        most = WHOLE[column["type"]]
        # JSON does not tell 1.0 from 1.
        return Annotated[Annotated[int, Field(ge=-most, le=most - 1), BeforeValidator(_whole)] | None, told]
    if column["kind"] == "text":
        unknown = {"type": "string", "pattern": NO_ZERO, "description": "Any other text: unknown to the model"}
        allowed = [{"enum": column["vocabulary"]}, unknown, {"type": "null"}]
        return Annotated[TEXT | None, WithJsonSchema({"anyOf": allowed}), told]
    kind = KINDS[column["kind"]]
    return Annotated[kind | None, told]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _told(found: Mapping[str, Any], row: Mapping[str, Any], encoding: Encoding) -> str:
    """Return what is wrong with a row as a sentence that names the column."""
    name = str(found["loc"][0])
    columns = {column["name"]: column for column in encoding["columns"]}
    if name not in row:
        return f"column {name} is missing; where its value is not known, give null"
    allowed = TOLD[columns[name]["kind"]]
    if is_whole(columns[name]):
        most = WHOLE[columns[name]["type"]]
        allowed = f"a whole number from {-most} to {most - 1}"
    return f"column {name} must be {allowed}, or null; {_short(row[name])} was given"


def _short(value: Any) -> str:
    told = json.dumps(value, ensure_ascii=True)
    return told if len(told) <= SHOWN else f"{told[:SHOWN]}…"
