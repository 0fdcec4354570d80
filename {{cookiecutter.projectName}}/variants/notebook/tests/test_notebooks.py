"""Notebooks are stored without the outputs of a run."""

import json
import pathlib

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").rglob("*.ipynb"))
FIX = "run `jupyter nbconvert --clear-output --inplace` on it"


def test_there_are_notebooks():
    """The project has notebooks for the test below."""
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_run_left_anything(path):
    """Outputs may show data, and the cells' execution counts change with each run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}, path
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), f"{path}: {FIX}"
