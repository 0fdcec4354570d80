"""Error answers: every error of the API has the media type application/problem+json (RFC 9457)."""

import functools
import http
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from app.clients import Busy, ClientGone
from app.predictions import DatabaseAway, PredictionError, RefusedInput, UnknownPrediction, WaitingForModel

MEDIA_TYPE = "application/problem+json"
# Seconds to wait before trying again.
BUSY_SECONDS = "2"
RETRY_AFTER: dict[type[Exception], str] = {WaitingForModel: "5", DatabaseAway: BUSY_SECONDS, Busy: BUSY_SECONDS}
# A status that no client sees: the client closed the connection.
CLIENT_GONE = 499
# The first class that the error is an instance of counts.
STATUS: dict[type[Exception], int] = {
    RefusedInput: 422,
    UnknownPrediction: 404,
    WaitingForModel: 503,
    DatabaseAway: 503,
    Busy: 503,
}
MEANINGS = {
    400: "The body cannot be read",
    401: "The request has no key or token, or one that is not valid",
    403: "The subject does not have the role that the operation needs",
    404: "The path, the prediction or the model does not exist",
    405: "The path does not support this method",
    408: "The rest of the body did not arrive in time",
    413: "The file, or the whole body, is too large",
    415: "The file is no PNG, JPEG or WebP image",
    422: "The request is not valid; `detail` gives the reason",
    429: "The subject has sent too many requests: try again after `Retry-After` seconds",
    500: "An error of the server; find it in the log by `request_id`",
    503: "No model is served yet, the database does not answer, or the server has too much to do: try again after "
    "`Retry-After` seconds",
}


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(
        default="about:blank", description="Always about:blank: `title` names the problem", examples=["about:blank"]
    )
    title: str = Field(description="The status in words", examples=["Unprocessable Content"])
    status: int = Field(description="The HTTP status", examples=[422])
    detail: str = Field(description="What is wrong with this request, in a sentence", examples=["The file is empty."])
    instance: str = Field(description="The path of the request", examples=["/predictions"])
    request_id: str = Field(
        description="Identifies the request in the server's log", examples=["5f0c6b7e4a0d4f7c8a1b2c3d4e5f6071"]
    )


def problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
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


def declare(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` argument of an operation that answers with these errors, as OpenAPI describes them."""
    return {status: _declare(status) for status in sorted({*statuses, 405, 500})}


def _declare(status: int) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    response: dict[str, Any] = {"description": MEANINGS[status], "content": content}
    if status in (429, 503):
        header = {"description": "Seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
        response["headers"] = {"Retry-After": header}
    return response


def install(app: FastAPI, status: dict[type[Exception], int]) -> None:
    """Answer errors as problems; `status` maps the errors of the inputs to statuses.

    The middleware in app.logs answers an exception without a handler.
    """
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(PredictionError, _answer_prediction_error)
    app.add_exception_handler(Busy, _answer_prediction_error)
    app.add_exception_handler(ClientGone, _answer_nobody)
    for kind, code in status.items():
        app.add_exception_handler(kind, functools.partial(_answer_with, code))


def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    details = {404: "there is nothing at this path", 405: f"this path does not take {request.method}"}
    # The framework's own detail is the status in words.
    is_own = error.detail not in ("Not Found", "Method Not Allowed")
    return problem(request, error.status_code, error.detail if is_own else details[error.status_code], error.headers)


def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Name the first five mistakes and their places."""
    assert isinstance(error, RequestValidationError)
    details: list[ErrorDetails] = list(error.errors())[:5]
    return problem(
        request,
        422,
        "; ".join(f"{_reason(mistake)} ({'.'.join(map(str, mistake['loc']))[:100]})" for mistake in details),
    )


def _reason(details: ErrorDetails) -> str:
    """Return what is wrong with a part of the request."""
    if details["type"] == "json_invalid":
        return "the body is not valid JSON"
    if details["type"] in ("model_attributes_type", "dict_type", "list_type"):
        kind = "list" if details["type"] == "list_type" else "object"
        # Without the header FastAPI reads the body as text.
        header = ", with the header Content-Type: application/json" if len(details["loc"]) == 1 else ""
        return f"a JSON {kind} is expected{header}"
    if details["type"] == "string_pattern_mismatch" and "prediction_id" in details["loc"]:
        return "a prediction's id is a UUID"
    if details["type"] == "missing" and details["loc"][0] == "body":
        return "the field is missing"
    if "UploadFile" in details["msg"]:
        return "a file is expected"
    return details["msg"][:1].lower() + details["msg"][1:]


def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def _answer_with(status: int, request: Request, error: Exception) -> JSONResponse:
    return problem(request, status, str(error))


def _answer_prediction_error(request: Request, error: Exception) -> JSONResponse:
    kind = next(kind for kind in STATUS if isinstance(error, kind))
    if kind is DatabaseAway:
        cause = str(error.__cause__ or error).strip()
        request.state.noted["reason"] = cause.splitlines()[0] if cause else type(error.__cause__).__name__
    headers = {"Retry-After": RETRY_AFTER[kind]} if kind in RETRY_AFTER else None
    return problem(request, STATUS[kind], str(error), headers)
