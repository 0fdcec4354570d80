"""Functions that run an accelerator from a manifest, files, answers and fragments."""

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
# The only errors that a manifest or an answer may cause.
REFUSALS = (InvalidManifest, InvalidAnswer, GenerationFailed)

# A file is its text, its bytes, or a resource with a mode.
File = str | bytes | Resource
Transform = Mapping[str, Any]

INVOKE = "{type: InvokeFragment, reference: f}"
ABC = ["a", "b", "c/d"]
# A transform whose result has two versions of `a`.
DOUBLED = "{type: Merge, sources: [{include: [a]}, {type: ReplaceText, substitutions: [{text: a, with: \"'new'\"}]}]}"


def resource(path: str, content: File) -> Resource:
    """Return a file as a resource."""
    if isinstance(content, Resource):
        return content
    return Resource(path, content.encode() if isinstance(content, str) else content)


def tree(files: Mapping[str, File] | Iterable[str], manifest: str | bytes | None = None) -> list[Resource]:
    """Return a tree; without contents each file contains its own path."""
    named = files if isinstance(files, Mapping) else {path: path for path in files}
    resources = [resource(path, content) for path, content in named.items()]
    if manifest is None:
        return resources
    text = dedent(manifest) if isinstance(manifest, str) else manifest
    return [*resources, resource("accelerator.yaml", text)]


def importing(engine: str, imports: str = "[{name: f}]", options: str = "[]") -> str:
    """Return a manifest with imports."""
    return f"{{accelerator: {{imports: {imports}, options: {options}}}, engine: {engine}}}"


def engine(transform: str | Mapping[str, Any]) -> str:
    """Return a manifest with this engine section, as YAML or data."""
    if not isinstance(transform, str):
        return json.dumps({"engine": transform})
    return f"engine:\n{indent(dedent(transform), '  ')}\n"


@dataclass(frozen=True)
class Fragment:
    """The manifest and the files of a fragment."""

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
    answers: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> Project:
    """Read and run an accelerator."""
    return generate(loaded(manifest, files, fragments), answers or {})


def texts(result: Project) -> dict[str, str]:
    """Return the texts of a project by path, without the trace."""
    return {file.path: file.content.decode() for file in result.files if file.path != LOG}


def file_at(result: Project, path: str) -> Resource:
    """Return the file of a project at a path."""
    return next(file for file in result.files if file.path == path)


def transformed(transform: str | Transform, content: str | bytes, variables: Mapping[str, Any] | None = None) -> bytes:
    """Run a transform on a file and return the new content of the file."""
    return file_at(project(engine(transform), {"x": content}, variables), "x").content


def replacing(*pairs: tuple[str, str]) -> Transform:
    """Return a ReplaceText with pairs of a text and an expression."""
    return {"type": "ReplaceText", "substitutions": [{"text": text, "with": new} for text, new in pairs]}


def run(
    manifest: str | bytes | None,
    files: Mapping[str, File] | Iterable[str] = (),
    answers: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> dict[str, str]:
    """Read and run an accelerator; return the texts of the project by path, without the trace."""
    return texts(project(manifest, files, answers, fragments))


def paths(
    manifest: str | bytes | None,
    files: Mapping[str, File] | Iterable[str] = (),
    answers: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> list[str]:
    """Read and run an accelerator; return the sorted paths of the project, without the trace."""
    return sorted(run(manifest, files, answers, fragments))


def trace(
    manifest: str,
    files: Mapping[str, File] | Iterable[str] = (),
    answers: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> str:
    """Read and run an accelerator; return the trace."""
    return file_at(project(manifest, files, answers, fragments), LOG).content.decode()


def refused(
    manifest: str | bytes,
    files: Mapping[str, File] | Iterable[str] = (),
    answers: Mapping[str, Any] | None = None,
    fragments: Mapping[str, Fragment] | None = None,
) -> str:
    """Return the error message of reading or running an accelerator."""
    with pytest.raises(REFUSALS) as raised:
        project(manifest, files, answers, fragments)
    return sentence(raised.value)


def sentence(error: BaseException) -> str:
    """Return an error's text, which must be one line."""
    text = str(error)
    assert text.strip()
    assert len(text.splitlines()) == 1, text
    return text
