"""The reader of accelerator.yaml, which returns plain data with line numbers.

A plain `cookiecutter` run loads this module, so it imports only the standard library and PyYAML.
"""

import re
from pathlib import Path
from typing import Any

import yaml

FILE_NAME = "accelerator.yaml"

# Aliases can turn a few lines into billions of values; real manifests stay far below this limit.
_MOST_VALUES = 100_000
# Python refuses to print much larger numbers.
MOST_BITS = 1024
_MERGE = "tag:yaml.org,2002:merge"


def one_line(text: str, longest: int = 1000) -> str:
    """Return a text for a message, on one line and cut after `longest` characters."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]}…"


class InvalidManifest(ValueError):
    """The manifest is invalid; the text is one sentence that starts with file and line."""

    def __init__(self, reason: str, line: int | None = None, file: str = "") -> None:
        """Keep the reason, the line and the file; the caller may set `file` later."""
        super().__init__(reason)
        self.reason = one_line(reason)
        self.line = line
        self.file = file

    def __str__(self) -> str:
        """Return file, line and reason."""
        file = one_line(self.file) or FILE_NAME
        return f"{file}: {self.reason}" if self.line is None else f"{file}:{self.line}: {self.reason}"


class Map(dict[str, Any]):
    """A YAML mapping with its first line, the line per key, and the line per repeated key (from 1)."""

    line: int
    lines: dict[str, int]
    repeated: dict[str, int]


class Items(list[Any]):
    """A YAML sequence with its first line and the line of each item (from 1)."""

    line: int
    lines: list[int]


def line_of(value: object) -> int | None:
    """Return the first line of a mapping or sequence, None for any other value."""
    return value.line if isinstance(value, Map | Items) else None


class _Loader(yaml.SafeLoader):
    """Reads YAML as Application Accelerator does: `yes` and `2024-01-01` are text."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(text: str) -> Any:
    """Return the data of the first YAML document, with Map and Items for mappings and sequences.

    Raises InvalidManifest if the text is not YAML, refers to itself, or is too large.
    """
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        node = loader.get_node() if loader.check_node() else None
        return _Reader(loader).value(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise InvalidManifest(f"not valid YAML: {error.problem or error.context}", line) from error
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, InvalidManifest):
            raise
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidManifest(f"not valid YAML: {reason}") from error


def read(path: Path) -> Any:
    """Return the data of a manifest. Raises InvalidManifest and OSError."""
    return load_bytes(path.read_bytes())


def load_bytes(content: bytes) -> Any:
    """Return the data of a manifest's bytes. Raises InvalidManifest."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"not UTF-8 at byte {error.start}") from error
    return load(text)


class _Reader:
    """Converts YAML nodes to data and counts the values."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._open: set[int] = set()
        self._values = 0

    def value(self, node: yaml.Node) -> Any:
        """Return a node's data."""
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > _MOST_VALUES:
            raise InvalidManifest(f"the manifest has more than {_MOST_VALUES} values, aliases included", line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        if id(node) in self._open:
            raise InvalidManifest("an alias refers to its own parent", line)
        self._open.add(id(node))
        data = self._map(node) if isinstance(node, yaml.MappingNode) else self._items(node)
        self._open.remove(id(node))
        return data

    def _scalar(self, node: yaml.ScalarNode, line: int) -> str | bool | int | float | None:
        kind = node.tag.rpartition(":")[2]
        try:
            value = self._loader.construct_object(node)
        except (ValueError, LookupError, AttributeError) as error:
            raise InvalidManifest(f"{node.value[:60]!r} is not a valid {kind}", line) from error
        if not isinstance(value, str | bool | int | float | None):
            raise InvalidManifest(f"{node.value[:60]!r} has the type {kind}, which a manifest cannot contain", line)
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise InvalidManifest(f"a number has more than {MOST_BITS} bits", line)
        return value

    def _items(self, node: yaml.Node) -> Items:
        data = Items(self.value(item) for item in node.value)
        data.line = node.start_mark.line + 1
        data.lines = [item.start_mark.line + 1 for item in node.value]
        return data

    def _map(self, node: yaml.MappingNode) -> Map:
        data = Map()
        data.line = node.start_mark.line + 1
        data.lines = {}
        data.repeated = {}
        inherited: list[Map] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                inherited += self._inherited(value_node, line)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidManifest("a key is a list or a mapping, and has to be text", line)
            # A key is always text, also `on:` and `1:`.
            name = key_node.value
            if name in data:
                data.repeated[name] = line
            data.lines[name] = line
            data[name] = self.value(value_node)
        for other in inherited:
            for name in other.keys() - data.keys():
                data.lines[name], data[name] = other.lines[name], other[name]
        return data

    def _inherited(self, node: yaml.Node, line: int) -> list[Map]:
        """Return the mappings of a merge key; the first mapping with a key wins."""
        value = self.value(node)
        mappings = value if isinstance(value, Items) else [value]
        if not all(isinstance(mapping, Map) for mapping in mappings):
            raise InvalidManifest("<< takes a mapping, or a list of mappings", line)
        return mappings
