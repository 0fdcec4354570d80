"""The API of a generated project, run as a process, and the requests of tests."""

import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
from PIL import Image

from .project import LOCAL, Project
from .servers import wait_until

PROBLEM = "application/problem+json"
# The command that laptops, containers and platforms use.
START = ("run", "--environment", "app", "--", "python", "-m", "app")


class Api:
    """A running API: its port, process and log."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.port = port
        self.process = process
        self.log = log
        self.session = requests.Session()
        # Ignore proxies.
        self.session.trust_env = False

    @property
    def address(self) -> str:
        """The address of the root."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request."""
        return self.session.request(method, self.address + path, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send a GET."""
        return self.ask("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """Send a POST."""
        return self.ask("POST", path, **options)

    def predict(self, image: bytes, name: str = "image", kind: str = "image/png") -> requests.Response:
        """Send an image to be classified."""
        return self.post("/predictions", files={"image": (name, image, kind)})

    def is_alive(self) -> bool:
        """Return whether the process answers."""
        with contextlib.suppress(OSError, http.client.HTTPException, requests.RequestException):
            return self.get("/healthz").status_code == http.client.OK
        return False

    def lines(self) -> list[dict[str, Any]]:
        """Return the log, which has one JSON object per line."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        """Return the logged requests."""
        return [line for line in self.lines() if line["logger"] == "app.requests"]


@contextlib.contextmanager
def serving(project: Project, log: Path, **variables: str) -> Iterator[Api]:
    """Start the project's API in the app's environment; stop it with SIGTERM, as an orchestrator does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"HOST": "127.0.0.1", "PORT": str(port), "AUTHENTICATION": "none"}
    environment = {**project.environment, **here, **variables}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*LOCAL, *START],
            cwd=project.folder, env=environment, stdout=file, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    api = Api(port, process, log)
    try:
        # The first start installs the environment.
        wait_until(lambda: api.is_alive() or process.poll() is not None, 300, "the API")
        assert process.poll() is None, process.communicate()[1].decode()
        yield api
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            stderr = process.communicate(timeout=30)[1].decode()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        project.servers.outputs.append(log.read_text(encoding="utf-8") + stderr)
        api.session.close()


def with_keys(project: Project, folder: Path, **roles: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return variables that make the API ask for keys, and a new key per subject; `roles` are those of each subject."""
    keys = {subject: secrets.token_urlsafe(32) for subject in roles}
    (folder / "api-keys").mkdir(parents=True)
    (folder / "inference-app").symlink_to(project.servers.bindings / "inference-app")
    (folder / "api-keys" / "type").write_text("api-keys\n", encoding="utf-8")
    for subject, key in keys.items():
        line = f"{hashlib.sha256(key.encode()).hexdigest()} {roles[subject]}\n"
        (folder / "api-keys" / subject).write_text(line, encoding="utf-8")
    return {"AUTHENTICATION": "api-key", "SERVICE_BINDING_ROOT": str(folder)}, keys


def file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture as the content of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: "np.ndarray[Any, Any]") -> bytes:
    """Return pixels (h, w), (h, w, 1) or (h, w, 3) as a lossless PNG."""
    return file(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))


def sentence(answer: requests.Response, status: int | None = None) -> str:
    """Return the detail of an error, after checking that the answer is a problem (RFC 9457)."""
    assert answer.status_code == status or (status is None and 400 <= answer.status_code < 500), answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail", "instance", "request_id"}
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert re.fullmatch(r"[^a-z\n][^\n]*[^.\n]\.", problem["detail"]), problem["detail"]
    assert "Traceback" not in problem["detail"]
    return problem["detail"]
