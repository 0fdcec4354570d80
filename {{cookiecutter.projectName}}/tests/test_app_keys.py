"""API keys: made, read from their folder, exchanged while the app runs, and never kept."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

from app import api_keys
from app.api_keys import ApiKeys, line
from app.settings import SettingsError
from app.subjects import NotAuthenticated, Subject

ROOT = pathlib.Path(api_keys.__file__).resolve().parent.parent
SUBJECT = Subject("robot", frozenset({"predict", "label"}))


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setattr(api_keys, "SECONDS_BETWEEN_READS", 0)
    (tmp_path / "type").write_text("api-keys\n", encoding="utf-8")
    write(tmp_path, "robot", line("first key", ("predict", "label")))
    return tmp_path


def write(folder: pathlib.Path, subject: str, *lines: str) -> None:
    (folder / subject).write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")


def test_a_key_proves_its_subject_and_roles(folder) -> None:
    write(folder, "reviewer", "", line("another key", ("operate",)))
    keys = ApiKeys(folder)
    assert keys.subject("first key") == SUBJECT
    assert keys.subject("another key") == Subject("reviewer", frozenset({"operate"}))
    for wrong in ("", "first key ", "First key", hashlib.sha256(b"first key").hexdigest(), "\ud800", "é"):
        with pytest.raises(NotAuthenticated, match="not valid"):
            keys.subject(wrong)


def test_keys_are_rotated_without_a_restart(folder) -> None:
    """Both keys are valid for a while; then the old one is removed."""
    keys = ApiKeys(folder)
    first, second = line("first key", ("predict", "label")), line("second key", ("predict", "label"))
    write(folder, "robot", first, second)
    assert keys.subject("first key") == keys.subject("second key") == SUBJECT
    write(folder, "robot", second)
    assert keys.subject("second key") == SUBJECT
    with pytest.raises(NotAuthenticated):
        keys.subject("first key")
    (folder / "robot").unlink()
    with pytest.raises(NotAuthenticated):
        keys.subject("second key")


def test_a_secret_as_kubernetes_mounts_it(tmp_path, monkeypatch) -> None:
    """The files are links into a folder that is exchanged as a whole."""
    monkeypatch.setattr(api_keys, "SECONDS_BETWEEN_READS", 0)
    for number, key in enumerate(("first key", "second key")):
        version = tmp_path / f"..version-{number}"
        version.mkdir()
        write(version, "type", "api-keys")
        write(version, "robot", line(key, ("predict", "label")))
    data = tmp_path / "..data"
    data.symlink_to("..version-0")
    for name in ("type", "robot"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    keys = ApiKeys(tmp_path)
    assert keys.subject("first key") == SUBJECT
    (tmp_path / "..next").symlink_to("..version-1")
    (tmp_path / "..next").rename(data)
    assert keys.subject("second key") == SUBJECT
    with pytest.raises(NotAuthenticated):
        keys.subject("first key")


def test_the_folder_is_not_read_for_each_request(folder, monkeypatch) -> None:
    monkeypatch.setattr(api_keys, "SECONDS_BETWEEN_READS", 3600)
    keys = ApiKeys(folder)
    (folder / "robot").unlink()
    assert keys.subject("first key") == SUBJECT


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("robot", "a key in clear text", "robot, line 1: a line is the 64 hexadecimal digits"),
        ("robot", f"{'a' * 64} predict,admin", "roles out of predict, label, operate"),
        ("robot", f"{'a' * 63} predict", "line 1: a line is"),
        ("Robot", f"{'a' * 64} predict", "the name of a subject has up to 63 lower-case letters"),
        ("type", "postgresql", "is of type 'postgresql'; allowed is api-keys"),
    ],
)
def test_a_wrong_file_is_a_sentence_that_holds_no_key(folder, name, text, message) -> None:
    write(folder, name, text)
    with pytest.raises(SettingsError, match=message) as refused:
        ApiKeys(folder)
    assert "clear text" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_becomes_wrong_grants_nothing_and_is_logged_once(folder, caplog) -> None:
    write(folder, "other", line("another key", ("predict",)))
    keys = ApiKeys(folder)
    write(folder, "robot", "a key in clear text")
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            keys.subject("first key")
    assert keys.subject("another key").name == "other"
    (record,) = caplog.records
    assert "robot, line 1" in record.message and "clear text" not in record.message


def test_a_folder_without_a_type_is_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys(tmp_path)
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys(tmp_path / "missing")


def new_key(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.new_key", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60)


def test_a_new_key_is_printed_once_and_its_line_is_valid(folder) -> None:
    made = [new_key("a.new-one", "--roles", "predict,operate") for _ in range(2)]
    assert [process.returncode for process in made] == [0, 0]
    first, second = (process.stdout.strip() for process in made)
    assert first != second and re.fullmatch("[A-Za-z0-9_-]{43}", first)
    assert first not in made[0].stderr
    write(folder, "a.new-one", made[0].stderr.splitlines()[-1])
    assert ApiKeys(folder).subject(first) == Subject("a.new-one", frozenset({"predict", "operate"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Alice"], "the subject is 'Alice'; allowed are"),
        (["type"], "choose a different one"),
        (["alice", "--roles", "admin"], "the roles are 'admin'; allowed are predict, label, operate"),
        ([], "the following arguments are required: subject"),
    ],
)
def test_a_wrong_subject_or_role_gets_no_key(arguments, message) -> None:
    process = new_key(*arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert message in process.stderr
