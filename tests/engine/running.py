"""Running an accelerator that a test writes down: a manifest, files, answers and fragments."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from textwrap import dedent, indent
from typing import Any

import pytest

from accelerator_engine.engine import Accelerator, Project, generate, load
from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import InvalidAnswer
from accelerator_engine.transforms import GenerationFailed
from accelerator_engine.tree import Resource

LOG = "accelerator-log.md"
# All that a manifest or an answer may come to.
REFUSALS = (InvalidManifest, InvalidAnswer, GenerationFailed)

# A file is its text, its bytes, or a resource when its mode matters.
File = str | bytes | Resource


def resource(path: str, content: File) -> Resource:
    """Return a file as the engine takes it."""
    if isinstance(content, Resource):
        return content
    return Resource(path, content.encode() if isinstance(content, str) else content)


def tree(files: Mapping[str, File] | Iterable[str], manifest: str | bytes | None = None) -> list[Resource]:
    """Return a tree; without contents each file holds its own path."""
    named = files if isinstance(files, Mapping) else {path: path for path in files}
    found = [resource(path, content) for path, content in named.items()]
    if manifest is None:
        return found
    text = dedent(manifest) if isinstance(manifest, str) else manifest
    return [*found, resource("accelerator.yaml", text)]


def engine(transform: str | Mapping[str, Any]) -> str:
    """Return a manifest with this engine section, which is YAML or data."""
    if not isinstance(transform, str):
        return json.dumps({"engine": transform})
    return f"engine:\n{indent(dedent(transform), '  ')}\n"


@dataclass(frozen=True)
class Fragment:
    """A fragment of a test."""

    manifest: str | None
    files: Mapping[str, File] | Iterable[str] = field(default_factory=dict)


def loaded(
    manifest: str | bytes | None,
    files: Mapping[str, File] | Iterable[str] = (),
    fragments: Mapping[str, Fragment] | None = None,
    name: str = "sample",
) -> Accelerator:
    """Read an accelerator."""
    known = {key: tree(value.files, value.manifest) for key, value in (fragments or {}).items()}
    return load(tree(files, manifest), name, lambda fragment: known[fragment])


def project(
    manifest: str | bytes | None,
    files: Mapping[str, File] | Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> Project:
    """Read and run an accelerator."""
    return generate(loaded(manifest, files, fragments), given or {})


def texts(done: Project) -> dict[str, str]:
    """Return what came out as text by path, less the trace."""
    return {file.path: file.content.decode() for file in done.files if file.path != LOG}


def run(
    manifest: str | bytes | None,
    files: Mapping[str, File] | Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> dict[str, str]:
    """Read and run an accelerator; return the texts that come out by path, less the trace."""
    return texts(project(manifest, files, given, fragments))


def paths(
    manifest: str | bytes | None,
    files: Mapping[str, File] | Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> list[str]:
    """Read and run an accelerator; return the paths that come out, sorted, less the trace's."""
    return sorted(run(manifest, files, given, fragments))


def trace(
    manifest: str,
    files: Mapping[str, File] | Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> str:
    """Return the page that a run leaves in its result."""
    done = project(manifest, files, given, fragments)
    return next(file.content.decode() for file in done.files if file.path == LOG)


def refused(
    manifest: str | bytes,
    files: Mapping[str, File] | Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> str:
    """Return the sentence with which reading or running an accelerator is refused."""
    with pytest.raises(REFUSALS) as raised:
        project(manifest, files, given, fragments)
    return sentence(raised.value)


def sentence(error: BaseException) -> str:
    """Return an error's text, which has to be one line."""
    text = str(error)
    assert text.strip()
    assert len(text.splitlines()) == 1, text
    return text
