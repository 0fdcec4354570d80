"""The descriptions of accelerators and options in the server's answers.

The client fails on a value of an unexpected type, so every text has to be a JSON string.
"""

import math

from flask import current_app

from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import Option, section
from accelerator_engine.server.library import Library, load_served
from accelerator_engine.server.problems import Problem, sentence_of
from accelerator_engine.tree import InvalidTree


def describe(library: Library, name: str) -> dict[str, object]:
    """Return an accelerator's entry in the list; an unusable one has the reason in its entry."""
    try:
        accelerator = load_served(library, name)
    except (Problem, InvalidManifest, InvalidTree) as error:
        return _unready(name, sentence_of(error))
    except Exception:
        # The other accelerators stay available.
        current_app.logger.exception("the accelerator %r cannot be read", name)
        return _unready(name, "the accelerator cannot be read; see the server's log")
    properties = section(accelerator.content, "accelerator") if accelerator.content is not None else {}
    tags = properties.get("tags") or []
    return {
        "name": name,
        "displayName": _text(properties.get("displayName")) or name,
        "description": _text(properties.get("description")),
        "iconUrl": _text(properties.get("iconUrl")),
        "tags": [_text(tag) for tag in (tags if isinstance(tags, list) else [tags])],
        "ready": True,
        "archiveReady": True,
    }


def _unready(name: str, reason: str) -> dict[str, object]:
    # The command `get` prints only the archive's message.
    return {
        "name": name, "displayName": name, "tags": [],
        "ready": False, "readyMessage": reason, "archiveReady": False, "archiveMessage": reason,
    }  # fmt: skip


def describe_option(option: Option) -> dict[str, object]:
    """Return an option in the form of the protocol, without empty values."""
    properties: dict[str, object] = {
        "name": option.name,
        "label": option.label,
        "description": option.description,
        "dataType": [option.data_type] if option.is_list else option.data_type,
        "defaultValue": _plain(option.default),
        "inputType": option.input_type,
        "required": option.required,
        "display": True,
        "validationRegex": option.pattern,
        "choices": [{"text": choice.text, "value": _text(choice.value)} for choice in option.choices],
    }
    if option.condition is not None:
        properties["dependsOn"] = {"name": option.condition.name, "value": _plain(option.condition.value)}
    return {key: value for key, value in properties.items() if value not in ("", [], None) or key == "defaultValue"}


def _text(value: object) -> str:
    """Return a scalar in YAML's notation, and an empty text for another value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def _plain(value: object) -> object:
    """Return a value of YAML as valid JSON, without infinite numbers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    # The client, written in Go, rejects the whole answer if a number does not fit into 64 bits.
    if isinstance(value, int | float) and abs(value) <= 1e300 and not math.isnan(value):
        return value
    return str(value)
