"""The requests for a project that the command sends."""

import io
import json
import tarfile
import threading
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from accelerator_engine.engine import generate
from accelerator_engine.server import (
    Library,
    app,
)

from .client import (
    ACCELERATOR,
    FRAGMENT,
    OPTIONS,
    PLAIN,
    Client,
    answers,
    field,
    file,
    packed,
    packed_entries,
    running,
    unpacked,
)


def test_generate_returns_a_zip_with_one_root_folder(client: Client) -> None:
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


def test_the_project_records_the_user_and_the_run(client: Client) -> None:
    run_id = str(uuid.uuid4())
    files = unpacked(client.generate("greeting", answers(), f"&username=DOMAIN\\me&id={run_id}").body)
    info = files["accelerator-info.yaml"][0].decode()
    assert f"id: {run_id}\n" in info
    assert "source: TanzuCLI\nusername: DOMAIN\\me\n" in info


def test_the_name_may_be_in_the_query_only(client: Client) -> None:
    body = json.dumps({"options": answers()}).encode()
    reply = client.send("POST", "/api/accelerators/zip?name=greeting", body, Content_Type="application/json")
    assert reply.status == 200


def test_the_default_project_name_is_the_accelerators(client: Client) -> None:
    reply = client.generate("greeting", {"whom": "x"})
    assert reply.headers["Content-Disposition"] == "attachment; filename=greeting.zip"


@pytest.mark.parametrize("name", ["größe", 'a"b', "x; filename=y", "%0d%0a", "🚀"])
def test_no_project_name_breaks_its_header(client: Client, name: str) -> None:
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
    # The sent fragment wins over the served one.
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


def test_an_archive_of_tar_itself_works_too(client: Client) -> None:
    folder, entry = tarfile.TarInfo("./"), tarfile.TarInfo("./src/a.txt")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    reply = client.generate_from_local(file("accelerator", packed_entries((folder, b""), (entry, b"a"))), OPTIONS)
    assert unpacked(reply.body)["src/a.txt"] == (b"a", 0o644)


def test_an_archive_is_named_by_its_file(client: Client) -> None:
    archive = packed({"accelerator.yaml": PLAIN, "a": ""})
    reply = client.generate_from_local(file("accelerator", archive, "java-rest.tar.gz"))
    assert reply.headers["Content-Disposition"] == "attachment; filename=java-rest.zip"


def test_about_shows_the_prefix_of_the_routes(client: Client) -> None:
    assert client.get("/api/about").status == 200


@pytest.mark.parametrize("path", ["invoked?type=download&name=greeting&source=TanzuCLI", "downloaded?name=greeting"])
def test_a_report_of_a_download_is_accepted(client: Client, path: str) -> None:
    assert client.send("POST", f"/api/accelerators/{path}").status == 204


def test_concurrent_requests_get_their_own_answers(client: Client) -> None:
    def ask(number: int) -> bytes:
        if number % 2:
            return unpacked(client.generate("greeting", answers(whom=f"n{number}")).body)["README.md"][0]
        archive = packed({"accelerator.yaml": ACCELERATOR, "README.md": "HELLO!\n", "big": b"x" * 1_000_000})
        options = field("options", json.dumps(answers(whom=f"n{number}")))
        return unpacked(client.generate_from_local(file("accelerator", archive), options).body)["README.md"][0]

    # Some requests wait, which is not logged.
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(ask, range(24))) == [f"Hello n{number}!\n".encode() for number in range(24)]


def test_eight_requests_run_at_once(local_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_here = threading.Barrier(8, timeout=5)

    def together(*arguments: Any, **more: Any) -> Any:
        all_here.wait()
        return generate(*arguments, **more)

    monkeypatch.setattr(app, "generate", together)
    with running(Library(local_files=local_files)) as client, ThreadPoolExecutor(8) as pool:
        assert [reply.status for reply in pool.map(lambda _: client.generate("greeting", answers()), range(8))] == [
            200
        ] * 8
