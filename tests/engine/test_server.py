"""The server, over real connections, asked as the `tanzu accelerator` command asks it."""

import contextlib
import gzip
import http.client
import io
import json
import logging
import random
import socket
import tarfile
import threading
import tracemalloc
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelerator_engine.engine import generate
from accelerator_engine.server import (
    InvalidLibrary,
    Library,
    app,
    create_app,
    http_server,
    library,
    limits,
    make_server,
    named_folders,
    serve,
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


# A client that does what the command does, written from what it sends and reads.


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
        """What the command would show of an error; the rest of its shape is checked on the way."""
        data = self.json
        assert set(data) == {"title", "status", "detail"}
        assert data["status"] == self.status
        assert data["title"].isidentifier()
        assert data["detail"]
        assert "\n" not in data["detail"]
        assert "Traceback" not in data["detail"]
        return str(data["detail"])


class Client:
    """Sends what the command sends."""

    def __init__(self, port: int) -> None:
        """Speak to a port of this machine."""
        self.port = port

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send one request; `Content_Type=…` is a header."""
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
        """Do what `generate` does."""
        body = json.dumps({"accelerator": name, "options": options}, sort_keys=True).encode()
        where = f"/api/accelerators/zip?name={quote(name)}&source=TanzuCLI{query}"
        return self.send("POST", where, body, **{"Content_Type": "application/json"} | headers)

    def generate_from_local(self, *parts: tuple[str, str | None, bytes], **headers: str) -> Reply:
        """Do what `generate-from-local` does: each part is a name, a file name or None, and the content."""
        boundary = uuid.uuid4().hex * 2
        body = b"".join(_part(boundary, *part) for part in parts) + f"--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return self.send("POST", "/api/accelerators/zip", body, **{"Content_Type": kind} | headers)


def _part(boundary: str, name: str, file: str | None, content: bytes) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
    head += "" if file is None else f'; filename="{file}"\r\nContent-Type: application/octet-stream'
    return f"{head}\r\n\r\n".encode() + content + b"\r\n"


def packed(files: Mapping[str, str | bytes], executable: Iterable[str] = ()) -> bytes:
    """Return a tar.gz archive as the command makes it: plain files only, in no order to rely on."""
    entries = []
    for path, content in files.items():
        entry = tarfile.TarInfo(path)
        entry.mode = 0o755 if path in executable else 0o644
        entries.append((entry, content.encode() if isinstance(content, str) else content))
    return packed_entries(*entries)


def packed_entries(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar.gz archive of these entries, whatever they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry, content in entries:
            entry.size = len(content) if entry.isreg() else entry.size
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1)


def unpacked(content: bytes) -> dict[str, tuple[bytes, int]]:
    """Return the files as the command writes them: without the first folder, and with their modes."""
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
    """Return a part that is a text."""
    return name, None, value.encode()


def file(name: str, content: bytes, file_name: str = "acc.tar.gz") -> tuple[str, str | None, bytes]:
    """Return a part that is a file."""
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
        # It may be closed already when the loop, woken by something else, was quicker than the bell.
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
    """Write a folder as ACC_LOCAL_FILES names one."""
    greeting = {"accelerator.yaml": ACCELERATOR, "README.md": "HELLO!\n", "mvnw": "#!/bin/sh\n", "src/a.txt": "a\n"}
    write(folder / "accelerators" / "greeting", greeting)
    (folder / "accelerators/greeting/mvnw").chmod(0o755)
    write(folder / "fragments" / "license", {"accelerator.yaml": FRAGMENT, "LICENSE": "(c) HOLDER\n"})
    return folder


@pytest.fixture(scope="module")
def local_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an accelerator and a fragment that no test changes."""
    return make_local_files(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def client(local_files: Path) -> Iterator[Client]:
    """A client of a server of this folder."""
    with running(Library(local_files=local_files)) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """What a user does wrong is told to the user; the log is for what the server does wrong."""
    yield
    loud = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert bool(loud) == ("fails_on_purpose" in request.fixturenames), loud


@pytest.fixture
def fails_on_purpose() -> None:
    """The test makes the server itself fail."""


# What the command relies on


def test_generate_hands_out_a_zip_with_one_root_folder(client: Client) -> None:
    reply = client.generate("greeting", answers(holder="me"), f"&username=me&id={uuid.UUID(int=7)}")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/zip"
    assert reply.headers["Content-Disposition"] == "attachment; filename=demo.zip"
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"demo"}
    files = unpacked(reply.body)
    assert files["README.md"] == (b"Hello world!\n", 0o644)
    assert files["mvnw"] == (b"#!/bin/sh\n", 0o755)
    assert files["LICENSE"] == (b"(c) me\n", 0o644)
    assert set(files) == {"README.md", "mvnw", "src/a.txt", "LICENSE", "accelerator-info.yaml", "accelerator-log.md"}


def test_generate_says_in_the_project_who_asked(client: Client) -> None:
    run_id = str(uuid.uuid4())
    files = unpacked(client.generate("greeting", answers(), f"&username=DOMAIN\\me&id={run_id}").body)
    info = files["accelerator-info.yaml"][0].decode()
    assert f"id: {run_id}\n" in info
    assert "source: TanzuCLI\nusername: DOMAIN\\me\n" in info


def test_the_name_in_the_query_is_enough(client: Client) -> None:
    body = json.dumps({"options": answers()}).encode()
    reply = client.send("POST", "/api/accelerators/zip?name=greeting", body, Content_Type="application/json")
    assert reply.status == 200


def test_the_project_is_named_after_the_accelerator_unless_told(client: Client) -> None:
    reply = client.generate("greeting", {"whom": "x"})
    assert reply.headers["Content-Disposition"] == "attachment; filename=greeting.zip"


@pytest.mark.parametrize("name", ["größe", 'a"b', "x; filename=y", "%0d%0a", "🚀"])
def test_no_project_name_leaves_its_header(client: Client, name: str) -> None:
    reply = client.generate("greeting", answers(projectName=name))
    assert reply.status == 200
    assert reply.headers.get_all("Content-Disposition") == [reply.headers["Content-Disposition"]]
    assert reply.headers["Content-Disposition"].startswith("attachment; filename")


def test_generate_from_local_with_everything_sent(client: Client) -> None:
    accelerator = packed({"accelerator.yaml": ACCELERATOR, "README.md": "HELLO?\n", "gradlew": "x"}, ["gradlew"])
    fragment = packed({"accelerator.yaml": FRAGMENT, "LICENSE": "sent by HOLDER\n"})
    parts = (file("accelerator", accelerator), file("fragment_license", fragment, "license.tar.gz"), OPTIONS)
    reply = client.generate_from_local(*parts)
    assert reply.status == 200
    files = unpacked(reply.body)
    assert files["README.md"] == (b"Hello world?\n", 0o644)
    assert files["gradlew"] == (b"x", 0o755)
    # The one that was sent goes before the one that is served.
    assert files["LICENSE"] == (b"sent by Nobody\n", 0o644)


def test_generate_from_local_with_a_registered_fragment(client: Client) -> None:
    accelerator = packed({"accelerator.yaml": ACCELERATOR, "README.md": "HELLO?\n"})
    reply = client.generate_from_local(file("accelerator", accelerator), field("fragment_names", "license"), OPTIONS)
    assert unpacked(reply.body)["LICENSE"] == (b"(c) Nobody\n", 0o644)


def test_generate_from_local_with_a_registered_accelerator(client: Client) -> None:
    fragment = packed({"accelerator.yaml": FRAGMENT, "LICENSE": "sent by HOLDER\n"})
    parts = (field("accelerator_name", "greeting"), file("fragment_license", fragment), OPTIONS)
    files = unpacked(client.generate_from_local(*parts).body)
    assert files["README.md"] == (b"Hello world!\n", 0o644)
    assert files["LICENSE"] == (b"sent by Nobody\n", 0o644)


def test_an_archive_of_tar_itself_is_as_good(client: Client) -> None:
    folder, entry = tarfile.TarInfo("./"), tarfile.TarInfo("./src/a.txt")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    reply = client.generate_from_local(file("accelerator", packed_entries((folder, b""), (entry, b"a"))), OPTIONS)
    assert unpacked(reply.body)["src/a.txt"] == (b"a", 0o644)


def test_an_archive_is_named_by_its_file(client: Client) -> None:
    archive = packed({"accelerator.yaml": PLAIN, "a": ""})
    reply = client.generate_from_local(file("accelerator", archive, "java-rest.tar.gz"))
    assert reply.headers["Content-Disposition"] == "attachment; filename=java-rest.zip"


def test_about_says_which_prefix_the_routes_have(client: Client) -> None:
    assert client.get("/api/about").status == 200


@pytest.mark.parametrize("path", ["invoked?type=download&name=greeting&source=TanzuCLI", "downloaded?name=greeting"])
def test_a_report_of_what_was_saved_is_accepted(client: Client, path: str) -> None:
    assert client.send("POST", f"/api/accelerators/{path}").status == 204


# The list, and the options


def test_the_list(client: Client) -> None:
    entry = {
        "name": "greeting",
        "displayName": "A greeting",
        "description": "Says something to somebody",
        "iconUrl": "https://example.com/icon.png",
        "tags": ["java", "17"],
        "ready": True,
        "archiveReady": True,
    }
    reply = client.get("/api/accelerators")
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == {"_embedded": {"accelerators": [entry]}}


def test_the_options(client: Client) -> None:
    options = {
        option["name"]: option for option in client.get("/api/accelerators/options?name=greeting").json["options"]
    }
    assert list(options) == ["greeting", "whom", "loud", "size", "names", "holder"]
    assert options["greeting"] == {
        "name": "greeting", "label": "The greeting", "dataType": "string", "defaultValue": "Hello",
        "inputType": "text", "required": False, "display": True, "validationRegex": "^[A-Z]",
    }  # fmt: skip
    assert options["whom"]["defaultValue"] is None
    assert options["whom"]["required"] is True
    assert options["loud"]["defaultValue"] is False
    assert options["size"]["defaultValue"] == 3
    # The command takes a choice that is no text for the end of the world.
    assert options["size"]["choices"] == [{"text": "small", "value": "3"}, {"text": "5", "value": "5"}]
    assert options["names"]["dataType"] == ["string"]
    assert options["names"]["dependsOn"] == {"name": "loud", "value": True}


def _types_that_go_reads(entry: Mapping[str, Any]) -> bool:
    texts = all(isinstance(entry.get(key, ""), str) for key in ("name", "displayName", "description", "iconUrl"))
    tags = all(isinstance(tag, str) for tag in entry.get("tags", []))
    return texts and tags and isinstance(entry["ready"], bool)


def test_odd_values_leave_the_list_readable(tmp_path: Path) -> None:
    odd = "accelerator: {displayName: 12, description: [a], iconUrl: true, tags: x, options: %s}\n"
    options = "[{name: n, dataType: number, defaultValue: .inf}, {name: b, defaultValue: 2024-01-01, choices: []}]"
    folder = write(tmp_path / "odd", {"accelerator.yaml": odd % options})
    with running(Library({"odd": folder})) as client:
        (entry,) = client.get("/api/accelerators").json["_embedded"]["accelerators"]
        assert _types_that_go_reads(entry)
        assert (entry["displayName"], entry["tags"]) == ("12", ["x"])
        reply = client.get("/api/accelerators/options?name=odd")
        assert b"Infinity" not in reply.body
        assert [option["defaultValue"] for option in reply.json["options"]] == ["inf", "2024-01-01"]


def test_a_broken_accelerator_is_listed_as_such_and_breaks_no_other(tmp_path: Path) -> None:
    folder = make_local_files(tmp_path)
    write(folder / "accelerators/broken", {"accelerator.yaml": "accelerator: {}\nengine: {type: Nonsense}\n"})
    write(folder / "accelerators/not-yaml", {"accelerator.yaml": "a: [\n"})
    write(folder / "accelerators/lonely", {"accelerator.yaml": "accelerator: {imports: [{name: nowhere}]}\n"})
    with running(Library(local_files=folder)) as client:
        entries = client.get("/api/accelerators").json["_embedded"]["accelerators"]
        assert all(_types_that_go_reads(entry) for entry in entries)
        assert {entry["name"]: entry["ready"] for entry in entries} == {
            "broken": False, "greeting": True, "lonely": False, "not-yaml": False,
        }  # fmt: skip
        messages = {entry["name"]: entry.get("readyMessage", "") for entry in entries}
        assert messages["broken"].startswith("accelerator.yaml:2: ")
        assert "'nowhere'" in messages["lonely"]
        # The only message that `get` prints.
        assert {entry.get("archiveMessage", "") for entry in entries} == set(messages.values())
        assert client.get("/api/accelerators/options?name=broken").detail == messages["broken"]
        assert client.generate("broken", {}).detail == messages["broken"]
        assert client.generate("greeting", answers()).status == 200


def test_an_accelerator_that_makes_the_server_fail_breaks_no_other(
    local_files: Path, monkeypatch: pytest.MonkeyPatch, fails_on_purpose: None
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(library, "load", fail)
    with running(Library(local_files=local_files)) as client:
        (entry,) = client.get("/api/accelerators").json["_embedded"]["accelerators"]
        assert entry["ready"] is False
        assert "secret" not in entry["readyMessage"]


# What is served


def test_folders_are_read_anew(tmp_path: Path) -> None:
    folder = make_local_files(tmp_path)
    with running(Library(local_files=folder)) as client:
        assert unpacked(client.generate("greeting", answers()).body)["README.md"][0] == b"Hello world!\n"
        write(folder / "accelerators/greeting", {"README.md": "HELLO, once more\n"})
        assert unpacked(client.generate("greeting", answers()).body)["README.md"][0] == b"Hello world, once more\n"
        write(folder / "fragments/license", {"LICENSE": "edited\n"})
        assert unpacked(client.generate("greeting", answers()).body)["LICENSE"][0] == b"edited\n"
        assert client.generate("new", {}).status == 404
        write(folder / "accelerators/new", {"accelerator.yaml": PLAIN})
        assert client.generate("new", {}).status == 200
        (folder / "accelerators/new/accelerator.yaml").unlink()
        (folder / "accelerators/new").rmdir()
        assert client.generate("new", {}).status == 404


def test_named_folders_go_before_local_files_and_hidden_ones_are_not_served(tmp_path: Path, local_files: Path) -> None:
    mine = write(tmp_path / "mine", {"accelerator.yaml": PLAIN, "mine.txt": ""})
    local = make_local_files(tmp_path / "local")
    write(local / "accelerators/.idea", {"x": ""})
    write(local / "accelerators", {"README.md": ""})
    with running(Library({"greeting": mine, "b": mine}, {}, local)) as client:
        names = [entry["name"] for entry in client.get("/api/accelerators").json["_embedded"]["accelerators"]]
        assert names == ["b", "greeting"]
        assert "mine.txt" in unpacked(client.generate("greeting", {"projectName": "p"}).body)


def test_local_files_may_be_fragments_alone(tmp_path: Path) -> None:
    (tmp_path / "fragments").mkdir()
    with running(Library(local_files=tmp_path)) as client:
        assert client.get("/api/accelerators").json == {"_embedded": {"accelerators": []}}


def test_a_folder_that_went_away_is_no_secret_and_no_failure(tmp_path: Path) -> None:
    folder = write(tmp_path / "gone", {"accelerator.yaml": PLAIN})
    with running(Library({"gone": folder})) as client:
        (folder / "accelerator.yaml").unlink()
        folder.rmdir()
        reply = client.generate("gone", {})
        assert (reply.status, reply.detail) == (400, "the files of 'gone' cannot be read: No such file or directory")
        (entry,) = client.get("/api/accelerators").json["_embedded"]["accelerators"]
        assert entry["ready"] is False


def test_a_file_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "acc", {"accelerator.yaml": PLAIN})
    with contextlib.suppress(OSError), open(bytes(folder) + b"/\xff.txt", "wb"):  # noqa: PTH123, a path has no bytes
        pass
    with running(Library({"acc": folder})) as client:
        assert client.generate("acc", {}).status == 400


def test_named_folders(tmp_path: Path) -> None:
    sign = tmp_path / "a=b"
    sign.mkdir()
    assert named_folders([f"x={tmp_path}", str(sign)]) == {"x": tmp_path, "a=b": sign}


@pytest.mark.parametrize("arguments", [["=x"], ["x="], ["x=a", "x=b"], [""], ["/"]])
def test_named_folders_that_are_not_named(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    with pytest.raises(InvalidLibrary):
        named_folders(arguments)


def test_a_library_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidLibrary, match="not a folder"):
        Library({"x": tmp_path / "x"})
    with pytest.raises(InvalidLibrary, match="not a folder"):
        Library({}, {"x": tmp_path / "x"})
    with pytest.raises(InvalidLibrary, match="neither"):
        Library(local_files=tmp_path)


# Mistakes


def test_missing_options_have_the_words_of_the_real_engine(client: Client) -> None:
    reply = client.generate("greeting", {"projectName": "demo"})
    assert reply.json == {
        "title": "MissingOptions",
        "status": 400,
        "detail": "Invalid options provided. Expected but not present: [whom]",
    }


MISTAKES = {
    "unknown": (404, "NotFound", "nothing", {}),
    "path": (404, "NotFound", "../fragments/license", {}),
    "absolute": (404, "NotFound", "/etc", {}),
    "wrong type": (400, "InvalidOptions", "greeting", answers(loud="yes")),
    "pattern": (400, "InvalidOptions", "greeting", answers(greeting="hello")),
    "project name": (400, "InvalidOptions", "greeting", answers(projectName="../up")),
    "project number": (400, "InvalidOptions", "greeting", answers(projectName=1)),
    "line break": (400, "InvalidOptions", "greeting", answers(projectName="a\r\nX-Header: b")),
    "no name": (400, "BadRequest", "", {}),
    "list": (400, "BadRequest", "greeting", []),
    "text": (400, "BadRequest", "greeting", "x"),
    "surrogate": (400, "BadRequest", "greeting", answers(whom="\ud800")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_options(client: Client, mistake: str) -> None:
    status, title, name, options = MISTAKES[mistake]
    reply = client.generate(name, options)
    assert reply.detail
    assert (reply.status, reply.json["title"]) == (status, title)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"accelerator": 1}', b'{"accelerator": {"a": 1}}',
        b'{"accelerator":"greeting","options":{"whom":NaN}}', b'{"accelerator":"greeting","options":{"x":1e999}}',
        b'{"accelerator":"greeting","options":{"x":' + b"9" * 5000 + b"}}",
        b'{"accelerator":"greeting","options":{"x":' + b"[" * 60 + b"]" * 60 + b"}}",
        b"[" * 100_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_bodies_that_are_no_request(client: Client, body: bytes) -> None:
    reply = client.send("POST", "/api/accelerators/zip", body, Content_Type="application/json")
    assert reply.detail
    assert (reply.status, reply.json["title"]) == (400, "BadRequest")


FORMS: dict[str, tuple[int, list[tuple[str, str | None, bytes]]]] = {
    "nothing": (400, []),
    "options only": (400, [OPTIONS]),
    "both": (400, [file("accelerator", packed({"a": ""})), field("accelerator_name", "greeting"), OPTIONS]),
    "two accelerators": (400, [file("accelerator", packed({"a": ""})), file("accelerator", packed({"b": ""}))]),
    "two names": (400, [field("accelerator_name", "greeting"), field("accelerator_name", "greeting"), OPTIONS]),
    "two options": (400, [field("accelerator_name", "greeting"), OPTIONS, OPTIONS]),
    "accelerator as text": (400, [field("accelerator", "greeting"), OPTIONS]),
    "fragment as text": (400, [field("accelerator_name", "greeting"), field("fragment_x", "x"), OPTIONS]),
    "options as file": (400, [field("accelerator_name", "greeting"), file("options", b"{}")]),
    "options no object": (400, [field("accelerator_name", "greeting"), field("options", "[]")]),
    "options no JSON": (400, [field("accelerator_name", "greeting"), field("options", "whom=x")]),
    "unknown accelerator": (404, [field("accelerator_name", "nothing"), OPTIONS]),
    "unknown fragment": (404, [field("accelerator_name", "greeting"), field("fragment_names", "nothing"), OPTIONS]),
    "fragment path": (404, [field("accelerator_name", "greeting"), field("fragment_names", "../x"), OPTIONS]),
    "missing import": (400, [file("accelerator", packed({"accelerator.yaml": ACCELERATOR.replace("license", "l")}))]),
    "bad manifest": (400, [file("accelerator", packed({"accelerator.yaml": "a: ["})), OPTIONS]),
    "bad project name": (400, [file("accelerator", packed({"a": ""}), "a/../../b.tar.gz")]),
    "failing engine": (400, [file("accelerator", packed({"accelerator.yaml": "engine: {condition: '#x.y'}"}))]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_no_request(client: Client, form: str) -> None:
    status, parts = FORMS[form]
    reply = client.generate_from_local(*parts)
    assert reply.detail
    assert reply.status == status


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=é", "multipart/form-data; boundary=x"]
)
def test_a_form_without_its_boundary(client: Client, kind: str) -> None:
    sent = kind.encode().decode("latin-1")
    assert client.generate_from_local(field("accelerator_name", "greeting"), OPTIONS, Content_Type=sent).detail


def test_a_form_that_is_cut_off(client: Client) -> None:
    body = _part("x", "accelerator_name", None, b"greeting") + _part("x", "options", None, OPTIONS[2])[:-4]
    kind = "multipart/form-data; boundary=x"
    assert client.send("POST", "/api/accelerators/zip", body, Content_Type=kind).detail


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/api", 404), ("GET", "/api/accelerators/", 404), ("GET", "/api//accelerators", 404),
        ("GET", "/api/accelerators/zip", 405), ("DELETE", "/api/accelerators", 405), ("POST", "/api/about", 405),
        ("GET", "/api/accelerators/options", 400), ("GET", "/api/accelerators/options?name=", 400),
        ("GET", "/api/accelerators/options?name=..%2F..%2Fetc", 404), ("GET", "/api/../../etc/passwd", 404),
        ("GET", "/%ff%00", 404), ("GET", "/static/x", 404),
    ],
)  # fmt: skip
def test_addresses_that_are_none(client: Client, method: str, path: str, status: int) -> None:
    reply = client.send(method, path)
    assert reply.detail
    assert reply.status == status


def test_a_refused_method_names_those_that_are_not(client: Client) -> None:
    assert "POST" in client.get("/api/accelerators/zip").headers["Allow"]


def test_a_parameter_that_is_too_long(client: Client) -> None:
    assert client.generate("greeting", answers(), f"&username={'x' * 300}").status == 400


def test_a_failure_of_the_server_is_logged_and_not_told(
    local_files: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails_on_purpose: None
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(app, "generate", fail)
    with running(Library(local_files=local_files)) as client:
        reply = client.generate("greeting", answers())
    assert (reply.status, reply.detail) == (500, "the server failed; see its log")
    assert "a secret" in caplog.text


# Who may ask


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:1", "[::1]:8080", "LOCALHOST:8080"])
def test_the_server_answers_to_its_names(client: Client, host: str) -> None:
    assert client.get("/api/about", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "localhost:80:80", "evil@localhost", "", "localhost.",
     "127.0.0.1.nip.io", "[::2]", "[::1", "localhost, evil.example", "127.0.0.2", "localhost:x"],
)  # fmt: skip
def test_the_server_answers_to_no_other_name(client: Client, host: str) -> None:
    reply = client.get("/api/accelerators", Host=host)
    assert reply.detail
    assert reply.status == 403


def test_a_request_without_a_host_is_refused(client: Client) -> None:
    assert b" 403 " in raw(client.port, b"GET /api/accelerators HTTP/1.0\r\n\r\n").splitlines()[0]


@pytest.mark.parametrize(
    ("host", "status"), [("box.example", 200), ("BOX.example:80", 200), ("localhost", 200), ("x", 403)]
)
def test_a_host_that_was_asked_for(local_files: Path, host: str, status: int) -> None:
    app = create_app(Library(local_files=local_files), "box.example")
    assert app.test_client().get("/api/about", headers={"Host": host}).status_code == status


def test_all_hosts_when_they_were_asked_for(local_files: Path) -> None:
    with running(Library(local_files=local_files), "0.0.0.0") as client:  # noqa: S104
        assert client.get("/api/about", Host="box.example").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://localhost"},
        {"Origin": "http://localhost:1"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    ],
)  # fmt: skip
def test_pages_of_other_origins_are_refused(client: Client, headers: dict[str, str]) -> None:
    # A form is what any page may send.
    reply = client.generate_from_local(field("accelerator_name", "greeting"), OPTIONS, Host="localhost", **headers)
    assert reply.detail
    assert reply.status == 403
    assert client.get("/api/accelerators", Host="localhost", **headers).status == 403


