"""Runs a notebook cell by cell, as a person does; a program of the project's own environment, where nbclient is.

`python kernel.py NOTEBOOK RESULT [MODULE TEXT NEW]`: after the cell that imports MODULE, TEXT in MODULE.py becomes NEW
and the cell is run once more. RESULT gets the notebook with its outputs, an error's too, after which nothing is run.
"""

import contextlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main(notebook: str, result: str, *edit: str) -> None:
    """Run it and write what came of it."""
    found = nbformat.read(notebook, as_version=nbformat.NO_CONVERT)
    nbformat.validate(found)
    client = NotebookClient(found, timeout=300, resources={"metadata": {"path": str(Path(notebook).parent)}})
    # The error stands in the result.
    with client.setup_kernel(), contextlib.suppress(CellExecutionError):
        run_cells(client, list(found.cells), *edit)
    nbformat.write(found, result)


def run_cells(client: NotebookClient, cells: list[nbformat.NotebookNode], *edit: str) -> None:
    """Run the cells; a cell that is run twice has both outputs, one after the other."""
    for index, cell in enumerate(cells):
        client.execute_cell(cell, index)
        if edit and f"import {edit[0]}\n" in cell.source:
            replace(Path(client.resources["metadata"]["path"]).parent / f"{edit[0]}.py", *edit[1:])
            before = cell.outputs
            client.execute_cell(cell, index)
            cell.outputs = before + cell.outputs


def replace(file: Path, text: str, new: str) -> None:
    """Change a file as an editor does."""
    content = file.read_text(encoding="utf-8")
    if content.count(text) != 1:
        raise SystemExit(f"{file} holds {text!r} {content.count(text)} times")
    file.write_text(content.replace(text, new), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
