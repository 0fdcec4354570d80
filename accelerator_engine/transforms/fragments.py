"""The transforms that run a fragment, and that record where a project comes from."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import yaml

from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.java_types import Helper
from accelerator_engine.transforms.composition import Symbol, with_symbols
from accelerator_engine.transforms.frame import Files, Fragment, Scope, Transform, helpers
from accelerator_engine.tree import Resource

_PROVENANCE = "accelerator-info.yaml"
_DEEPEST_INVOCATION = 30


@dataclass(frozen=True, kw_only=True)
class InvokeFragment(Transform):
    """Runs the engine of a fragment on the current resources and the fragment's own."""

    reference: str
    let: tuple[Symbol, ...] = ()
    anchor: str = ""

    KEYS = frozenset({"reference", "let", "anchor"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Run the fragment on the caller's files, followed by its own."""
        fragment = scope.fragments.get(self.reference)
        if fragment is None:
            raise EvaluationFailed(f"the fragment {self.reference!r} is not imported; add it to imports")
        if scope.depth >= _DEEPEST_INVOCATION:
            raise EvaluationFailed(f"fragments invoke one another more than {_DEEPEST_INVOCATION} deep")
        run = scope.run
        run.invocations += 1
        own = [replace(resource, origin=run.invocations) for resource in fragment.own_files()]
        caller = with_symbols(self.let, scope.including(**fragment.renamed_variables(scope.variables)))
        variables = {**fragment.checked_variables(caller.variables), **helpers(own)}
        inner = Scope(run, variables, fragment.file, fragment.fragments, run.invocations, scope.depth + 1)
        return self._anchored(files, own, inner, fragment, title, merging=merging)

    def _anchored(
        self, files: Files, own: Files, inner: Scope, fragment: Fragment, title: str, *, merging: bool
    ) -> Files:
        prefix = f"{self.anchor}/" if self.anchor else ""
        outside = [resource for resource in files if not resource.path.startswith(prefix)]
        below = [
            replace(resource, path=resource.path.removeprefix(prefix))
            for resource in files
            if resource.path.startswith(prefix)
        ]
        result = below + own
        if fragment.engine is not None:
            result = fragment.engine.apply(result, inner, f"{title}.validated", merging=merging)
        # Files outside the anchor stay; in a Merge another source contributes them.
        return [replace(resource, path=prefix + resource.path) for resource in result] + ([] if merging else outside)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the symbols' expressions."""
        return (*super().expressions(), *(symbol.expression for symbol in self.let))


@dataclass(frozen=True, kw_only=True)
class Provenance(Transform):
    """Adds a file that records where the project comes from."""

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Return the files and the record, in a Merge the record alone."""
        run = scope.run
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts: dict[str, object] = {
            "id": run.id,
            "timestamp": now,
            "source": run.source,
            "username": run.username,
            "options": _plain(run.answers),
            "accelerator": {"name": run.accelerator},
            "fragments": [{"name": name} for name in sorted(run.imported)],
        }
        known = {name: value for name, value in facts.items() if value not in ("", [], {}, {"name": ""})}
        text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
        record = Resource(_PROVENANCE, text.encode(), origin=scope.origin)
        return [record] if merging else [*files, record]


def _plain(value: object) -> object:
    """Return a value as plain data, without the line numbers of the manifest."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if not isinstance(item, Helper)}
    return [_plain(item) for item in value] if isinstance(value, list) else value
