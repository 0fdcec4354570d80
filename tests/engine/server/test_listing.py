"""The list of accelerators and their options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from accelerator_engine.server import (
    Library,
    library,
)

from .client import Client, answers, make_local_files, running, write


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
    # The command fails on a choice that is not text.
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


def test_a_broken_accelerator_is_listed_and_affects_no_other(tmp_path: Path) -> None:
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
        # The command `get` prints only this message.
        assert {entry.get("archiveMessage", "") for entry in entries} == set(messages.values())
        assert client.get("/api/accelerators/options?name=broken").detail == messages["broken"]
        assert client.generate("broken", {}).detail == messages["broken"]
        assert client.generate("greeting", answers()).status == 200


def test_an_unexpected_error_in_an_accelerator_affects_no_other(
    local_files: Path, monkeypatch: pytest.MonkeyPatch, fails_on_purpose: None
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(library, "load", fail)
    with running(Library(local_files=local_files)) as client:
        (entry,) = client.get("/api/accelerators").json["_embedded"]["accelerators"]
        assert entry["ready"] is False
        assert "secret" not in entry["readyMessage"]
