"""The transform that leaves one resource per path."""

from dataclasses import dataclass, replace

import merge3

from accelerator_engine.expressions import EvaluationFailed
from accelerator_engine.transforms.frame import Files, Scope, Transform
from accelerator_engine.tree import Resource

STRATEGIES = ("Fail", "UseFirst", "UseLast", "Append", "FavorOwn", "FavorForeign", "NWayDiff")


@dataclass(frozen=True, kw_only=True)
class UniquePath(Transform):
    """Resolves each path that several resources share."""

    strategy: str = "Fail"

    KEYS = frozenset({"strategy"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Leave one resource per path, in the order of first occurrence."""
        by_path: dict[str, Files] = {}
        for resource in files:
            by_path.setdefault(resource.path, []).append(resource)
        return [self._resolve(path, versions, scope) for path, versions in by_path.items()]

    def _resolve(self, path: str, versions: Files, scope: Scope) -> Resource:
        if len(versions) == 1:
            return versions[0]
        conflict = f"Multiple representations for path '{path}'"
        if self.strategy == "Fail":
            raise EvaluationFailed(f"{conflict}; set onConflict, or add a UniquePath with a strategy")
        resolve, words = {
            "UseFirst": (_first, "will use the one appearing first "),
            "UseLast": (_last, "will use the one appearing last "),
            "Append": (_appended, "will concatenate them together"),
            "FavorOwn": (_own, "will favor own"),
            "FavorForeign": (_foreign, "will favor foreign"),
            "NWayDiff": (_merged, "will merge their changes"),
        }[self.strategy]
        scope.log.debug(f"{conflict}, {words}")
        return resolve(versions, scope)


def _first(versions: Files, _: Scope) -> Resource:
    return versions[0]


def _last(versions: Files, _: Scope) -> Resource:
    return versions[-1]


def _appended(versions: Files, _: Scope) -> Resource:
    return replace(versions[0], content=b"".join(resource.content for resource in versions))


def _own(versions: Files, scope: Scope) -> Resource:
    own = [resource for resource in versions if resource.origin >= scope.origin]
    return (own or versions)[-1]


def _foreign(versions: Files, scope: Scope) -> Resource:
    foreign = [resource for resource in versions if resource.origin < scope.origin]
    return (foreign or versions)[-1]


def _merged(versions: Files, _: Scope) -> Resource:
    """Merge the changes to the original file by diff3 (Khanna, Kunal and Pierce, 2007)."""
    first, *others = versions
    base = (first.ancestor or b"").splitlines(keepends=True)
    merged = first.content.splitlines(keepends=True)
    for other in others:
        changes = merge3.Merge3(base, merged, other.content.splitlines(keepends=True), is_cherrypick=False)
        parts = list(changes.merge_groups())
        if any(part[0] == "conflict" for part in parts):
            raise EvaluationFailed(f"NWayDiff cannot merge the changes to {first.path!r}, because they conflict")
        merged = [line for part in parts for line in part[1]]
    return replace(first, content=b"".join(merged))
