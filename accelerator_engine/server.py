"""The engine behind HTTP: what `tanzu accelerator list, get, generate` and `generate-from-local` talk to.

The server is meant for one author on one machine. It listens on the loopback interface, and because
every web page that is open there can send requests to it, it answers only to its own name, and not
to pages of another origin.
"""

import io
import json
import logging
import math
import re
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import waitress.server  # type: ignore[import-untyped]
from flask import Blueprint, Flask, Response, current_app, jsonify, request, send_file
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException

from accelerator_engine.engine import Accelerator, Project, generate, load
from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import InvalidAnswer, MissingAnswers, Option, section
from accelerator_engine.transforms import GenerationFailed
from accelerator_engine.tree import InvalidTree, Resource, read_folder, read_tar

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# A host that stands for all addresses of the machine, whose names nobody knows.
_ANY_HOST = ("0.0.0.0", "::")  # noqa: S104

MOST_BYTES = 64 * 1024 * 1024
MOST_UNPACKED = 128 * 1024 * 1024
MOST_FIELD = 1024 * 1024
MOST_PARTS = 200
_DEEPEST_OPTIONS = 50
_LONGEST_PARAMETER = 200
_THREADS = 8

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?")
_FRAGMENT_PART = "fragment_"
# How archives begin that are packed with gzip, bzip2 or xz.
_PACKED = re.compile(rb"\x1f\x8b|BZh[1-9](?:1AY&SY|\x17rE8P\x90)|\xfd7zXZ\0")


class InvalidLibrary(ValueError):
    """Folders that cannot be served; the text is one sentence."""


class Problem(Exception):
    """A request that is refused: status, title, and one sentence for the person who sent it."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        """Keep what the answer will hold."""
        super().__init__(detail)
        self.status = status
        self.title = title


# What is served


@dataclass(frozen=True)
class Library:
    """Accelerators and fragments by name, each a folder that is read anew for every request.

    `local_files` is a folder with the folders `accelerators` and `fragments`, whose folders are
    served under their own names; what is named here goes first. Raises InvalidLibrary.
    """

    accelerators: Mapping[str, Path] = field(default_factory=dict)
    fragments: Mapping[str, Path] = field(default_factory=dict)
    local_files: Path | None = None

    def __post_init__(self) -> None:
        """Refuse folders that are not there, which are typing errors."""
        for folder in (*self.accelerators.values(), *self.fragments.values()):
            if not folder.is_dir():
                raise InvalidLibrary(f"{folder} is not a folder")
        if self.local_files and not any((self.local_files / kind).is_dir() for kind in ("accelerators", "fragments")):
            raise InvalidLibrary(f"{self.local_files} has neither a folder accelerators nor a folder fragments")

    def accelerator_folders(self) -> dict[str, Path]:
        """Return where each accelerator is at this moment."""
        return {**self._local("accelerators"), **self.accelerators}

    def fragment_folders(self) -> dict[str, Path]:
        """Return where each fragment is at this moment."""
        return {**self._local("fragments"), **self.fragments}

    def _local(self, kind: str) -> dict[str, Path]:
        if self.local_files is None:
            return {}
        try:
            found = list((self.local_files / kind).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {path.name: path for path in found if path.is_dir() and not path.name.startswith(".")}


def named_folders(arguments: Iterable[str]) -> dict[str, Path]:
    """Return what `NAME=FOLDER` and `FOLDER` (which is named after itself) say. Raises InvalidLibrary."""
    found: dict[str, Path] = {}
    for argument in arguments:
        name, sign, folder = argument.partition("=")
        # A folder may have the sign in its own name.
        if not sign or Path(argument).is_dir():
            name, folder = Path(argument).resolve().name, argument
        if not name or not folder:
            raise InvalidLibrary(f"{argument!r} has to be NAME=FOLDER or FOLDER")
        if name in found:
            raise InvalidLibrary(f"there is more than one folder for {name!r}")
        found[name] = Path(folder)
    return found


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say whose files cannot be read, without the path, which is nobody's business."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Problem(400, "UnreadableFiles", f"the files of {name!r} cannot be read: {reason}") from error


def _load(library: Library, name: str) -> Accelerator:
    """Return a served accelerator. Raises Problem, InvalidManifest."""
    return load(_served("accelerator", library.accelerator_folders(), name), name, _fragments(library, {}))


def _served(kind: str, folders: Mapping[str, Path], name: str) -> list[Resource]:
    if name not in folders:
        raise Problem(404, "NotFound", f"there is no {kind} {_short(name)!r}")
    with _readable(name):
        return read_folder(folders[name])


def _fragments(library: Library, sent: Mapping[str, list[Resource]]) -> Callable[[str], list[Resource]]:
    """Return how fragments are found: those that were sent go before those that are served."""
    folders = library.fragment_folders()

    def find(name: str) -> list[Resource]:
        if name in sent:
            return sent[name]
        folder = folders[name]
        with _readable(name):
            return read_folder(folder)

    return find


# What is told about it. The client stops at any value of another type than it expects: texts have to be texts.


def _entry(library: Library, name: str) -> dict[str, Any]:
    """Return an accelerator's entry in the list; one that cannot be used is there and says why."""
    try:
        accelerator = _load(library, name)
    except (Problem, InvalidManifest, InvalidTree) as error:
        return _unready(name, _sentence(error))
    except Exception:
        # The others are none the worse for it.
        current_app.logger.exception("the accelerator %r cannot be read", name)
        return _unready(name, "it cannot be read, and the server's log says why")
    shown = section(accelerator.content, "accelerator") if accelerator.content is not None else {}
    tags = shown.get("tags") or []
    return {
        "name": name,
        "displayName": _text(shown.get("displayName")) or name,
        "description": _text(shown.get("description")),
        "iconUrl": _text(shown.get("iconUrl")),
        "tags": [_text(tag) for tag in (tags if isinstance(tags, list) else [tags])],
        "ready": True,
        "archiveReady": True,
    }


