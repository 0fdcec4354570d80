"""Error answers as RFC 9457 describes them: application/problem+json, whatever went wrong and wherever."""

import functools
import http
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.predictions import DatabaseAway, PredictionError, RefusedInput, UnknownPrediction, WaitingForModel

MEDIA_TYPE = "application/problem+json"
# Seconds after which trying again is worth it.
RETRY_AFTER = {WaitingForModel: "5", DatabaseAway: "2"}
# The first one that fits counts.
STATUS: dict[type[Exception], int] = {
    RefusedInput: 422,
    UnknownPrediction: 404,
    WaitingForModel: 503,
    DatabaseAway: 503,
}
MEANINGS = {
    400: "The body cannot be read",
    404: "There is no such thing",
    405: "The path takes other methods",
    408: "The rest of the body did not come",
    413: "The file, or the whole body, is too large",
    415: "The file is no PNG, JPEG or WebP image",
    422: "What was sent is not allowed; `detail` says what and why",
    500: "A mistake of the server: `request_id` finds it in the log",
    503: "No model is served yet, the database does not answer, or too much is being uploaded at once: try again after "
    "`Retry-After` seconds",
}


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field("about:blank", description="The title says what kind of problem it is", examples=["about:blank"])
    title: str = Field(description="The status in words", examples=["Unprocessable Content"])
    status: int = Field(description="The HTTP status", examples=[422])
    detail: str = Field(description="What is wrong with this request, in a sentence", examples=["The file is empty."])
    instance: str = Field(description="The path that was asked", examples=["/predictions"])
    request_id: str = Field(
        description="The request in the server's log", examples=["5f0c6b7e4a0d4f7c8a1b2c3d4e5f6071"]
    )


def problem(request: Request, status: int, detail: str, headers: Any = None) -> JSONResponse:
    """Return an error answer; `detail` becomes a sentence."""
    text = detail.strip().rstrip(".")
    content = Problem(
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=f"{text[:1].upper()}{text[1:]}.",
        instance=request.scope.get("raw_path", b"").decode("ascii", "replace") or request.url.path,
        request_id=request.state.request_id,
    )
    return JSONResponse(content.model_dump(), status, headers, MEDIA_TYPE)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of an operation for its OpenAPI description."""
    return {status: _declared(status) for status in (*statuses, 405, 500)}


def _declared(status: int) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    described: dict[str, Any] = {"description": MEANINGS[status], "content": content}
    if status == 503:
        header = {"description": "Seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
        described["headers"] = {"Retry-After": header}
    return described


def install(app: FastAPI, status: dict[type[Exception], int]) -> None:
    """Let the app answer with problems; `status` has that of other errors than the database's.

    What no handler knows is answered by the request's log.
    """
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(PredictionError, _refused)
    for kind, code in status.items():
        app.add_exception_handler(kind, functools.partial(_refused_with, code))


def _http(request: Request, error: Any) -> JSONResponse:
    told = {404: "there is nothing at this path", 405: f"this path does not take {request.method}"}
    # The framework says no more than the status in words.
    own = error.detail not in ("Not Found", "Method Not Allowed")
    return problem(request, error.status_code, error.detail if own else told[error.status_code], error.headers)


def _invalid(request: Request, error: Any) -> JSONResponse:
    """Say what each mistake is and where."""
    told = [f"{_told(found)} ({'.'.join(map(str, found['loc']))[:100]})" for found in error.errors()]
    return problem(request, 422, "; ".join(told[:5]))


def _told(found: dict[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return "the body is not valid JSON"
    if found["type"] in ("model_attributes_type", "dict_type", "list_type"):
        kind = "list" if found["type"] == "list_type" else "object"
        # Without the header whatever was sent is text.
        header = ", with the header Content-Type: application/json" if len(found["loc"]) == 1 else ""
        return f"a JSON {kind} is expected{header}"
    if found["type"] == "string_pattern_mismatch" and "prediction_id" in found["loc"]:
        return "a prediction's id is a UUID"
    if found["type"] == "missing" and found["loc"][0] == "body":
        return "the field is missing"
    if "UploadFile" in found["msg"]:
        return "a file is expected"
    return found["msg"][:1].lower() + found["msg"][1:]


def _refused_with(status: int, request: Request, error: Exception) -> JSONResponse:
    return problem(request, status, str(error))


def _refused(request: Request, error: Exception) -> JSONResponse:
    kind = next(kind for kind in STATUS if isinstance(error, kind))
    if kind is DatabaseAway:
        cause = str(error.__cause__ or error).strip()
        request.state.noted["reason"] = cause.splitlines()[0] if cause else type(error.__cause__).__name__
    headers = {"Retry-After": RETRY_AFTER[kind]} if kind in RETRY_AFTER else None
    return problem(request, STATUS[kind], str(error), headers)
