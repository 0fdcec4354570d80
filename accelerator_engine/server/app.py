"""The web application of the server."""

import io
import re

from flask import Blueprint, Flask, Response, jsonify, request, send_file

from accelerator_engine.engine import Project, generate
from accelerator_engine.server import limits
from accelerator_engine.server.library import Library, load_served
from accelerator_engine.server.limits import ANY_HOST, LOOPBACK, shortened
from accelerator_engine.server.listing import describe, describe_option
from accelerator_engine.server.orders import read_order
from accelerator_engine.server.problems import Problem, handle_problems

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?")


def create_app(library: Library, host: str = LOOPBACK[1]) -> Flask:
    """Return the application of a library; it answers to the host and to the loopback names."""
    app = Flask(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=limits.MOST_BYTES,
        MAX_FORM_MEMORY_SIZE=limits.MOST_FIELD,
        MAX_FORM_PARTS=limits.MOST_PARTS,
    )
    # A client that follows a redirect drops the body of its request.
    app.url_map.merge_slashes = False
    app.before_request(lambda: _check_caller(host))
    app.after_request(_with_headers)
    handle_problems(app)
    app.register_blueprint(_api(library))
    return app


def _api(library: Library) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/api")

    # Clients ask here whether this is the engine's own server, or a portal in front of it.
    @api.get("/about")
    def about() -> Response:
        return jsonify(name="accelerator-engine")

    @api.get("/accelerators")
    def accelerators() -> Response:
        entries = [describe(library, name) for name in sorted(library.accelerator_folders())]
        return jsonify({"_embedded": {"accelerators": entries}})

    @api.get("/accelerators/options")
    def options() -> Response:
        name = request.args.get("name")
        if not name:
            raise Problem(400, "BadRequest", "the parameter name is missing")
        return jsonify(options=[describe_option(option) for option in load_served(library, name).options])

    @api.post("/accelerators/zip")
    def project() -> Response:
        caller = {"source": _parameter("source"), "username": _parameter("username"), "run_id": _parameter("id")}
        order = read_order(library)
        return _zip(generate(order.accelerator, order.options, **caller))

    # A client reports its downloads here, and expects success. The server does not count them.
    @api.post("/accelerators/invoked")
    @api.post("/accelerators/downloaded")
    def reported() -> tuple[str, int]:
        return "", 204

    return api


def _check_caller(host: str) -> None:
    """Refuse pages of other origins, and foreign names that resolve to this machine. Raises Problem."""
    sent = request.headers.get("Host", "")
    match = _HOST.fullmatch(sent)
    known = {*LOOPBACK, host.lower(), f"[{host.lower()}]"}
    if match is None or (host not in ANY_HOST and match["name"].lower() not in known):
        raise Problem(403, "Forbidden", f"this server is not {shortened(sent)!r}")
    origin = request.headers.get("Origin", f"http://{sent}")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if origin.lower() != f"http://{sent}".lower() or site not in ("none", "same-origin"):
        raise Problem(403, "Forbidden", "pages of another origin may not use this server")


def _with_headers(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def _parameter(name: str) -> str:
    value = request.args.get(name, "")
    if len(value) > limits.LONGEST_PARAMETER:
        raise Problem(400, "BadRequest", f"{name} may have at most {limits.LONGEST_PARAMETER} characters")
    return value


def _zip(project: Project) -> Response:
    try:
        content = project.zip()
    except UnicodeEncodeError as error:
        raise Problem(400, "InvalidFiles", "the name of a file is not Unicode") from error
    return send_file(
        io.BytesIO(content), "application/zip", as_attachment=True, download_name=f"{project.name}.zip", etag=False
    )
