"""Limits of sizes."""

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from accelerator_engine.server import (
    Library,
    create_app,
    limits,
)

from .client import HEAD, OPTIONS, Client, answers, assert_refused, field, file, packed, raw, running


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
def test_a_large_request(small: Client, size: int) -> None:
    reply = raw(small.port, HEAD + f"Content-Length: {size}\r\n\r\n".encode(), b" " * size)
    assert b" 413 " in reply.splitlines()[0]
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["status"] == 413


def test_a_request_that_announces_too_many_bytes_is_not_received(small: Client) -> None:
    reply = raw(small.port, HEAD + b"Content-Length: 200001\r\n\r\n")
    assert b" 413 " in reply.splitlines()[0]
    assert "100000 bytes" in json.loads(reply.partition(b"\r\n\r\n")[2])["detail"]


def test_large_headers(client: Client) -> None:
    # With more bytes the server would close the connection before the client reads the answer.
    reply = raw(client.port, (HEAD + b"X: ").ljust(65536, b"a"))
    assert b" 431 " in reply.splitlines()[0]
    assert_refused(reply)


def test_a_large_chunked_request(small: Client) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    reply = raw(small.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 2 + b"0\r\n\r\n")
    assert b" 413 " in reply.splitlines()[0]
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["status"] == 413


def test_a_large_field(small: Client) -> None:
    options = field("options", json.dumps(answers(x="x" * 10_001)))
    reply = small.generate_from_local(field("accelerator_name", "greeting"), options)
    assert reply.detail
    assert reply.status == 413


def test_many_parts(small: Client) -> None:
    names = [field("fragment_names", "license")] * 5
    assert small.generate_from_local(field("accelerator_name", "greeting"), OPTIONS).status == 200
    reply = small.generate_from_local(field("accelerator_name", "greeting"), *names, OPTIONS)
    assert reply.detail
    assert reply.status == 413


def test_a_large_unpacked_archive(small: Client) -> None:
    reply = small.generate_from_local(file("accelerator", packed({"zeros": b"\0" * 1_000_000})), OPTIONS)
    assert reply.detail
    assert reply.status == 413


def test_large_unpacked_archives_together(small: Client) -> None:
    half = packed({"zeros": b"\0" * 600_000})
    assert small.generate_from_local(file("accelerator", half), OPTIONS).status == 200
    reply = small.generate_from_local(file("accelerator", half), file("fragment_x", half), OPTIONS)
    assert reply.detail
    assert reply.status == 413


def _long_header(size: int) -> bytes:
    """Return an archive whose header announces a name of this length."""
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