def _unready(name: str, reason: str) -> dict[str, Any]:
    # `get` prints the archive's message alone.
    return {
        "name": name, "displayName": name, "tags": [],
        "ready": False, "readyMessage": reason, "archiveReady": False, "archiveMessage": reason,
    }  # fmt: skip


def _option(option: Option) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": option.name,
        "label": option.label,
        "description": option.description,
        "dataType": [option.data_type] if option.is_list else option.data_type,
        "defaultValue": _plain(option.default),
        "inputType": option.input_type,
        "required": option.required,
        "display": True,
        "validationRegex": option.pattern,
        "choices": [{"text": choice.text, "value": _text(choice.value)} for choice in option.choices],
    }
    if option.condition is not None:
        told["dependsOn"] = {"name": option.condition.name, "value": _plain(option.condition.value)}
    return {key: value for key, value in told.items() if value not in ("", [], None) or key == "defaultValue"}


def _text(value: object) -> str:
    """Return a scalar as YAML writes it, and nothing for what is no scalar."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def _plain(value: Any) -> Any:
    """Return a value of YAML as JSON can hold it: no infinity, and no bytes."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    # Go reads every number into 64 bits, and refuses the whole answer for one that does not fit.
    if isinstance(value, int | float) and abs(value) <= 1e300 and not math.isnan(value):
        return value
    return str(value)


# What is sent


@dataclass(frozen=True)
class _Order:
    """A project that was asked for."""

    accelerator: Accelerator
    options: dict[str, Any]


def _order(library: Library) -> _Order:
    """Read the request, by its content type. Raises Problem and whatever reading an accelerator raises."""
    # No other type: a page of another origin may send forms and plain text without being asked whether it may.
    if request.mimetype == "application/json":
        return _order_by_name(library)
    if request.mimetype == "multipart/form-data":
        return _order_with_files(library)
    raise Problem(415, "UnsupportedMediaType", "the content type has to be application/json or multipart/form-data")


def _order_by_name(library: Library) -> _Order:
    body = _json_object(request.get_data(cache=False), "the request")
    name = body.get("accelerator", request.args.get("name"))
    if not isinstance(name, str) or not name:
        raise Problem(400, "BadRequest", "the request has to name an accelerator")
    options = body.get("options")
    if options is not None and not isinstance(options, dict):
        raise Problem(400, "BadRequest", "options has to be a JSON object")
    return _Order(_load(library, name), options or {})


def _order_with_files(library: Library) -> _Order:
    sent = _Form(request.form.to_dict(flat=False), {key: request.files.getlist(key) for key in request.files})
    registered = library.fragment_folders()
    for name in sent.fields.get("fragment_names", []):
        if name not in registered:
            raise Problem(404, "NotFound", f"there is no fragment {_short(name)!r}")
    options = _json_object(sent.field("options").encode(), "options") if "options" in sent.fields else {}
    file, name = sent.files.get("accelerator"), sent.field("accelerator_name")
    if bool(file) == bool(name):
        reason = "both" if file else "neither (or the form is broken)"
        raise Problem(400, "BadRequest", f"the form has to hold accelerator or accelerator_name, and holds {reason}")
    if file:
        files = sent.archive("accelerator")
        name = (file[0].filename or "").removesuffix(".tar.gz") or "accelerator"
    else:
        files = _served("accelerator", library.accelerator_folders(), name)
    return _Order(load(files, name, _fragments(library, sent.fragments())), options)


@dataclass
class _Form:
    """A multipart form: texts and files by the names of their parts."""

    fields: dict[str, list[str]]
    files: dict[str, list[Any]]
    unpacked: int = 0

    def __post_init__(self) -> None:
        """Refuse a text where a file belongs, and the other way round: it would not be looked at."""
        for key in self.fields:
            if key == "accelerator" or (key.startswith(_FRAGMENT_PART) and key != "fragment_names"):
                raise Problem(400, "BadRequest", f"the part {_short(key)!r} has to be a file, with a file name")
        for key in ("accelerator_name", "options"):
            if key in self.files:
                raise Problem(400, "BadRequest", f"the part {key!r} has to be a field, not a file")

    def field(self, key: str) -> str:
        """Return the one text of a name, empty when there is none."""
        return str(self._only(key, self.fields.get(key, [""])))

    def archive(self, key: str) -> list[Resource]:
        """Return what the one archive of a name holds. Raises Problem, also when all together are too large."""
        content = self._only(key, self.files[key]).stream.read()
        try:
            plain = _gunzipped(content, MOST_UNPACKED - self.unpacked)
            self.unpacked += len(plain)
            return read_tar(plain)
        except InvalidTree as error:
            raise Problem(400, "InvalidArchive", f"{_short(key)}: {_sentence(error)}") from error

    def fragments(self) -> dict[str, list[Resource]]:
        """Return the files of each fragment that was sent, by its name."""
        keys = [key for key in self.files if key.startswith(_FRAGMENT_PART)]
        return {key.removeprefix(_FRAGMENT_PART): self.archive(key) for key in keys}

    @staticmethod
    def _only(key: str, values: list[Any]) -> Any:
        if len(values) != 1:
            raise Problem(400, "BadRequest", f"there is more than one part {_short(key)!r}")
        return values[0]


