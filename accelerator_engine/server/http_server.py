"""The HTTP server that runs the web application."""

import json
import logging
import socket
from collections.abc import Callable
from typing import Protocol

import waitress.server  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from accelerator_engine.server import limits
from accelerator_engine.server.app import create_app
from accelerator_engine.server.library import Library
from accelerator_engine.server.limits import ANY_HOST, LOOPBACK, request_limits

_THREADS = 8


class Server(Protocol):
    """The part of waitress's server that its callers use."""

    effective_port: int
    channel_class: type

    def run(self) -> None:
        """Serve until interrupted."""

    def close(self) -> None:
        """Stop listening."""


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers a request that is not valid HTTP in the form of all other answers."""

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        title = error.reason.replace(" ", "")
        detail = request_limits() if error.code == 413 else str(error.body)
        body = json.dumps({"title": title, "status": error.code, "detail": detail}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    def parse_header(self, header_plus: bytes) -> None:
        """Parse a header. Raises ParsingError for an invalid number or address."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("a header cannot be read") from error


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
    error_task_class = _JsonErrorTask


def make_server(library: Library, port: int, host: str = LOOPBACK[1]) -> Server:
    """Return a server that listens already; `run` serves until interrupted. Raises OSError."""
    # This logger warns of every request that waits for a moment.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    host = host.strip("[]")
    # A name may stand for several addresses; waitress would give each address its own port.
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    server: Server = waitress.server.create_server(
        create_app(library, host),
        sockets=[listening],
        threads=_THREADS,
        ident=None,
        # A client that is cut off while it sends does not read the answer. So the server receives larger
        # requests, up to a limit, and the application refuses them.
        max_request_body_size=2 * limits.MOST_BYTES,
        max_request_header_size=64 * 1024,
    )
    server.channel_class = _Channel
    server.effective_port = int(server.effective_port)
    return server


def serve(
    library: Library, port: int, host: str = LOOPBACK[1], started: Callable[[str], object] = lambda url: None
) -> None:
    """Serve until interrupted; call `started` with the address once the server listens. Raises OSError."""
    server = make_server(library, port, host)
    started(f"http://{_name_in_url(host)}:{server.effective_port}")
    server.run()


def _name_in_url(host: str) -> str:
    if host in (*LOOPBACK[:2], *ANY_HOST):
        return "localhost"
    return f"[{host.strip('[]')}]" if ":" in host else host
