"""Fixtures of the engine's tests."""

import os
from pathlib import Path

import pytest
from tools import ytt as pinned_ytt


@pytest.fixture
def ytt(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the pinned ytt on PATH and return its path."""
    folder = pinned_ytt.folder()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "ytt"
