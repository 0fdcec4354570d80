"""Step finish_run: what an orchestrator calls when a run is over, however it ended: nothing stays locked or open."""

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
    """Release what the run of $PIPELINE_RUN has locked in the databases and end its runs in MLflow.

    `status` is the orchestrator's, or empty. What is away keeps nothing else from being done, and is told at the end:
    raises TemporaryError then, StepError when something refused.
    """
    if status not in ("", *STATUSES):
        raise StepError(f"status is {status!r}; allowed is {', '.join(STATUSES)} or nothing")
    if not os.environ.get("PIPELINE_RUN"):
        raise StepError("PIPELINE_RUN is not set, so there is no run to finish")
    name = pipeline_run()
    told, errors = [], []
    for work in (
        functools.partial(_release, "training"),
        functools.partial(_release, "inference"),
        functools.partial(_end_in_mlflow, name, status),
    ):
        try:
            told.append(work())
        except (StepError, psycopg2.Error) as error:
            told.append(first_line(error))
            errors.append(error)
    answer = f"run {name} ended{status and f' as {status}'}; {'; '.join(told)}"
    if errors:
        raise (TemporaryError if any(may_pass(error) for error in errors) else StepError)(answer)
    return answer


def _release(database: str) -> str:
    name = f"{database}-deployer"
    try:
        binding(name)
    except StepError as error:
        return f"{database} database left alone ({error})"
    released = liquibase.release_own_lock(name)
    return f"{database} database: {'lock released' if released else 'no lock of this run'}"


def _end_in_mlflow(name: str, status: str) -> str:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return "MLflow left alone (MLFLOW_TRACKING_URI is not set)"
    return end_pipeline_run(name, status)
