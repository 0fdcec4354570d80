"""The lock file of an image, which must be the lock file of the commit that runs in it."""

import functools
import os
import pathlib

from pipeline.errors import StepError

# The variable that names the image's own copy of the lock file it was built from; the image sets it.
LOCK = "ENVIRONMENT_LOCK"
COMMITTED = pathlib.Path(__file__).resolve().parent.parent / "requirements" / "pipeline.txt"
# An image other than the pipeline's sets where its own name is written.
NAMED_IN = os.environ.get("IMAGE_NAMED_IN") or "deploy/values.yaml (pipeline.image)"
REBUILD_HINT = f"rebuild the image from this commit and name it in {NAMED_IN}"


@functools.cache
def require_own_lock() -> None:
    """Check that the image was built from the commit's lock file; outside an image, do nothing.

    Raises StepError when the two files differ or one cannot be read.
    """
    image_lock = os.environ.get(LOCK)
    if not image_lock:
        return
    built_from = _read(pathlib.Path(image_lock), f"{LOCK} names {image_lock}, which")
    if built_from != _read(COMMITTED, str(COMMITTED)):
        raise StepError(f"the image was built from another lock file than requirements/pipeline.txt: {REBUILD_HINT}")


def _read(path: pathlib.Path, subject: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StepError(f"{subject} cannot be read: {error.strerror}; {REBUILD_HINT}") from error
