"""The trace of a run, which every result contains as `accelerator-log.md`.

The trace is a tree with one node per transform, drawn with a bracket along its lines.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

FILE_NAME = "accelerator-log.md"


@dataclass
class _Node:
    rows: "list[str | _Node]" = field(default_factory=list)

    def drawn(self) -> list[str]:
        """Return the node's lines behind a bracket; a node with a single line has no bracket."""
        lines: list[str] = []
        for row in self.rows:
            lines += row.drawn() if isinstance(row, _Node) else [row]
        if len(lines) < 2:
            return [f"╺ {line}" for line in lines]
        return [f"┏ {lines[0]}", *(f"┃ {line}" for line in lines[1:-1]), f"┗ {lines[-1]}"]


class Log:
    """The trace of a run."""

    def __init__(self) -> None:
        """Start an empty trace."""
        self._open = [_Node()]
        # The number of characters so far.
        self.length = 0

    @contextmanager
    def node(self, title: str = "") -> Iterator[None]:
        """Put the lines of the block into one node; without a title its first child starts it."""
        node = _Node()
        self._open[-1].rows.append(node)
        self._open.append(node)
        if title:
            self.title(title)
        try:
            yield
        finally:
            self._open.pop()

    def title(self, text: str) -> None:
        """Add a title within the current node: the transform that another one runs as."""
        self._open[-1].rows.append(" ".join(text.splitlines()))
        self.length += len(text)

    def info(self, text: str) -> None:
        """Log the next action of a transform."""
        self._add(" Info", text)

    def debug(self, text: str) -> None:
        """Log the effect of a transform on one file or value."""
        self._add("Debug", text)

    def _add(self, level: str, text: str) -> None:
        self._open[-1].rows += [f"{level} {line}" for line in text.split("\n")]
        self.length += len(text)

    def markdown(self, options: Mapping[str, object]) -> str:
        """Return the whole page."""
        answers = _printed(options)
        drawn = [line for row in self._open[0].rows if isinstance(row, _Node) for line in row.drawn()]
        trace = "\n".join(drawn)
        return f"# Accelerator Log\n\n## Options\n```json\n{answers}\n```\n## Log\n```\n{trace}\n```\n"


def _printed(value: object, indent: str = "") -> str:
    """Return a value as JSON in the layout of Jackson, with each list on one line."""
    if isinstance(value, Mapping):
        inner = f"{indent}  "
        items = (f"{inner}{_scalar(str(name))} : {_printed(item, inner)}" for name, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}" if value else "{ }"
    if isinstance(value, list):
        return f"[ {', '.join(_printed(item, indent) for item in value)} ]" if value else "[ ]"
    return _scalar(value)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def shortened(text: str, longest: int = 20) -> str:
    """Return a text for the trace, cut after `longest` characters."""
    return text if len(text) <= longest else f"{text[:longest]}...(truncated)"
