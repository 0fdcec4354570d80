"""Trees of files in folders and archives."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelerator_engine import tree
from accelerator_engine.tree import (
    InvalidTree,
    Resource,
    normal_path,
    placed,
    read_folder,
    read_tar,
    read_zip,
    write_folder,
    zipped,
)

from .running import sentence

NAMES = st.text(st.sampled_from("abcé日 .-_~\\'\"$"), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
MODES = st.sampled_from([0o644, 0o755, 0o600, 0o444, 0o777, 0o400, 0o500])


def fits(paths: list[str]) -> bool:
    """Return whether no path is a folder of another."""
    return not any(other.startswith(f"{path}/") for path in paths for other in paths)


TREES = (
    st.dictionaries(PATHS, st.tuples(st.binary(max_size=30), MODES), max_size=6)
    .filter(lambda files: fits(list(files)))
    .map(lambda files: [Resource(path, content, mode) for path, (content, mode) in files.items()])
)


def by_path(resources: list[Resource]) -> dict[str, tuple[bytes, int]]:
    return {resource.path: (resource.content, resource.mode) for resource in resources}


def refusal(content: bytes, read: object = read_zip) -> str:
    assert callable(read)
    with pytest.raises(InvalidTree) as raised:
        read(content)
    return sentence(raised.value)


# Paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a", "a"), ("a/b", "a/b"), ("a//b", "a/b"), ("./a", "a"), ("a/./b", "a/b"), ("a/", "a"), ("a b/..c", "a b/..c")],
)
def test_a_path_is_normalized(path: str, expected: str) -> None:
    assert normal_path(path) == expected


@pytest.mark.parametrize("path", ["", ".", "/", "/a", "..", "../a", "a/..", "a/../b", "a\0b", "\ud800", "//a", "./"])
def test_a_path_outside_the_tree_is_refused(path: str) -> None:
    with pytest.raises(InvalidTree):
        normal_path(path)


@pytest.mark.parametrize("paths", [["a", "a"], ["a/b", "a//b"], ["a", "a/b"], ["a/b/c", "a"], ["a/b/c/d", "a/b"]])
def test_a_path_belongs_to_one_file(paths: list[str]) -> None:
    with pytest.raises(InvalidTree, match="'a"):
        placed([Resource(path, b"") for path in paths])


# Folders


@settings(max_examples=40)
@given(files=TREES)
def test_a_folder_round_trip(tmp_path_factory: pytest.TempPathFactory, files: list[Resource]) -> None:
    folder = tmp_path_factory.mktemp("tree")
    write_folder(files, folder)
    assert by_path(read_folder(folder)) == by_path(files)


def test_the_umask_does_not_change_permission_bits(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_folder([Resource("a/b", b"", 0o755)], tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_a_folder_is_sorted_and_dot_files_are_files(tmp_path: Path) -> None:
    write_folder([Resource(path, b"") for path in (".x/y", "b", ".a", "c/d", "Z")], tmp_path)
    assert [file.path for file in read_folder(tmp_path)] == [".a", ".x/y", "Z", "b", "c/d"]


def test_links_git_and_special_files_are_left_out(tmp_path: Path) -> None:
    write_folder([Resource(path, b"x") for path in ("a", "d/e", ".git/config", "d/.git/config", ".github/x")], tmp_path)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "linked folder").symlink_to("d")
    (tmp_path / "d" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    assert [file.path for file in read_folder(tmp_path)] == [".github/x", "a", "d/e"]


GITIGNORES = {
    "names": {".gitignore": "*.log\nbuild/\n"},
    "anchored": {".gitignore": "/a.log\n/x/b\n"},
    "brought back": {".gitignore": "*.log\n!keep.log\n"},
    "not brought back below an ignored folder": {".gitignore": "build/\n!build/keep.log\n"},
    "brought back below a folder's contents": {".gitignore": "build/*\n!build/keep.log\n"},
    "deeper": {".gitignore": "*.log\n", "x/.gitignore": "!*.log\n"},
    "deeper again": {"x/.gitignore": "*\n!.gitignore\n!build/\n", "x/build/.gitignore": "!keep.log\n"},
    "anchored deeper": {"x/.gitignore": "/a.log\nbuild/keep.log\n"},
    "everything": {".gitignore": "*\n"},
    "everything but": {".gitignore": "*\n!.gitignore\n!*/\n!x/**\n"},
    "stars": {".gitignore": "**/build/**\nx/**/a.log\n"},
    "comments and blanks": {".gitignore": "# *.log\n\n   \n\\#hash\ntrailing.log   \n"},
    "sets": {".gitignore": "[ab].log\n[!k]eep.log\n"},
    "windows line ends": {".gitignore": "*.log\r\nbuild/\r\n"},
    "itself": {".gitignore": ".gitignore\n"},
    "a folder's name with a file of that name": {".gitignore": "b/\n"},
    "byte order mark": {".gitignore": "\ufeffa.log\n"},
    "separators": {".gitignore": "a\u2028b\nkeep.log\n"},
    "not text": {".gitignore": b"\xff\xfe\n*.log\n"},
}
FILES = [
    "a.log", "b", "keep.log", "build/keep.log", "build/x", "x/a.log", "x/b", "x/build/keep.log", "x/build/y/a.log",
    "x/keep.log", "y/b/c", "#hash", "trailing.log", "x/z/a.log",
]  # fmt: skip


@pytest.mark.parametrize("ignores", GITIGNORES.values(), ids=GITIGNORES)
def test_gitignore_excludes_the_same_files_as_git(tmp_path: Path, ignores: dict[str, str | bytes]) -> None:
    encoded = {path: text.encode() if isinstance(text, str) else text for path, text in ignores.items()}
    write_folder([Resource(path, b"") for path in FILES], tmp_path)
    write_folder([Resource(path, content) for path, content in encoded.items()], tmp_path)
    git = shutil.which("git")
    assert git is not None
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run([git, "init", "-q"], cwd=tmp_path, env=environment, check=True)
    listed = subprocess.run(
        [git, "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert [file.path for file in read_folder(tmp_path)] == sorted(filter(None, listed.stdout.split("\0")))


def test_an_unsafe_path_prevents_all_writing(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with pytest.raises(InvalidTree):
        write_folder([Resource("a", b""), Resource("../b", b"")], folder)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("keep")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a").symlink_to(outside)
    write_folder([Resource("a", b"new")], folder)
    assert outside.read_text() == "keep"
    assert (folder / "a").read_text() == "new"
    assert not (folder / "a").is_symlink()


def test_a_linked_folder_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "d").symlink_to(outside)
    write_folder([Resource("d/a", b"new")], folder)
    assert list(outside.iterdir()) == []
    assert (folder / "d" / "a").read_bytes() == b"new"


def test_a_read_only_file_is_replaced(tmp_path: Path) -> None:
    write_folder([Resource("a", b"old", 0o444)], tmp_path)
    write_folder([Resource("a", b"new", 0o444)], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"new"


# Zip archives


@given(TREES)
def test_a_zip_archive_round_trip(files: list[Resource]) -> None:
    rooted = {f"root/{path}": facts for path, facts in by_path(files).items()}
    assert by_path(read_zip(zipped(files, "root"))) == rooted


def test_a_zip_archive_has_one_root_folder() -> None:
    with zipfile.ZipFile(io.BytesIO(zipped([Resource("b", b""), Resource("a/c", b"")], "my project"))) as archive:
        assert archive.namelist()[0] == "my project/"
        assert sorted(archive.namelist()) == ["my project/", "my project/a/c", "my project/b"]


def test_a_zip_archive_has_the_modes_of_unix(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped([Resource("mvnw", b"#!", 0o755), Resource("d/é", b"x", 0o640)], "root"))
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes == {"root/": 0o40755, "root/mvnw": 0o100755, "root/d/é": 0o100640}


def test_the_same_files_give_the_same_archive() -> None:
    files = [Resource("a", b"a" * 100), Resource("b", b"b", 0o755)]
    assert zipped(files, "x") == zipped(files, "x")


def zip_of(*entries: tuple[str, int, bytes]) -> bytes:
    """Return an archive with these names, Unix modes and contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, mode, content in entries:
            info = zipfile.ZipInfo(name)
            # Without a mode the archive comes from a system without modes.
            info.create_system, info.external_attr = (3, mode << 16) if mode else (0, 0x20)
            archive.writestr(info, content)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a/..", "..", "C/../../x"])
