"""The transform that changes the paths of files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from accelerator_engine import java_regex
from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.java_types import text_of
from accelerator_engine.transforms.frame import Files, Scope, Transform
from accelerator_engine.tree import Resource

DEFAULT_PATH_REGEX = r"^(?<folder>.*/)?(?<filename>([^/]+?|)(?=(?<ext>\.[^/.]*)?)$)"


@dataclass(frozen=True, kw_only=True)
class RewritePath(Transform):
    """Renames the resources whose whole path matches."""

    regex: str = DEFAULT_PATH_REGEX
    rewrite_to: Expression
    match_or_fail: bool = False

    KEYS = frozenset({"regex", "rewriteTo", "matchOrFail"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Rewrite all paths."""
        return [self._rewritten(resource, scope) for resource in files]

    def _rewritten(self, resource: Resource, scope: Scope) -> Resource:
        groups = path_groups(self.regex, resource.path)
        if groups is None:
            if self.match_or_fail:
                raise EvaluationFailed(f"path {resource.path!r} does not match {self.regex!r}, and matchOrFail is true")
            return resource
        path = self.rewrite_to.text({**scope.variables, **groups})
        group_texts = ", ".join(f"{name}={text_of(value)}" for name, value in groups.items())
        scope.log.debug(
            f"Path '{resource.path}' matched '{self.regex}' with groups {{{group_texts}}} and was rewritten to '{path}'"
        )
        return replace(resource, path=path)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and the new path's expression."""
        return (*super().expressions(), self.rewrite_to)


def path_groups(pattern: str, path: str) -> dict[str, str | None] | None:
    """Return the groups of a path by name and as g0 … gN, or None without a match of the whole path.

    Raises InvalidRegex.
    """
    match = java_regex.full_match(pattern, path)
    if match is None:
        return None
    numbered = {f"g{index}": match[index] for index in range(match.re.groups + 1)}
    groups = {**match.groupdict(), **numbered}
    if pattern == DEFAULT_PATH_REGEX:
        # After backtracking Java keeps the group of a look-ahead; the regex package drops it.
        name = groups["filename"] or ""
        dot = name.rfind(".")
        groups["ext"] = groups["g4"] = name[dot:] if dot > 0 else None
    return groups
