"""Stand-ins for PostgreSQL, MLflow and Liquibase, and bindings for them."""

import contextlib
import http.server
import json
import pathlib
import socketserver
import struct
import threading


@contextlib.contextmanager
def serving(handler: type):
    """Run a server on a free port, and yield the port."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_binding(folder: pathlib.Path, name: str, **keys: str) -> None:
    (folder / name).mkdir()
    contents = {"type": "postgresql", "provider": "local", "host": "127.0.0.1", "port": "1", "database": "d"}
    for key, value in {**contents, "username": "u", "password": "p", "sslmode": "disable", **keys}.items():
        (folder / name / key).write_text(value, encoding="utf-8")


def refusing_database(code: str, message: str) -> type:
    """Return a handler of PostgreSQL's protocol up to its first answer: FATAL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!i", self.request.recv(4))
            self.request.recv(length - 4)
            if message:
                fields = "".join(f"{key}{text}\0" for key, text in zip("SVCM", ("FATAL", "FATAL", code, message)))
                self.request.sendall(b"E" + struct.pack("!i", len(fields) + 5) + fields.encode() + b"\0")

    return Handler


def tracking_server(status: int, body: str) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_) -> None:
            pass

    return Handler


def error_body(code: str) -> str:
    return json.dumps({"error_code": code, "message": "no"})


def write_program(program: pathlib.Path, *lines: str) -> None:
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    program.chmod(0o755)
