"""The JSON answers for requests that fail."""

from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import InvalidAnswer, MissingAnswers
from accelerator_engine.server.limits import request_limits, shortened
from accelerator_engine.transforms import GenerationFailed
from accelerator_engine.tree import InvalidTree

_TITLES: dict[type[Exception], str] = {
    MissingAnswers: "MissingOptions",
    InvalidAnswer: "InvalidOptions",
    InvalidManifest: "InvalidAccelerator",
    GenerationFailed: "GenerationFailed",
    InvalidTree: "InvalidFiles",
}


class Problem(Exception):
    """A refused request: status, title, and one sentence for the user."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        """Keep the parts of the answer."""
        super().__init__(detail)
        self.status = status
        self.title = title


def sentence_of(error: Exception) -> str:
    """Return the text of an error on one line."""
    return " ".join(str(error).split())


def handle_problems(app: Flask) -> None:
    """Register the answers for all errors."""
    kinds: list[type[Exception]] = [Problem, *_TITLES]
    for kind in kinds:
        app.register_error_handler(kind, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failed)


def _answer(status: int, title: str, detail: str) -> Response:
    answer = jsonify(title=title, status=status, detail=detail)
    answer.status_code = status
    return answer


def _refused(error: Exception) -> Response:
    """Answer a request with a mistake of the user."""
    if isinstance(error, Problem):
        return _answer(error.status, error.title, sentence_of(error))
    title = next(title for kind, title in _TITLES.items() if isinstance(error, kind))
    return _answer(400, title, sentence_of(error))


def _http_error(error: HTTPException) -> Response:
    """Answer a request that the framework refuses, with its status and headers."""
    status = error.code or 500
    details = {
        404: f"there is nothing at {shortened(request.path)}",
        405: f"{request.method} is not allowed at {shortened(request.path)}",
        413: request_limits(),
    }
    answer = _answer(status, error.name.replace(" ", ""), details.get(status, error.description or error.name))
    for key, value in error.get_headers():
        if key == "Allow":
            answer.headers[key] = value
    return answer


def _failed(error: Exception) -> Response:
    """Answer a request that fails unexpectedly, and log the error for the server's owner only."""
    current_app.logger.error("%s %s", request.method, request.path, exc_info=error)
    return _answer(500, "InternalServerError", "the server failed; see its log")
