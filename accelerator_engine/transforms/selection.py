"""The transforms that select files by patterns."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from accelerator_engine.patterns import matches
from accelerator_engine.transforms.frame import Files, Scope, Transform
from accelerator_engine.tree import Resource


def matches_any(transform: Transform, patterns: Iterable[str], resource: Resource, scope: Scope) -> bool:
    """Return whether any pattern matches, and record for lint which ones do."""
    any_matched = False
    for pattern in patterns:
        key = (scope.file, transform.line, pattern)
        matched = matches(pattern, resource.path)
        scope.run.matched[key] = scope.run.matched.get(key, False) or matched
        any_matched = any_matched or matched
    return any_matched


@dataclass(frozen=True, kw_only=True)
class Selection(Transform):
    """The common part of Include and Exclude."""

    patterns: tuple[str, ...]

    KEYS = frozenset({"patterns"})
    VERB: ClassVar[str]
    KEEPS_MATCHES: ClassVar[bool]

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Keep or drop the files that match any pattern."""
        patterns = f"[{', '.join(self.patterns)}]"
        scope.log.info(f"Will {self.VERB} {patterns}")
        selected = []
        for resource in files:
            matched = matches_any(self, self.patterns, resource, scope)
            is_selected = matched == self.KEEPS_MATCHES
            verb = "matched" if matched else "didn't match"
            scope.log.debug(f"{resource.path} {verb} {patterns} -> {'included' if is_selected else 'excluded'}")
            if is_selected:
                selected.append(resource)
        return selected


class Include(Selection):
    """Keep the resources that match any of the patterns."""

    VERB, KEEPS_MATCHES = "include", True


class Exclude(Selection):
    """Drop the resources that match any of the patterns."""

    VERB, KEEPS_MATCHES = "exclude", False
