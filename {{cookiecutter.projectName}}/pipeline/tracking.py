"""MLflow: one parent run a pipeline run, one child run a step, one registered model."""

import contextlib
import functools
import logging
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

from pipeline.databases import binding, in_schema
from pipeline.errors import StepError
from pipeline.settings import git_commit, settings

# Seconds for an answer, and tries after the first: of a step's work, and while something is locked or waits.
USUAL = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Ask MLflow for a short time only."""
    kept = {name: os.environ.get(name, usual) for name, usual in USUAL.items()}
    os.environ.update(IMPATIENT)
    try:
        yield
    finally:
        os.environ.update(kept)


@functools.cache
def load_mlflow() -> Any:
    """Import MLflow (3 s), point it at $MLFLOW_TRACKING_URI and choose the experiment. Raises StepError."""
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.filterwarnings("ignore", module="mlflow")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise StepError("MLFLOW_TRACKING_URI is not set: `make pipeline` sets it to the local server")
    import mlflow
    import mlflow.onnx

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # A step's whole answer is one line; MLflow's links would hide it.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with answering():
        mlflow.set_experiment(settings().model)
    return mlflow


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn a tracking server that does not answer or refuses into a StepError."""
    import mlflow.exceptions
    import requests

    try:
        yield
    except (mlflow.exceptions.MlflowException, requests.RequestException) as error:
        reason = str(error).splitlines()[0][:300]
        raise StepError(
            f"MLflow at {os.environ.get('MLFLOW_TRACKING_URI')} refused or does not answer: {reason}"
        ) from error


@functools.cache
def parent_run() -> str:
    """Return the parent run's id: the one tagged with $PIPELINE_RUN, made when it is not there yet."""
    mlflow = load_mlflow()
    name = os.environ.setdefault("PIPELINE_RUN", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(settings().model).experiment_id
    found = client.search_runs([experiment], f"tags.pipeline_run = '{name}'", max_results=1)
    if found:
        return found[0].info.run_id
    tags = {"pipeline_run": name, "owner": settings().owner, "git_commit": git_commit()}
    return client.create_run(experiment, run_name=f"pipeline {name}", tags=tags).info.run_id


@contextlib.contextmanager
def step_run(step: str, run_id: str | None = None, **tags: str) -> Iterator[Any]:
    """Open the step's child run, or the run `run_id` of an earlier try of the same work.

    A run started by `mlflow run` ($MLFLOW_RUN_ID) becomes the child. Raises StepError when MLflow is away;
    an error inside marks the run as failed.
    """
    mlflow = load_mlflow()
    with answering(), _parent_follows():
        tags = {
            "mlflow.parentRunId": parent_run(),
            "step": step,
            "owner": settings().owner,
            "git_commit": git_commit(),
            **tags,
        }
        run = mlflow.start_run(run_id=run_id or _run_of_mlflow(), run_name=step, tags=tags)
        if run_id:
            mlflow.set_tags(tags)
        with run:
            yield run


def _run_of_mlflow() -> str | None:
    """Return the run that `mlflow run` made for this step, None when there is none in the project's experiment.

    Without --experiment-name it lies in another one, and MLflow would refuse to go on with it.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    client = load_mlflow().MlflowClient()
    experiment = client.get_experiment_by_name(settings().model).experiment_id
    if client.get_run(run_id).info.experiment_id == experiment:
        return run_id
    del os.environ["MLFLOW_RUN_ID"]  # start_run would take it
    return None


@contextlib.contextmanager
def _parent_follows() -> Iterator[None]:
    """Let the parent run end as its last step did."""
    client = load_mlflow().MlflowClient()
    try:
        yield
    except BaseException:
        client.set_terminated(parent_run(), "FAILED")
        raise
    client.set_terminated(parent_run())


def dataset_input(data_hash: str) -> Any:
    """Describe the uploaded data set to MLflow: where it lies, and its digest."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = CodeDatasetSource({"table": in_schema("{schema}.dataset_batch"), "database": binding("trainer").where})
    return MetaDataset(source, name=settings().model, digest=data_hash[:32])


def registered_alias(alias: str) -> Any:
    """Return the registered model's version that holds the alias, None when none does."""
    mlflow = load_mlflow()
    client = mlflow.MlflowClient()
    with answering():
        try:
            return client.get_model_version_by_alias(settings().model, alias)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise
