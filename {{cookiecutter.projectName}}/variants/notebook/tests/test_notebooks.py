"""Notebooks are stored as they were written: without what a run left in them."""

import json
import pathlib

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").rglob("*.ipynb"))
FIX = "run `jupyter nbconvert --clear-output --inplace` on it"


def test_there_are_notebooks():
    """Each is checked below."""
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_run_left_anything(path):
    """Neither outputs, which may show data, nor the cells' numbers, which change with each run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}, path
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), f"{path}: {FIX}"