def _gunzipped(content: bytes, most: int) -> bytes:
    """Return a packed archive without its packing, which is not unpacked any further than it may be."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        plain = unpacking.decompress(content, most + 1)
    except zlib.error as error:
        raise InvalidTree("not a tar.gz archive") from error
    if len(plain) > most:
        raise Problem(413, "TooLarge", f"the archives of a request may hold {MOST_UNPACKED} bytes together")
    if not unpacking.eof or unpacking.unused_data.strip(b"\0"):
        raise InvalidTree("the tar.gz archive is cut off, or something follows it")
    # Whoever reads it next would unpack what is packed a second time, and without this limit.
    if _PACKED.match(plain) or plain[257:262] != b"ustar":
        raise InvalidTree("not a tar.gz archive, or it is packed twice, or empty")
    return plain


def _json_object(content: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object. Raises Problem, also for numbers and texts that no other program could read."""
    try:
        data = json.loads(content.decode(), parse_constant=_finite, parse_float=_finite)
        _check_depth(data, _DEEPEST_OPTIONS)
        # A surrogate without its pair is a text that cannot be written to any file.
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = f"{what} has to be JSON in UTF-8, with at most {_DEEPEST_OPTIONS} levels"
        raise Problem(400, "BadRequest", reason) from error
    if not isinstance(data, dict):
        raise Problem(400, "BadRequest", f"{what} has to be a JSON object")
    return data


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _check_depth(data: object, levels: int) -> None:
    if levels == 0:
        raise ValueError("too deep")
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _check_depth(item, levels - 1)


def _short(text: str) -> str:
    return text[:_LONGEST_PARAMETER]


def _parameter(name: str) -> str:
    value = request.args.get(name, "")
    if len(value) > _LONGEST_PARAMETER:
        raise Problem(400, "BadRequest", f"{name} may have {_LONGEST_PARAMETER} characters")
    return value


# What is answered


def _answer(status: int, title: str, detail: str) -> Response:
    answer = jsonify(title=title, status=status, detail=detail)
    answer.status_code = status
    return answer


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


def _refused(error: Exception) -> Response:
    """Answer what somebody did wrong."""
    if isinstance(error, Problem):
        return _answer(error.status, error.title, _sentence(error))
    kinds: dict[type[Exception], str] = {
        MissingAnswers: "MissingOptions",
        InvalidAnswer: "InvalidOptions",
        InvalidManifest: "InvalidAccelerator",
        GenerationFailed: "GenerationFailed",
        InvalidTree: "InvalidFiles",
    }
    return _answer(400, next(title for kind, title in kinds.items() if isinstance(error, kind)), _sentence(error))


def _http_error(error: HTTPException) -> Response:
    """Answer what the framework refuses, with its status and its own headers."""
    status = error.code or 500
    details = {
        404: f"there is nothing at {_short(request.path)}",
        405: f"{request.method} is not possible at {_short(request.path)}",
        413: _too_large(),
    }
    answer = _answer(status, error.name.replace(" ", ""), details.get(status, error.description or error.name))
    for key, value in error.get_headers():
        if key == "Allow":
            answer.headers[key] = value
    return answer


def _too_large() -> str:
    return f"a request may have {MOST_BYTES} bytes, {MOST_PARTS} parts, and fields of {MOST_FIELD} bytes"


def _failed(error: Exception) -> Response:
    """Answer what nobody expected; what happened is for the log, not for the client."""
    current_app.logger.error("%s %s", request.method, request.path, exc_info=error)
    return _answer(500, "InternalServerError", "the server failed, and its log says why")


def _zip(project: Project) -> Response:
    try:
        content = project.zip()
    except UnicodeEncodeError as error:
        raise Problem(400, "InvalidFiles", "a file has a name that is not Unicode") from error
    return send_file(
        io.BytesIO(content), "application/zip", as_attachment=True, download_name=f"{project.name}.zip", etag=False
    )


# The application


def create_app(library: Library, host: str = LOOPBACK[1]) -> Flask:
    """Return the application that serves a library on a host, which it answers to beside the loopback names."""
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MOST_BYTES, MAX_FORM_MEMORY_SIZE=MOST_FIELD, MAX_FORM_PARTS=MOST_PARTS)
    # A redirect would not be followed with the body that came.
    app.url_map.merge_slashes = False
    app.before_request(lambda: _check_caller(host))
    app.after_request(_with_headers)
    for kind in (Problem, InvalidAnswer, InvalidManifest, GenerationFailed, InvalidTree):
        app.register_error_handler(kind, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failed)
    app.register_blueprint(_api(library))
    return app


