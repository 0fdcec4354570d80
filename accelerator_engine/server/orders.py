"""The requests for a project."""

import json
import math
import re
import zlib
from dataclasses import dataclass
from typing import TypeVar

from flask import request
from werkzeug.datastructures import FileStorage

from accelerator_engine.engine import Accelerator, load
from accelerator_engine.server import limits
from accelerator_engine.server.library import Library, fragment_finder, load_served, served_files
from accelerator_engine.server.limits import shortened
from accelerator_engine.server.problems import Problem, sentence_of
from accelerator_engine.tree import InvalidTree, Resource, read_tar

_FRAGMENT_PART = "fragment_"
# The first bytes of archives that gzip, bzip2 or xz compressed.
_COMPRESSED = re.compile(rb"\x1f\x8b|BZh[1-9](?:1AY&SY|\x17rE8P\x90)|\xfd7zXZ\0")

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Order:
    """A request for a project: the accelerator and the answers."""

    accelerator: Accelerator
    options: dict[str, object]


def read_order(library: Library) -> Order:
    """Read the current request by its content type. Raises Problem, InvalidManifest and InvalidTree."""
    # A page of another origin may send plain text without a preflight request, so no other type is allowed.
    if request.mimetype == "application/json":
        return _order_by_name(library)
    if request.mimetype == "multipart/form-data":
        return _order_with_files(library)
    raise Problem(415, "UnsupportedMediaType", "the content type has to be application/json or multipart/form-data")


def _order_by_name(library: Library) -> Order:
    body = _json_object(request.get_data(cache=False), "the request")
    name = body.get("accelerator", request.args.get("name"))
    if not isinstance(name, str) or not name:
        raise Problem(400, "BadRequest", "the request has to name an accelerator")
    options = body.get("options")
    if options is not None and not isinstance(options, dict):
        raise Problem(400, "BadRequest", "options has to be a JSON object")
    return Order(load_served(library, name), options or {})


def _order_with_files(library: Library) -> Order:
    sent = _Form(request.form.to_dict(flat=False), {key: request.files.getlist(key) for key in request.files})
    registered = library.fragment_folders()
    for name in sent.fields.get("fragment_names", []):
        if name not in registered:
            raise Problem(404, "NotFound", f"there is no fragment {shortened(name)!r}")
    options = _json_object(sent.field("options").encode(), "options") if "options" in sent.fields else {}
    archives, name = sent.files.get("accelerator"), sent.field("accelerator_name")
    if bool(archives) == bool(name):
        reason = "both" if archives else "neither (or the form is broken)"
        raise Problem(400, "BadRequest", f"the form needs either accelerator or accelerator_name, but has {reason}")
    if archives:
        files = sent.archive("accelerator")
        name = (archives[0].filename or "").removesuffix(".tar.gz") or "accelerator"
    else:
        files = served_files(library, name)
    return Order(load(files, name, fragment_finder(library, sent.fragments())), options)


@dataclass
class _Form:
    """A multipart form: texts and files by the names of their parts."""

    fields: dict[str, list[str]]
    files: dict[str, list[FileStorage]]
    unpacked: int = 0

    def __post_init__(self) -> None:
        """Raise Problem for a text in place of a file, or a file in place of a text."""
        for key in self.fields:
            if key == "accelerator" or (key.startswith(_FRAGMENT_PART) and key != "fragment_names"):
                raise Problem(400, "BadRequest", f"the part {shortened(key)!r} has to be a file, with a file name")
        for key in ("accelerator_name", "options"):
            if key in self.files:
                raise Problem(400, "BadRequest", f"the part {key!r} has to be a field, not a file")

    def field(self, key: str) -> str:
        """Return the only text of a name, empty if there is none. Raises Problem."""
        return _only(key, self.fields.get(key, [""]))

    def archive(self, key: str) -> list[Resource]:
        """Return the files in the only archive of a name. Raises Problem, also if all archives are too large."""
        content = _only(key, self.files[key]).stream.read()
        try:
            plain = _gunzipped(content, limits.MOST_UNPACKED - self.unpacked)
            self.unpacked += len(plain)
            return read_tar(plain)
        except InvalidTree as error:
            raise Problem(400, "InvalidArchive", f"{shortened(key)}: {sentence_of(error)}") from error

    def fragments(self) -> dict[str, list[Resource]]:
        """Return the files of each fragment in the form, by its name."""
        keys = [key for key in self.files if key.startswith(_FRAGMENT_PART)]
        return {key.removeprefix(_FRAGMENT_PART): self.archive(key) for key in keys}


def _only(key: str, values: list[_Value]) -> _Value:
    if len(values) != 1:
        raise Problem(400, "BadRequest", f"there is more than one part {shortened(key)!r}")
    return values[0]


def _gunzipped(content: bytes, most: int) -> bytes:
    """Decompress at most `most` bytes. Raises Problem for more, and InvalidTree for another format."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        plain = unpacking.decompress(content, most + 1)
    except zlib.error as error:
        raise InvalidTree("not a tar.gz archive") from error
    if len(plain) > most:
        raise Problem(413, "TooLarge", f"the archives of a request may hold {limits.MOST_UNPACKED} bytes together")
    if not unpacking.eof or unpacking.unused_data.strip(b"\0"):
        raise InvalidTree("the tar.gz archive is incomplete, or more data follows it")
    # The reader of the archive would decompress a second layer without this limit.
    if _COMPRESSED.match(plain) or plain[257:262] != b"ustar":
        raise InvalidTree("the tar.gz archive is empty, compressed twice, or not a tar archive")
    return plain


def _json_object(content: bytes, name: str) -> dict[str, object]:
    """Parse a JSON object. Raises Problem, also for numbers and texts outside of the JSON standard."""
    try:
        data = json.loads(content.decode(), parse_constant=_finite, parse_float=_finite)
        _check_depth(data, limits.DEEPEST_OPTIONS)
        # No file can hold a lone surrogate.
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = f"{name} has to be JSON in UTF-8, with at most {limits.DEEPEST_OPTIONS} levels"
        raise Problem(400, "BadRequest", reason) from error
    if not isinstance(data, dict):
        raise Problem(400, "BadRequest", f"{name} has to be a JSON object")
    return data


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _check_depth(data: object, levels: int) -> None:
    if levels == 0:
        raise ValueError("too deep")
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _check_depth(item, levels - 1)
