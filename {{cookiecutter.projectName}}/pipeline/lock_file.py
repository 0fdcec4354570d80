"""The image that a step runs in holds the environment alone, and must hold the one that the commit asks for."""

import functools
import os
import pathlib

from pipeline.errors import StepError

# The image's own copy of the lock file it was built from; the image sets it.
LOCK = "ENVIRONMENT_LOCK"
WANTED = pathlib.Path(__file__).resolve().parent.parent / "requirements" / "pipeline.txt"
# Where an image other than the pipeline's is named: that image sets it.
NAMED_IN = os.environ.get("IMAGE_NAMED_IN") or "deploy/values.yaml (pipeline.image)"
MEND = f"build the image anew from this commit and name it in {NAMED_IN}"


@functools.cache
def require_own_lock() -> None:
    """Raise StepError when the image was built from another lock file than the commit's; nothing outside of one."""
    given = os.environ.get(LOCK)
    if given and _read(pathlib.Path(given), f"{LOCK} names {given}, which") != _read(WANTED, str(WANTED)):
        raise StepError(f"the image was built from another lock file than requirements/pipeline.txt: {MEND}")


def _read(path: pathlib.Path, told: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StepError(f"{told} cannot be read: {error.strerror}; {MEND}") from error
