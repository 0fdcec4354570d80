"""The transforms that change the contents of files, and the charset that they use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import regex

from accelerator_engine import java_regex
from accelerator_engine.expressions import EvaluationFailed, Expression
from accelerator_engine.log import shortened
from accelerator_engine.transforms.frame import MOST_RUN_BYTES, Files, Scope, Transform
from accelerator_engine.tree import Resource


@dataclass(frozen=True)
class Substitution:
    """A text and the expression of its replacement."""

    text: str
    replacement: Expression


@dataclass(frozen=True, kw_only=True)
class ReplaceText(Transform):
    """Replaces literal texts, or the matches of a regular expression."""

    substitutions: tuple[Substitution, ...] = ()
    regex: str | None = None
    replacement: Expression | None = None

    KEYS = frozenset({"substitutions", "regex"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Replace in all files."""
        if self.regex is not None and self.replacement is not None:
            return self._by_regex(files, scope, self.regex, self.replacement)
        return self._literally(files, scope)

    def _by_regex(self, files: Files, scope: Scope, pattern: str, replacement: Expression) -> Files:
        new = replacement.text(scope.variables)
        scope.log.info(f"Will replace regex '{pattern}' with '{shortened(new)}'")
        java_regex.compile(pattern)
        return [
            self._changed(resource, scope, lambda text: java_regex.replace_all(pattern, new, text))
            for resource in files
        ]

    def _literally(self, files: Files, scope: Scope) -> Files:
        new = {item.text: item.replacement.text(scope.variables) for item in self.substitutions}
        if not new:
            return files
        pairs = ", ".join(f"{text}->{shortened(value)}" for text, value in new.items())
        scope.log.info(f"Will replace [{pairs}]")
        # One pass, the longest text first, so that no replacement is replaced again.
        pattern = regex.compile("|".join(map(regex.escape, sorted(new, key=len, reverse=True))))
        return [self._changed(resource, scope, lambda text: _replaced(text, pattern, new)) for resource in files]

    def _changed(self, resource: Resource, scope: Scope, change: Callable[[str], str]) -> Resource:
        """Return the resource with its text changed, or unchanged if it is not text."""
        scope.run.check_time()
        charset = resource.charset or "utf-8"
        try:
            text = resource.content.decode(charset)
            content = change(text).encode(charset)
        except UnicodeError:
            scope.log.debug(f"{resource.path} is not {charset} text and stays as it is")
            return resource
        return replace(resource, content=content)

    def expressions(self) -> Sequence[Expression]:
        """Return the condition and all replacements."""
        new = [item.replacement for item in self.substitutions]
        return (*super().expressions(), *new, *([self.replacement] if self.replacement else []))


def _replaced(text: str, pattern: "regex.Pattern[str]", new: Mapping[str, str]) -> str:
    """Return the text with all matches replaced. Raises EvaluationFailed when it grows too long."""
    size = 0

    def replacement(match: "regex.Match[str]") -> str:
        nonlocal size
        size += len(new[match[0]])
        if size > MOST_RUN_BYTES:
            raise EvaluationFailed(f"a file grows to more than {MOST_RUN_BYTES} characters")
        return new[match[0]]

    return pattern.sub(replacement, text)


@dataclass(frozen=True, kw_only=True)
class UseEncoding(Transform):
    """Sets the charset of the resources for the transforms that follow."""

    encoding: str

    KEYS = frozenset({"encoding"})

    def work(self, files: Files, scope: Scope, title: str, *, merging: bool) -> Files:
        """Mark all resources with the charset."""
        for resource in files:
            if resource.charset is not None:
                raise EvaluationFailed(f"{resource.path!r} already has the encoding {resource.charset}")
        return [replace(resource, charset=self.encoding) for resource in files]
