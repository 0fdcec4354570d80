"""Runs a notebook cell by cell, as a person does, in the project's environment, which has nbclient.

`python kernel.py NOTEBOOK RESULT [MODULE TEXT NEW]`: after the cell that imports MODULE, TEXT in MODULE.py is replaced
by NEW and the cell runs once more. RESULT is the notebook with its outputs; an error is an output and ends the run.
"""

import contextlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main(notebook: str, result: str, *edit: str) -> None:
    """Run the notebook and write it with its outputs."""
    document = nbformat.read(notebook, as_version=nbformat.NO_CONVERT)
    nbformat.validate(document)
    client = NotebookClient(document, timeout=300, resources={"metadata": {"path": str(Path(notebook).parent)}})
    # The error is an output of the cell.
    with client.setup_kernel(), contextlib.suppress(CellExecutionError):
        run_cells(client, list(document.cells), *edit)
    nbformat.write(document, result)


def run_cells(client: NotebookClient, cells: list[nbformat.NotebookNode], *edit: str) -> None:
    """Run the cells; a cell that runs twice keeps both outputs in order."""
    for index, cell in enumerate(cells):
        client.execute_cell(cell, index)
        if edit and f"import {edit[0]}\n" in cell.source:
            replace(Path(client.resources["metadata"]["path"]).parent / f"{edit[0]}.py", *edit[1:])
            before = cell.outputs
            client.execute_cell(cell, index)
            cell.outputs = before + cell.outputs


def replace(file: Path, text: str, new: str) -> None:
    """Replace a text that occurs once in a file."""
    content = file.read_text(encoding="utf-8")
    if content.count(text) != 1:
        raise SystemExit(f"{file} holds {text!r} {content.count(text)} times")
    file.write_text(content.replace(text, new), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
