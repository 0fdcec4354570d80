"""MLflow: one parent run a pipeline run, one child run a step, one registered model."""

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from pipeline.databases import binding, in_schema
from pipeline.errors import StepError, TemporaryError
from pipeline.run_identity import git_commit, pipeline_run
from pipeline.settings import settings

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
    _prepare()
    import mlflow
    import mlflow.onnx

    with answering():
        mlflow.set_experiment(settings().model)
    return mlflow


def _prepare() -> None:
    """Set what all need of MLflow, and silence it. Raises StepError."""
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Through the server: else MLflow's client fetches from an S3 store itself, which a step may not be able to reach.
    for name in ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"):
        os.environ.setdefault(name, "false")
    warnings.filterwarnings("ignore", module="mlflow")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise StepError("MLFLOW_TRACKING_URI is not set: `make pipeline` sets it to the local server")
    import mlflow  # noqa: F401 - it sets its logger's level

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # A step's whole answer is one line; MLflow's links would hide it.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn a tracking server that does not answer into a TemporaryError, one that refuses into a StepError."""
    import mlflow.exceptions
    import requests

    try:
        yield
    except (mlflow.exceptions.MlflowException, requests.RequestException) as error:
        reason = str(error).splitlines()[0][:300]
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if _is_away(error):
            raise TemporaryError(f"MLflow at {address} does not answer: {reason}") from error
        raise StepError(f"MLflow at {address} refused: {reason}") from error


def _is_away(error: BaseException | None) -> bool:
    """Whether an error means that the server did not answer, or that it cannot now (5xx, too many requests).

    MLflow's own exception tells neither: what it wraps does.
    """
    import mlflow.exceptions
    import requests

    while error is not None:
        if isinstance(error, requests.exceptions.SSLError):
            return "CERTIFICATE_VERIFY_FAILED" not in str(error)
        if isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
            return True
        if isinstance(error, requests.exceptions.RetryError):
            return True
        if isinstance(error, mlflow.exceptions.RestException):
            return _passes(error.get_http_status_code())
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return _passes(error.response.status_code)
        error = error.__cause__ or error.__context__
    return False


def _passes(status: int) -> bool:
    return status in (408, 429) or (status >= 500 and status != 501)


@functools.cache
def parent_run() -> str:
    """Return the parent run's id: the one tagged with $PIPELINE_RUN, made when it is not there yet."""
    mlflow = load_mlflow()
    name = pipeline_run()
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


def run_of_experiment(step: str, experiment_hash: str) -> str | None:
    """Return the run in which a step made these trainings before, None when there is none."""
    wanted = f"tags.step = '{step}' AND tags.experiment_hash = '{experiment_hash}'"
    client = load_mlflow().MlflowClient()
    with answering():
        found = _runs(client, client.get_experiment_by_name(settings().model), wanted)
    return found[0].info.run_id if found else None


def child_run(parent: str, kind: str, number: int, run_hash: str) -> str:
    """Return the run of one of a step's trainings below the step's run, made where it is not there; it runs now."""
    client = load_mlflow().MlflowClient()
    with answering():
        experiment = client.get_experiment_by_name(settings().model)
        wanted = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.run_hash = '{run_hash}'"
        for found in _runs(client, experiment, wanted):
            client.update_run(found.info.run_id, status="RUNNING")
            return found.info.run_id
        tags = {
            "mlflow.parentRunId": parent,
            "step": kind,
            "run_hash": run_hash,
            "owner": settings().owner,
            "git_commit": git_commit(),
        }
        return client.create_run(experiment.experiment_id, run_name=f"{kind} {number}", tags=tags).info.run_id


def end_child_run(run_id: str, status: str) -> None:
    """End the run of one training: FINISHED or FAILED."""
    with answering():
        load_mlflow().MlflowClient().set_terminated(run_id, status)


def end_pipeline_run(name: str, status: str) -> str:
    """End the runs of a pipeline run as the orchestrator's `status` says, and return what was done.

    A step's run that still runs is one whose process was killed. With no status, the parent run's own stays unless
    it still runs. Makes nothing that is not there yet. Raises StepError.
    """
    _prepare()
    from mlflow import MlflowClient

    with answering(), impatient():
        client = MlflowClient()
        experiment = client.get_experiment_by_name(settings().model)
        found = _runs(client, experiment, f"tags.pipeline_run = '{name}'") if experiment else []
        if not found:
            return "MLflow has no run of that name"
        killed = 0
        for parent in found:
            for child in _running_below(client, experiment, parent.info.run_id):
                client.set_terminated(child.info.run_id, "KILLED")
                killed += 1
            if status:
                client.set_tag(parent.info.run_id, "status", status)
            ended = _ended(parent.info.status, status)
            client.set_terminated(parent.info.run_id, ended)
    return f"MLflow's run is {ended}" + (f", {killed} of its steps KILLED" if killed else "")


def _running_below(client: Any, experiment: Any, run_id: str) -> list[Any]:
    """Return what still runs below a run: steps, and the trainings that a step has below its own run."""
    left = f"tags.`mlflow.parentRunId` = '{run_id}' AND attributes.status = 'RUNNING'"
    found = _runs(client, experiment, left)
    return found + [run for child in found for run in _running_below(client, experiment, child.info.run_id)]


def _ended(before: str, status: str) -> str:
    """Return the parent run's last status."""
    if status:
        return "FINISHED" if status == "Succeeded" else "FAILED"
    return "KILLED" if before == "RUNNING" else before


def _runs(client: Any, experiment: Any, wanted: str) -> list[Any]:
    return list(client.search_runs([experiment.experiment_id], wanted, max_results=1000))


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
        # A server with a login refuses to tell a user anything of a model that is not there.
        if not client.search_registered_models(f"name = '{settings().model}'", max_results=1):
            return None
        try:
            return client.get_model_version_by_alias(settings().model, alias)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise
