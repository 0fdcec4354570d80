"""The SQL of the body holds the present text of database/python, in the base and in every overlay."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BODY = Path(__file__).parent.parent / "template"
FOLDERS = [".", *(str(path.parent.relative_to(BODY)) for path in BODY.glob("variants/*/database"))]


def check(body: Path, folder: str) -> subprocess.CompletedProcess[str]:
    """Run what `make lint` runs."""
    command = [sys.executable, "-B", "-m", "local", "sql", "--check", folder, "."]
    return subprocess.run(command, cwd=body, capture_output=True, text=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_copy_is_its_module(folder: str) -> None:
    checked = check(BODY, folder)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("folder", "module", "copies"),
    [
        (
            ".",
            "database/python/signals.py",
            "database/inference/008-safe-models.sql, database/training/007-given-weights",
        ),
        ("variants/table", "database/python/signals.py", "database/training/006-table.sql"),
        (
            "variants/table",
            "variants/table/database/python/encode.py",
            "database/inference/006-row.sql, database/training/006-table.sql",
        ),
    ],
)
def test_a_stale_copy_is_named(tmp_path: Path, folder: str, module: str, copies: str) -> None:
    for name in ("local", "database", "variants/table/database"):
        shutil.copytree(BODY / name, tmp_path / name)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write("\n\nMORE = 1\n")
    checked = check(tmp_path, folder)
    assert checked.returncode == 1
    assert checked.stderr.startswith(f"local: {copies}")
    assert checked.stderr.endswith("a copy of database/python is stale; fix: make sql\n")
