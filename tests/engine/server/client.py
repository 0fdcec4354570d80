"""A client that sends the requests of the `tanzu accelerator` command over real connections."""

import contextlib
import gzip
import http.client
import io
import json
import socket
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from accelerator_engine.server import (
    Library,
    make_server,
)

ACCELERATOR = """\
accelerator:
  displayName: A greeting
  description: Says something to somebody
  iconUrl: https://example.com/icon.png
  tags: [java, 17]
  options:
    - {name: greeting, defaultValue: Hello, label: The greeting, validationRegex: "^[A-Z]"}
    - {name: whom, required: true}
    - {name: loud, dataType: boolean, defaultValue: false, display: false}
    - {name: size, dataType: number, defaultValue: 3, inputType: select, choices: [{value: 3, text: small}, {value: 5}]}
    - {name: names, dataType: [string], defaultValue: [a], dependsOn: {name: loud}}
  imports: [{name: license, expose: [{name: holder}]}]
engine:
  merge:
    - include: ["**"]
      exclude: [README.md]
    - include: [README.md]
      chain:
        - type: ReplaceText
          substitutions: [{text: HELLO, with: "#greeting + ' ' + #whom"}]
    - {type: InvokeFragment, reference: license}
    - {type: Provenance}
  onConflict: UseLast
"""
FRAGMENT = """\
accelerator:
  options: [{name: holder, defaultValue: Nobody}]
engine:
  include: [LICENSE]
  chain: [{type: ReplaceText, substitutions: [{text: HOLDER, with: "#holder"}]}]
"""
PLAIN = "engine: {include: ['**']}\n"
HEAD = (
    b"POST /api/accelerators/zip HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
)


@dataclass
class Reply:
    """An answer of the server."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The error message in a valid error answer."""
        data = self.json
        assert set(data) == {"title", "status", "detail"}
        assert data["status"] == self.status
        assert data["title"].isidentifier()
        assert data["detail"]
        assert "\n" not in data["detail"]
        assert "Traceback" not in data["detail"]
        return str(data["detail"])


class Client:
    """Sends the requests of the command."""

    def __init__(self, port: int) -> None:
        """Use a port of this machine."""
        self.port = port

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request; `Content_Type=…` is a header."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip", "Connection": "close"}
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())

    def get(self, path: str, **headers: str) -> Reply:
        """Send a GET."""
        return self.send("GET", path, None, **headers)

    def generate(self, name: str, options: Any, query: str = "", **headers: str) -> Reply:
        """Send the request of `generate`."""
        body = json.dumps({"accelerator": name, "options": options}, sort_keys=True).encode()
        where = f"/api/accelerators/zip?name={quote(name)}&source=TanzuCLI{query}"
        return self.send("POST", where, body, **{"Content_Type": "application/json"} | headers)

    def generate_from_local(self, *parts: tuple[str, str | None, bytes], **headers: str) -> Reply:
        """Send the request of `generate-from-local`; a part is a name, a file name or None, and a content."""
        boundary = uuid.uuid4().hex * 2
        body = b"".join(form_part(boundary, *part) for part in parts) + f"--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return self.send("POST", "/api/accelerators/zip", body, **{"Content_Type": kind} | headers)


def form_part(boundary: str, name: str, file: str | None, content: bytes) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
    head += "" if file is None else f'; filename="{file}"\r\nContent-Type: application/octet-stream'
    return f"{head}\r\n\r\n".encode() + content + b"\r\n"


def packed(files: Mapping[str, str | bytes], executable: Iterable[str] = ()) -> bytes:
    """Return a tar.gz archive like the command's: plain files only, in any order."""
    entries = []
    for path, content in files.items():
        entry = tarfile.TarInfo(path)
        entry.mode = 0o755 if path in executable else 0o644
        entries.append((entry, content.encode() if isinstance(content, str) else content))
    return packed_entries(*entries)


def packed_entries(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar.gz archive of any entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry, content in entries:
            entry.size = len(content) if entry.isreg() else entry.size
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1)


def unpacked(content: bytes) -> dict[str, tuple[bytes, int]]:
    """Return the contents and modes of the files, without the root folder in their paths."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert all(entry.create_system == 3 for entry in archive.infolist())
        return {
            entry.filename.partition("/")[2]: (archive.read(entry), entry.external_attr >> 16 & 0o777)
            for entry in archive.infolist()
            if not entry.filename.endswith("/")
        }


def answers(**more: Any) -> dict[str, Any]:
    """Return options that the accelerator accepts."""
    return {"projectName": "demo", "whom": "world", **more}


def field(name: str, value: str) -> tuple[str, str | None, bytes]:
    """Return a text part of a form."""
    return name, None, value.encode()


def file(name: str, content: bytes, file_name: str = "acc.tar.gz") -> tuple[str, str | None, bytes]:
    """Return a file part of a form."""
    return name, file_name, content


OPTIONS = field("options", json.dumps(answers()) + "\n")


@contextlib.contextmanager
def running(library: Library, host: str = "127.0.0.1") -> Iterator[Client]:
    """Serve a library on any port."""
    served = make_server(library, 0, host)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    try:
        yield Client(served.effective_port)
    finally:
        served.task_dispatcher.shutdown()
        # The loop may have closed the server already.
        with contextlib.suppress(OSError):
            served.trigger.pull_trigger(served.close)
        thread.join(5)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def make_local_files(folder: Path) -> Path:
    """Write a folder for ACC_LOCAL_FILES."""
    greeting = {"accelerator.yaml": ACCELERATOR, "README.md": "HELLO!\n", "mvnw": "#!/bin/sh\n", "src/a.txt": "a\n"}
    write(folder / "accelerators" / "greeting", greeting)
    (folder / "accelerators/greeting/mvnw").chmod(0o755)
    write(folder / "fragments" / "license", {"accelerator.yaml": FRAGMENT, "LICENSE": "(c) HOLDER\n"})
    return folder


def raw(port: int, *pieces: bytes) -> bytes:
    """Send bytes and return the whole answer."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        # The server may close the connection before the end of a refused request.
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
    return answer


def assert_refused(answer: bytes) -> None:
    """Expect JSON with status 4xx, or 501 for an unsupported feature of HTTP."""
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500 or status == 501, answer
    assert b"Traceback" not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == status
