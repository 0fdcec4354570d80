"""The folders that the server offers."""

import contextlib
from pathlib import Path

import pytest

from accelerator_engine.server import (
    InvalidLibrary,
    Library,
    named_folders,
)

from .client import (
    PLAIN,
    answers,
    make_local_files,
    running,
    unpacked,
    write,
)


def test_each_request_reads_the_folders_again(tmp_path: Path) -> None:
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


def test_named_folders_win_over_local_files_and_hidden_ones_are_not_served(tmp_path: Path, local_files: Path) -> None:
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


def test_a_missing_folder_is_an_error_without_its_path(tmp_path: Path) -> None:
    folder = write(tmp_path / "gone", {"accelerator.yaml": PLAIN})
    with running(Library({"gone": folder})) as client:
        (folder / "accelerator.yaml").unlink()
        folder.rmdir()
        reply = client.generate("gone", {})
        assert (reply.status, reply.detail) == (400, "the files of 'gone' cannot be read: No such file or directory")
        (entry,) = client.get("/api/accelerators").json["_embedded"]["accelerators"]
        assert entry["ready"] is False


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
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
def test_invalid_arguments_for_named_folders(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    with pytest.raises(InvalidLibrary):
        named_folders(arguments)


def test_a_library_without_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidLibrary, match="not a folder"):
        Library({"x": tmp_path / "x"})
    with pytest.raises(InvalidLibrary, match="not a folder"):
        Library({}, {"x": tmp_path / "x"})
    with pytest.raises(InvalidLibrary, match="neither"):
        Library(local_files=tmp_path)
