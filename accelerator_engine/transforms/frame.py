"""The state that transforms share during a run, and the base class of all transforms."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from accelerator_engine import java_regex
from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.java_types import Helper, text_of
from accelerator_engine.log import Log
from accelerator_engine.manifest import InvalidManifest, one_line
from accelerator_engine.patterns import InvalidPattern
from accelerator_engine.tree import MOST_BYTES, InvalidTree, Resource

Files = list[Resource]
Variables = Mapping[str, Any]

# A longer run is a mistake in the manifest, and must not block a thread of the server.
_SECONDS = 120
# A manifest of a few lines can ask for billions of files; real accelerators stay far below these limits.
_MOST_FILES_RETURNED = 2_000_000
_FILES_PER_TRANSFORM = 50
MOST_RUN_BYTES = 2 * MOST_BYTES


class GenerationFailed(Exception):
    """A run fails; the text is one sentence that starts with file and line."""


class Fragment(Protocol):
    """A fragment as InvokeFragment uses it."""

    @property
    def file(self) -> str:
        """The name of the manifest in messages."""

    @property
    def engine(self) -> "Transform | None":
        """The transform of the fragment, or None."""

    def own_files(self) -> Files:
        """Return the fragment's files without the manifest."""

    @property
    def fragments(self) -> "Mapping[str, Fragment]":
        """The fragments that this one may invoke, by name."""

    def renamed_variables(self, variables: Variables) -> dict[str, Any]:
        """Return the values of options that the importer renames, under the fragment's names."""

    def checked_variables(self, variables: Variables) -> dict[str, Any]:
        """Return the caller's variables with the fragment's defaults. Raises InvalidAnswer."""


@dataclass
class Run:
    """The state that all transforms of a run share."""

    log: Log = field(default_factory=Log)
    answers: Variables = field(default_factory=dict)
    accelerator: str = ""
    source: str = ""
    username: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    # The number of invocations of fragments so far.
    invocations: int = 0
    # The names of all imported fragments, invoked or not.
    imported: frozenset[str] = frozenset()
    # The number of files that all transforms returned so far, plus a constant per transform.
    files_returned: int = 0
    # Whether a pattern matched a file so far, by manifest, line and pattern.
    matched: dict[tuple[str, int | None, str], bool] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def check_size(self, files: Files) -> None:
        """Count the result of a transform. Raises EvaluationFailed when the run exceeds a limit."""
        self.files_returned += _FILES_PER_TRANSFORM + len(files)
        if self.files_returned > _MOST_FILES_RETURNED:
            raise EvaluationFailed(f"all transforms together return more than {_MOST_FILES_RETURNED} files")
        if sum(len(resource.content) for resource in files) > MOST_RUN_BYTES or self.log.length > MOST_RUN_BYTES:
            raise EvaluationFailed(f"the files or the trace have more than {MOST_RUN_BYTES} bytes")

    def check_time(self) -> None:
        """Raise EvaluationFailed when the run takes too long."""
        if time.monotonic() - self.started > _SECONDS:
            raise EvaluationFailed(f"the run takes longer than {_SECONDS} seconds")


@dataclass(frozen=True)
class Scope:
    """The variables and the accelerator or fragment that a transform runs in."""

    run: Run
    variables: Variables
    file: str
    fragments: Mapping[str, Fragment]
    origin: int = 0
    depth: int = 0

    @property
    def log(self) -> Log:
        """The trace of the run."""
        return self.run.log

    def including(self, /, **variables: object) -> "Scope":
        """Return the scope with additional variables."""
        return replace(self, variables={**self.variables, **variables})


def helpers(files: Iterable[Resource]) -> dict[str, Helper]:
    """Return the helper variables over an accelerator's own files: `#files.contentsOf(path)`."""
    contents = {resource.path: resource.content for resource in files}

    def contents_of(path: str) -> str:
        if path not in contents:
            raise EvaluationFailed(f"there is no file {path!r}")
        return contents[path].decode("utf-8", errors="replace")

    return {"files": Helper({"contentsOf": contents_of})}


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A transform with its condition, its name in the trace and its line in messages."""

    KEYS: ClassVar[frozenset[str]] = frozenset()

    condition: Expression | None = None
    name: str = ""
    line: int | None = None

    @property
    def type_name(self) -> str:
        """The value of `type:` in the manifest."""
        return type(self).__name__

    def apply(self, files: Files, scope: Scope, title: str, *, merging: bool = False) -> Files:
        """Transform the files; `merging` is true when the parent is a Merge.

        Raises GenerationFailed.
        """
        title = self.name or title
        with scope.log.node(f"{title} ({self.type_name})"):
            return self.inside(files, scope, title, merging=merging)

    def inside(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Transform the files within the open node of the trace. Raises GenerationFailed."""
        try:
            scope.run.check_time()
            if not self._active(scope):
                scope.log.title("null ()")
                return [] if merging else files
            result = self.work(files, scope, title, merging=merging)
            scope.run.check_size(result)
            return result
        except (EvaluationFailed, InvalidPattern, InvalidTree, java_regex.InvalidRegex, InvalidManifest) as error:
            place = scope.file if self.line is None else f"{scope.file}:{self.line}"
            reason = str(error) if not isinstance(error, InvalidManifest) else error.reason
            raise GenerationFailed(one_line(f"{place}: {reason}")) from error

    def _active(self, scope: Scope) -> bool:
        if self.condition is None:
            return True
        active = self.condition.condition(scope.variables)
        scope.log.info(f"Condition ({self.condition.source}) evaluated to {text_of(active)}")
        return active

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Transform the files whatever the condition."""
        raise NotImplementedError

    def children(self) -> "Sequence[Transform]":
        """Return the transforms within this one, in the manifest's order."""
        return ()

    def expressions(self) -> Sequence[Expression]:
        """Return the expressions of this transform, including its condition."""
        return () if self.condition is None else (self.condition,)
