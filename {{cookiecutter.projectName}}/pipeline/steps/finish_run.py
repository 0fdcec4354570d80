"""Release a finished run's locks and end its MLflow runs.

An orchestrator calls this step after the last one, however the run of $PIPELINE_RUN ended.
"""

import functools
import os

import psycopg2

from pipeline import liquibase
from pipeline.databases import binding, first_line, may_pass
from pipeline.errors import StepError, TemporaryError
from pipeline.run_identity import pipeline_run
from pipeline.tracking import end_pipeline_run

STATUSES = ("Succeeded", "Failed", "Error")


def run(status: str) -> str:
    """Release the run's locks in both databases and end its runs in MLflow.

    One part that fails does not stop the others; the error at the end names it.

    Args:
        status: the orchestrator's status of the run: Succeeded, Failed, Error or empty

    Raises:
        StepError: a part refused; TemporaryError when a part was away.
    """
    if status not in ("", *STATUSES):
        raise StepError(f"status is {status!r}; allowed is {', '.join(STATUSES)} or nothing")
    if not os.environ.get("PIPELINE_RUN"):
        raise StepError("PIPELINE_RUN is not set, so there is no run to finish")
    name = pipeline_run()
    results: list[str] = []
    errors: list[Exception] = []
    for part in (
        functools.partial(_release, "training"),
        functools.partial(_release, "inference"),
        functools.partial(_end_in_mlflow, name, status),
    ):
        try:
            results.append(part())
        except (StepError, psycopg2.Error) as error:
            results.append(first_line(error))
            errors.append(error)
    sentence = f"run {name} ended{status and f' as {status}'}; {'; '.join(results)}"
    if errors:
        raise (TemporaryError if any(may_pass(error) for error in errors) else StepError)(sentence)
    return sentence


def _release(database: str) -> str:
    name = f"{database}-deployer"
    try:
        binding(name)
    except StepError as error:
        return f"{database} database left alone ({error})"
    is_released = liquibase.release_own_lock(name)
    return f"{database} database: {'lock released' if is_released else 'no lock of this run'}"


def _end_in_mlflow(name: str, status: str) -> str:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return "MLflow left alone (MLFLOW_TRACKING_URI is not set)"
    return end_pipeline_run(name, status)
