"""The real MinIO, an S3 store for the tests, built from the Go modules that go.mod and go.sum pin.

This is the last release that is a Go module; no generated project names it: to them an S3 store is an address.
"""

from pathlib import Path

import go_modules
from installed import installed

HERE = Path(__file__).resolve().parent


def program() -> Path:
    """Return the program `minio`, built in some minutes the first time. Raises CannotInstall."""
    return installed("minio", [HERE / "go.mod", HERE / "go.sum", Path(__file__)], _build) / "minio"


def _build(target: Path) -> None:
    go_modules.build(HERE, target / "minio", "github.com/minio/minio")