def test_a_zip_archive_with_an_unsafe_path_is_refused(name: str) -> None:
    refusal(zip_of(("fine", 0o100644, b""), (name, 0o100644, b"")))


@pytest.mark.parametrize("kind", [0o120777, 0o020666, 0o060666, 0o010666, 0o140777])
def test_a_zip_archive_with_a_link_or_device_is_refused(kind: int) -> None:
    assert "'a'" in refusal(zip_of(("a", kind, b"/etc/passwd")))


def test_a_zip_archive_without_permission_bits_has_plain_files() -> None:
    assert read_zip(zip_of(("a", 0, b"x"), ("./b", 0o100755, b""), ("d/", 0o40755, b""))) == [
        Resource("a", b"x", 0o644), Resource("b", b"", 0o755),
    ]  # fmt: skip


def test_archives_lose_the_set_user_id_bit() -> None:
    assert read_zip(zip_of(("a", 0o106755, b"")))[0].mode == 0o755
    assert read_tar(tar_of(("a", tarfile.REGTYPE, 0o6755, b"")))[0].mode == 0o755


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_archive_with_a_path_twice_is_refused() -> None:
    assert "'a'" in refusal(zip_of(("a", 0, b"1"), ("a", 0, b"2")))
    assert "'a'" in refusal(zip_of(("a", 0, b"1"), ("a/b", 0, b"2")))


