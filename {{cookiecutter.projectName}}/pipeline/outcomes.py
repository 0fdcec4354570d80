"""Outcomes of a step, which an orchestrator reads to decide what runs next."""

import os
import pathlib

from pipeline.errors import StepError


def write_outcome(name: str, value: str) -> None:
    """Write an outcome to the file $STEP_OUTPUTS/<name>; without that variable, do nothing.

    Raises StepError when the file cannot be written: the orchestrator would decide without it.
    """
    folder = os.environ.get("STEP_OUTPUTS")
    if not folder:
        return
    path = pathlib.Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value, encoding="utf-8")
    except OSError as error:
        raise StepError(f"STEP_OUTPUTS is {folder}; {path} cannot be written: {error.strerror}") from error