def _api(library: Library) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/api")

    # Clients look here whether this is the engine's own server, or a portal with the engine behind it.
    @api.get("/about")
    def about() -> Response:
        return jsonify(name="accelerator-engine")

    @api.get("/accelerators")
    def accelerators() -> Response:
        entries = [_entry(library, name) for name in sorted(library.accelerator_folders())]
        return jsonify({"_embedded": {"accelerators": entries}})

    @api.get("/accelerators/options")
    def options() -> Response:
        name = request.args.get("name")
        if not name:
            raise Problem(400, "BadRequest", "the parameter name is missing")
        return jsonify(options=[_option(option) for option in _load(library, name).options])

    @api.post("/accelerators/zip")
    def project() -> Response:
        caller = {"source": _parameter("source"), "username": _parameter("username"), "run_id": _parameter("id")}
        order = _order(library)
        return _zip(generate(order.accelerator, order.options, **caller))

    # A client reports what it saved, and takes anything but success for a failure. Nothing is counted here.
    @api.post("/accelerators/invoked")
    @api.post("/accelerators/downloaded")
    def reported() -> tuple[str, int]:
        return "", 204

    return api


def _check_caller(host: str) -> None:
    """Refuse pages of other origins, and names that somebody else made point to this machine."""
    sent = request.headers.get("Host", "")
    match = _HOST.fullmatch(sent)
    known = {*LOOPBACK, host.lower(), f"[{host.lower()}]"}
    if match is None or (host not in _ANY_HOST and match["name"].lower() not in known):
        raise Problem(403, "Forbidden", f"this server is not {_short(sent)!r}")
    origin = request.headers.get("Origin", f"http://{sent}")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if origin.lower() != f"http://{sent}".lower() or site not in ("none", "same-origin"):
        raise Problem(403, "Forbidden", "pages of another origin may not use this server")


def _with_headers(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


# The server


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """The server's answer to what is not even HTTP, in the form of all others."""

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        title = error.reason.replace(" ", "")
        detail = _too_large() if error.code == 413 else str(error.body)
        body = json.dumps({"title": title, "status": error.code, "detail": detail}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    def parse_header(self, header_plus: bytes) -> None:
        """Take what is no number or no address for what it is, and not for a failure of the server."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("a header cannot be read") from error


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
    error_task_class = _JsonErrorTask


def make_server(library: Library, port: int, host: str = LOOPBACK[1]) -> Any:  # waitress has no types
    """Return a server that listens already; `run` serves until it is interrupted. Raises OSError."""
    # It warns of every request that has to wait for a moment.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    host = host.strip("[]")
    # A name may stand for several addresses, and each of them would get a port of its own.
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    server = waitress.server.create_server(
        create_app(library, host),
        sockets=[listening],
        threads=_THREADS,
        ident=None,
        # The application refuses what is larger than its own limit, once it has been received: a client that is
        # cut off while it sends does not read the answer.
        max_request_body_size=2 * MOST_BYTES,
        max_request_header_size=64 * 1024,
    )
    server.channel_class = _Channel
    server.effective_port = int(server.effective_port)
    return server


def serve(
    library: Library, port: int, host: str = LOOPBACK[1], started: Callable[[str], object] = lambda url: None
) -> None:
    """Serve until interrupted; `started` is told the address once the server listens. Raises OSError."""
    server = make_server(library, port, host)
    name = "localhost" if host in (*LOOPBACK[:2], *_ANY_HOST) else f"[{host.strip('[]')}]" if ":" in host else host
    started(f"http://{name}:{server.effective_port}")
    server.run()
