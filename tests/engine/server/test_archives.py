"""Hostile and damaged archives."""

import gzip
import random
import tarfile

import pytest

from .client import ACCELERATOR, OPTIONS, Client, field, file, packed, packed_entries, unpacked


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
def test_only_plain_files_of_an_archive_are_read(client: Client, kind: bytes) -> None:
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
def test_invalid_archives(client: Client, archive: bytes) -> None:
    reply = client.generate_from_local(file("accelerator", archive), OPTIONS)
    assert reply.detail
    assert (reply.status, reply.json["title"]) == (400, "InvalidArchive")


def test_a_name_in_an_archive_that_is_not_text(client: Client) -> None:
    info = tarfile.TarInfo("\udcff.txt")
    plain = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + b"\0" * 1024
    reply = client.generate_from_local(file("accelerator", gzip.compress(plain)), OPTIONS)
    assert reply.detail
    assert reply.status == 400


def test_unusual_modes(client: Client) -> None:
    info, content = entry("tool")
    info.mode = 0o7777
    reply = client.generate_from_local(file("accelerator", packed_entries((info, content))), OPTIONS)
    assert unpacked(reply.body)["tool"][1] == 0o777


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
