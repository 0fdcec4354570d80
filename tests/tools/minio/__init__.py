"""MinIO, an S3 store for the tests, built from the Go modules that go.mod and go.sum pin.

The pinned release is the last one that is a Go module. No generated project refers to MinIO: a project knows its S3
store only by address.
"""

from pathlib import Path

from tools import go_modules
from tools.installed import installed

HERE = Path(__file__).resolve().parent


def program() -> Path:
    """Return the program `minio`; the first call builds it within minutes. Raises CannotInstall."""
    return installed("minio", [HERE / "go.mod", HERE / "go.sum", Path(__file__)], _build) / "minio"


def _build(target: Path) -> None:
    go_modules.build(HERE, target / "minio", "github.com/minio/minio")
