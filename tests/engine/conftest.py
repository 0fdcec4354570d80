"""What the tests of the engine need beside it."""

import os
from pathlib import Path

import pytest
from tools import ytt as pinned_ytt


@pytest.fixture
def ytt(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real ytt, which the transform YTT calls, on PATH."""
    folder = pinned_ytt.folder()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "ytt"