def test_a_zip_archive_with_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    assert len(read_zip(zip_of(*((str(number), 0, b"") for number in range(3))))) == 3
    refusal(zip_of(*((str(number), 0, b"") for number in range(4))))


def test_an_archive_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_BYTES", 100_000)
    files = [Resource("a", b"\0" * 60_000), Resource("b", b"\0" * 60_000)]
    refusal(zipped(files, "x"))
    refusal(gzip.compress(tar_of(*((file.path, tarfile.REGTYPE, 0o644, file.content) for file in files))), read_tar)


def test_a_zip_archive_with_a_wrong_size_is_refused() -> None:
    content = bytearray(zipped([Resource("a", b"\0" * 1_000_000)], "x"))
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    refusal(bytes(content))


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive", b"\0" * 600, b"PK\x05\x06" + b"\xff" * 18])
def test_an_invalid_archive_is_refused(content: bytes) -> None:
    refusal(content)
    if content.strip(b"\0"):
        refusal(content, read_tar)


WHOLE_ZIP = zipped([Resource("a", b"some text " * 30), Resource("d/é", os.urandom(40), 0o755)], "root")


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE_ZIP) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_zip_archive_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE_ZIP)
    for place, byte in changes:
        damaged[place] = byte
    try:
        read_zip(bytes(damaged))
    except InvalidTree as error:
        sentence(error)


# Tar archives


def tar_of(*entries: tuple[str, bytes, int, bytes], mode: str = "w") -> bytes:
    """Return an archive with these names, kinds, modes and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, kind, permissions, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size = kind, permissions, len(content)
            info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@settings(max_examples=50)
@given(TREES, st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]))
def test_a_tar_archive_round_trip(files: list[Resource], mode: str) -> None:
    entries = [(f"./{file.path}", tarfile.REGTYPE, file.mode, file.content) for file in files]
    assert by_path(read_tar(tar_of(("./", tarfile.DIRTYPE, 0o755, b""), *entries, mode=mode))) == by_path(files)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", ".."])
def test_a_tar_archive_with_an_unsafe_path_is_refused(name: str) -> None:
    refusal(tar_of((name, tarfile.REGTYPE, 0o644, b"")), read_tar)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_archive_are_left_out(kind: bytes) -> None:
    archive = tar_of(("a", tarfile.REGTYPE, 0o644, b"x"), ("link", kind, 0o777, b""))
    assert read_tar(archive) == [Resource("a", b"x")]


def test_a_tar_archive_with_a_path_twice_is_refused() -> None:
    assert "'a'" in refusal(tar_of(*[("a", tarfile.REGTYPE, 0o644, b"")] * 2), read_tar)


def test_a_long_name_in_a_tar_archive_is_read() -> None:
    name = "/".join(["x" * 50] * 6)
    assert [file.path for file in read_tar(tar_of((name, tarfile.REGTYPE, 0o644, b"")))] == [name]


def test_a_tar_archive_with_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    refusal(tar_of(*((str(number), tarfile.REGTYPE, 0o644, b"") for number in range(4))), read_tar)
    # Folders and links need time and memory too.
    refusal(tar_of(*((str(number), tarfile.DIRTYPE, 0o755, b"") for number in range(50))), read_tar)


def test_a_tar_archive_with_a_long_header_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_BYTES", 1_000_000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * 20_000_000}
        archive.addfile(info, io.BytesIO())
    assert len(buffer.getvalue()) < 100_000
    refusal(buffer.getvalue(), read_tar)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-512, -1, -(2**60), 2**60])
def test_a_tar_archive_with_a_wrong_size_is_read_or_refused(kind: bytes, size: int) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, size
    header = info.tobuf(format=tarfile.GNU_FORMAT)
    try:
        assert len(read_tar(header * 3 + b"\0" * 1024)) <= 3
    except InvalidTree as error:
        sentence(error)


WHOLE_TAR = tar_of(
    ("a", tarfile.REGTYPE, 0o644, b"some text " * 30), ("d/b", tarfile.REGTYPE, 0o755, b"x"), mode="w:gz"
)
PLAIN_TAR = gzip.decompress(WHOLE_TAR)[:3072]


@settings(max_examples=300)
@given(
    st.sampled_from([WHOLE_TAR, PLAIN_TAR]),
    st.lists(st.tuples(st.integers(0, 3071), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
def test_a_damaged_tar_archive_is_read_or_refused(whole: bytes, changes: list[tuple[int, int]], cut: bool) -> None:
    damaged = bytearray(whole)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    try:
        read_tar(bytes(damaged[: changes[0][0]] if cut else damaged))
    except InvalidTree as error:
        sentence(error)
