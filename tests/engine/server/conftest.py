"""A served accelerator and its client."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from accelerator_engine.server import (
    Library,
)

from .client import Client, make_local_files, running


@pytest.fixture(scope="module")
def local_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read-only folder with an accelerator and a fragment."""
    return make_local_files(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def client(local_files: Path) -> Iterator[Client]:
    """A client of a server of this folder."""
    with running(Library(local_files=local_files)) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that the server logs its own failures only, not the mistakes of users."""
    yield
    warnings = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert bool(warnings) == ("fails_on_purpose" in request.fixturenames), warnings


@pytest.fixture
def fails_on_purpose() -> None:
    """Mark a test that makes the server fail."""
