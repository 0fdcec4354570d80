"""Copies the Python of database/python/ into the PL/Python functions that name it: `python3 -m local sql [--check]`.

A function of database/*/*.sql holds a copy between two comments, which Liquibase deploys as plain SQL:

    # begin database/python/encode.py (make sql writes this; edit that file)
    # end database/python/encode.py

What only a type checker or an import needs is left out of a copy: the docstring of the module, imports of `typing`
and of other modules of database/python, and `if TYPE_CHECKING:`. A function that a later change set creates again
keeps the copy that was deployed with it.
"""

import argparse
import ast
import pathlib
import re
from collections.abc import Iterator, Sequence

from local.errors import LocalError
from local.progress import say
from local.state import PROJECT

BODIES = "database.python"
# A line that is meant to begin or end a copy.
MARK = re.compile(r"^[ \t]*#[ \t]*(?:begin|end) database/python/", re.MULTILINE)
COPY = re.compile(
    r"^# begin database/python/(?P<name>\w+)\.py[^\n]*\n(?P<text>.*?)^# end database/python/(?P=name)\.py$",
    re.MULTILINE | re.DOTALL,
)
FUNCTION = re.compile(
    r'^CREATE (?:OR REPLACE )?FUNCTION "\$\{schema\}"\.(?P<name>\w+)\s*\((?P<arguments>[^()]*)\)', re.MULTILINE
)


def run(chosen: argparse.Namespace) -> None:
    """Write stale copies, or name them with `--check`. Raises LocalError, and OSError."""
    folders = chosen.folders or [PROJECT]
    stale = stale_files(folders)
    names = ", ".join(str(path.relative_to(folders[0])) for path in stale)
    if chosen.check and stale:
        raise LocalError(f"{names}: a copy of database/python is stale; fix: make sql")
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    if stale:
        say(f"wrote {names}")


def stale_files(folders: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    """Return the SQL files of the first folder whose copies are stale, each with its new text. Raises LocalError.

    A module is read from the first folder that has it.
    """
    stale = {}
    for database in sorted({path.parent for path in folders[0].glob("database/*/*.sql")}):
        texts = {path: _text(path) for path in sorted(database.glob("*.sql"))}
        # The last change set that creates a function decides.
        current = {
            _signature(match): (path, match.start()) for path, text in texts.items() for match in _functions(text)
        }
        for path, text in texts.items():
            final = [start for place, start in current.values() if place == path]
            written = _with_copies(path, text, final, folders)
            if written != text:
                stale[path] = written
    return stale


def body(source: str, path: pathlib.Path) -> str:
    """Return the lines of a module that its copies hold. Raises LocalError."""
    for refused in ("$python$", "${"):
        if refused in source:
            raise LocalError(f"{path}: {refused!r} cannot stand in a change set")
    if mark := MARK.search(source):
        raise LocalError(f"{path}: {mark[0].strip()!r} would begin or end a copy in a change set; reword the comment")
    # Only line breaks divide lines for Python; for splitlines, a form feed does too.
    lines: list[str | None] = [*source.split("\n")]
    for node in _parsed(source, path).body:
        if _is_only_for_imports(node):
            lines[node.lineno - 1 : node.end_lineno] = [None] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    text = "\n".join(line for line in lines if line is not None).strip("\n")
    return re.sub(r"\n{4,}", "\n\n\n", text) + "\n"


def _with_copies(path: pathlib.Path, text: str, final: Sequence[int], folders: Sequence[pathlib.Path]) -> str:
    """Return a file's text with new copies in the functions that start at the places of `final`."""
    copies = list(COPY.finditer(text))
    if len(MARK.findall(text)) != 2 * len(copies):
        raise LocalError(
            f"{path}: `# begin database/python/NAME.py` and `# end database/python/NAME.py` must come in pairs, "
            "each at the start of a line of its own"
        )
    starts = [match.start() for match in _functions(text)]
    parts, end, copied = [], 0, set[tuple[int, str]]()
    for match in copies:
        function = max((start for start in starts if start < match.start()), default=-1)
        if function not in final:
            continue
        module = _module(match["name"], folders)
        source = _text(module)
        for used in _used_bodies(source, module):
            if (function, used) not in copied:
                raise LocalError(f"{path}: {match['name']}.py uses {used}.py, so a copy of that must precede it")
        copied.add((function, match["name"]))
        parts += [text[end : match.start("text")], body(source, module)]
        end = match.end("text")
    return "".join([*parts, text[end:]])


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LocalError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def _module(name: str, folders: Sequence[pathlib.Path]) -> pathlib.Path:
    for folder in folders:
        path = folder / "database" / "python" / f"{name}.py"
        if path.is_file():
            return path
    raise LocalError(f"database/python/{name}.py is missing; an SQL file names it")


def _functions(text: str) -> Iterator[re.Match[str]]:
    return FUNCTION.finditer(text)


def _signature(match: re.Match[str]) -> tuple[str, ...]:
    return match["name"], *match["arguments"].split()


def _parsed(source: str, path: pathlib.Path) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise LocalError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except ValueError as error:
        # Python 3.11.2 of Debian 12 raises this for a NUL byte.
        raise LocalError(f"{path}:1: {error}") from error


def _is_only_for_imports(node: ast.stmt) -> bool:
    """Return whether a statement of a module has no place in a function of the database."""
    if isinstance(node, ast.ImportFrom):
        return node.module in ("typing", "__future__") or (node.module or "").startswith(BODIES)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _used_bodies(source: str, path: pathlib.Path) -> list[str]:
    """Return the names of the modules of database/python that a module imports from when it runs."""
    return [
        node.module.removeprefix(f"{BODIES}.")
        for node in _parsed(source, path).body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{BODIES}.")
    ]
