"""What the tests of the engine need beside it."""

import shutil

import pytest


@pytest.fixture(scope="session")
def ytt() -> str:
    """The real ytt, which the transform YTT calls (a placeholder: it does not build one)."""
    program = shutil.which("ytt")
    assert program is not None, "these tests need the program ytt (carvel.dev/ytt) on PATH"
    return program