def test_a_page_of_the_same_origin_is_not(client: Client) -> None:
    origin = {"Host": "localhost:9", "Origin": "http://localhost:9", "Sec_Fetch_Site": "same-origin"}
    assert client.generate("greeting", answers(), **origin).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/json", "application/jsonx"]
)
def test_json_under_another_name_is_refused(client: Client, kind: str) -> None:
    reply = client.generate("greeting", answers(), Content_Type=kind)
    assert reply.detail
    assert reply.status == 415


def test_no_answer_opens_the_server_to_other_origins(client: Client) -> None:
    for reply in (client.get("/api/accelerators"), client.generate("greeting", answers()), client.get("/nothing")):
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
    reply = client.send("OPTIONS", "/api/accelerators/zip", Access_Control_Request_Method="POST")
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_serve_tells_where_and_listens_to_this_machine_alone(
    local_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    made: list[Any] = []

    def make(library: Library, port: int, host: str) -> Any:
        made.append(make_server(library, port, host))
        made[0].run = lambda: None
        return made[0]

    monkeypatch.setattr(http_server, "make_server", make)
    serve(Library(local_files=local_files), 0, started=told.append)
    assert told == [f"http://localhost:{made[0].effective_port}"]
    assert made[0].socket.getsockname()[0] == "127.0.0.1"
    made[0].close()
    made[0].task_dispatcher.shutdown()


def test_a_port_that_is_taken(local_files: Path, client: Client) -> None:
    with pytest.raises(OSError, match="in use"):
        make_server(Library(local_files=local_files), client.port)


# How much


@pytest.fixture
def small(local_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a server with small limits."""
    monkeypatch.setattr(limits, "MOST_BYTES", 100_000)
    monkeypatch.setattr(limits, "MOST_UNPACKED", 1_000_000)
    monkeypatch.setattr(limits, "MOST_FIELD", 10_000)
    monkeypatch.setattr(limits, "MOST_PARTS", 5)
    with running(Library(local_files=local_files)) as client:
        yield client


@pytest.mark.parametrize("size", [100_001, 199_000])
def test_a_request_that_is_too_large(small: Client, size: int) -> None:
    reply = raw(small.port, HEAD + f"Content-Length: {size}\r\n\r\n".encode(), b" " * size)
    assert b" 413 " in reply.splitlines()[0]
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["status"] == 413


def test_a_request_that_says_it_is_far_too_large_is_not_received(small: Client) -> None:
    reply = raw(small.port, HEAD + b"Content-Length: 200001\r\n\r\n")
    assert b" 413 " in reply.splitlines()[0]
    assert "100000 bytes" in json.loads(reply.partition(b"\r\n\r\n")[2])["detail"]


def test_headers_that_are_too_large(client: Client) -> None:
    # No byte more than the server reads: it would cut the connection, and the answer with it.
    reply = raw(client.port, (HEAD + b"X: ").ljust(65536, b"a"))
    assert b" 431 " in reply.splitlines()[0]
    assert_refused(reply)


def test_a_request_in_pieces_that_is_too_large(small: Client) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    reply = raw(small.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 2 + b"0\r\n\r\n")
    assert b" 413 " in reply.splitlines()[0]
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["status"] == 413


def test_a_field_that_is_too_large(small: Client) -> None:
    options = field("options", json.dumps(answers(x="x" * 10_001)))
    reply = small.generate_from_local(field("accelerator_name", "greeting"), options)
    assert reply.detail
    assert reply.status == 413


def test_more_parts_than_anybody_needs(small: Client) -> None:
    names = [field("fragment_names", "license")] * 5
    assert small.generate_from_local(field("accelerator_name", "greeting"), OPTIONS).status == 200
    reply = small.generate_from_local(field("accelerator_name", "greeting"), *names, OPTIONS)
    assert reply.detail
    assert reply.status == 413


def test_an_archive_that_unpacks_to_too_much(small: Client) -> None:
    reply = small.generate_from_local(file("accelerator", packed({"zeros": b"\0" * 1_000_000})), OPTIONS)
    assert reply.detail
    assert reply.status == 413


def test_archives_that_unpack_to_too_much_together(small: Client) -> None:
    half = packed({"zeros": b"\0" * 600_000})
    assert small.generate_from_local(file("accelerator", half), OPTIONS).status == 200
    reply = small.generate_from_local(file("accelerator", half), file("fragment_x", half), OPTIONS)
    assert reply.detail
    assert reply.status == 413


def _long_header(size: int) -> bytes:
    """Return an archive whose header says that a name of this length follows."""
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, size
    packing = gzip.GzipFile(fileobj=(buffer := io.BytesIO()), mode="wb", compresslevel=1)
    packing.write(entry.tobuf(tarfile.GNU_FORMAT))
    for _ in range(size // 1_000_000):
        packing.write(b"a" * 1_000_000)
    packing.close()
    return buffer.getvalue()


def _twice(size: int) -> bytes:
    return gzip.compress(packed({"zeros": b"\0" * size}), 1)


@pytest.mark.parametrize(
    "bomb",
    [gzip.compress(b"\0" * 60_000_000, 1), _long_header(60_000_000), _twice(60_000_000)],
    ids=["zeros", "long header", "packed twice"],
)
def test_a_bomb_is_never_unpacked(local_files: Path, monkeypatch: pytest.MonkeyPatch, bomb: bytes) -> None:
    monkeypatch.setattr(limits, "MOST_UNPACKED", 1_000_000)
    app = create_app(Library(local_files=local_files)).test_client()
    data = {"accelerator": (io.BytesIO(bomb), "a.tar.gz")}
    tracemalloc.start()
    reply = app.post("/api/accelerators/zip", data=data, headers={"Host": "localhost"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.status_code in (400, 413)
    assert peak < 12_000_000


# Hostile archives


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b"content" if kind == tarfile.REGTYPE else b""


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", "..", "a/..", "//x", "a/b/../../../c"])
def test_paths_that_leave_the_archive(client: Client, name: str) -> None:
    archive = packed_entries(entry("accelerator.yaml"), entry(name))
    for parts in ([file("accelerator", archive)], [field("accelerator_name", "greeting"), file("fragment_x", archive)]):
        reply = client.generate_from_local(*parts, OPTIONS)
        assert reply.detail
        assert (reply.status, reply.json["title"]) == (400, "InvalidArchive")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["link", "hard link", "character device", "block device", "pipe"],
)
def test_nothing_but_files_is_taken_from_an_archive(client: Client, kind: bytes) -> None:
    archive = packed_entries(entry("plain"), entry("odd", kind, "/etc/passwd"), entry("odd/inside"))
    reply = client.generate_from_local(file("accelerator", archive), OPTIONS)
    assert set(unpacked(reply.body)) == {"plain", "odd/inside", "accelerator-log.md"}


@pytest.mark.parametrize(
    "archive",
    [
        b"", b"x", b"PK\3\4", packed({"a": "a"})[:-20], packed({"a": "a"}) + b"more", packed({"a": "a"}) * 2,
        gzip.compress(b""), gzip.compress(b"text" * 500), gzip.compress(packed({"a": "a"})),
        packed_entries(entry("a"), entry("a")), packed_entries(entry("a"), entry("a/b")),
    ],
    ids=["empty", "short", "zip", "cut", "more", "two", "no tar", "packed text", "packed twice", "same", "both"],
)  # fmt: skip
def test_archives_that_are_none(client: Client, archive: bytes) -> None:
    reply = client.generate_from_local(file("accelerator", archive), OPTIONS)
    assert reply.detail
    assert (reply.status, reply.json["title"]) == (400, "InvalidArchive")


def test_a_name_in_an_archive_that_is_no_text(client: Client) -> None:
    info = tarfile.TarInfo("\udcff.txt")
    plain = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + b"\0" * 1024
    reply = client.generate_from_local(file("accelerator", gzip.compress(plain)), OPTIONS)
    assert reply.detail
    assert reply.status == 400


def test_modes_that_no_file_should_have(client: Client) -> None:
    info, content = entry("tool")
    info.mode = 0o7777
    reply = client.generate_from_local(file("accelerator", packed_entries((info, content))), OPTIONS)
    assert unpacked(reply.body)["tool"][1] == 0o777


# All at once, and anything at all


def test_requests_at_once_get_each_its_own_answer(client: Client) -> None:
    def ask(number: int) -> bytes:
        if number % 2:
            return unpacked(client.generate("greeting", answers(whom=f"n{number}")).body)["README.md"][0]
        archive = packed({"accelerator.yaml": ACCELERATOR, "README.md": "HELLO!\n", "big": b"x" * 1_000_000})
        options = field("options", json.dumps(answers(whom=f"n{number}")))
        return unpacked(client.generate_from_local(file("accelerator", archive), options).body)["README.md"][0]

    # Some have to wait, and that is nothing to log.
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(ask, range(24))) == [f"Hello n{number}!\n".encode() for number in range(24)]


def test_eight_requests_are_worked_on_at_once(local_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_here = threading.Barrier(8, timeout=5)

    def together(*arguments: Any, **more: Any) -> Any:
        all_here.wait()
        return generate(*arguments, **more)

    monkeypatch.setattr(app, "generate", together)
    with running(Library(local_files=local_files)) as client, ThreadPoolExecutor(8) as pool:
        assert [reply.status for reply in pool.map(lambda _: client.generate("greeting", answers()), range(8))] == [
            200
        ] * 8


def raw(port: int, *pieces: bytes) -> bytes:
    """Send bytes, and return all that comes back."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        # Who is refused early may be cut off while it still sends.
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
    return answer


def assert_refused(answer: bytes) -> None:
    """Expect JSON and 4xx, or 501 for what HTTP has and this server has not."""
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500 or status == 501, answer
    assert b"Traceback" not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == status


FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@FUZZ
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x", "x"]))
def test_any_body(client: Client, body: bytes, kind: str) -> None:
    reply = client.send("POST", "/api/accelerators/zip", body, Content_Type=kind)
    assert reply.detail
    assert 400 <= reply.status < 500


@FUZZ
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    key=st.sampled_from(
        ["projectName", "greeting", "whom", "loud", "size", "names", "holder", "artifactId", "x", "files"]
    ),
)
def test_any_option(client: Client, data: Any, key: str) -> None:
    reply = client.generate("greeting", answers() | {key: data})
    assert reply.status == 200 or (reply.status == 400 and reply.detail)


@FUZZ
@given(
    name=st.sampled_from(
        ["Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Expect", "Origin", "Accept", "X"]
    ),
    value=st.binary(max_size=40) | st.sampled_from([b"-1", b"9" * 5000, b"1e9", b"chunked, gzip", b"\xc3\xa9"]),
)
def test_any_header(client: Client, name: str, value: bytes) -> None:
    answer = raw(client.port, HEAD + name.encode() + b": " + value + b"\r\n\r\n{")
    if answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    # Nothing is answered while the rest of a body is awaited.
    if answer:
        assert_refused(answer)


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: " + b"9" * 5000, HEAD + b"Content-Length: -1", HEAD + b"Content-Length: 1e9",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6", HEAD + b"Content-Length: " + b"9" * 4000,
        HEAD + b"Transfer-Encoding: gzip", HEAD + b"no header",
        b"GET http://[ HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /a b HTTP/1.1", b"GET", b"\x16\x03\x01",
    ],
)  # fmt: skip
def test_what_is_no_http(client: Client, request_: bytes) -> None:
    assert_refused(raw(client.port, request_ + b"\r\n\r\n"))


@FUZZ
@given(line=st.binary(max_size=60))
def test_any_first_line(client: Client, line: bytes) -> None:
    answer = raw(client.port, b"GET " + line + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
    if answer:
        assert_refused(answer)


def test_damaged_archives(client: Client) -> None:
    chance = random.Random(1)  # noqa: S311
    good = gzip.decompress(packed({"accelerator.yaml": ACCELERATOR, "README.md": "HELLO!\n", "a/b/c": "c" * 2000}))
    for _ in range(60):
        damaged = bytearray(good)
        for _ in range(chance.choice([1, 5, 50])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        content = gzip.compress(bytes(damaged), 1)
        if chance.random() < 0.3:
            content = content[: chance.randrange(len(content))]
        reply = client.generate_from_local(file("accelerator", content), OPTIONS)
        assert reply.status == 200 or (reply.status == 400 and reply.detail)
