"""MLflow: one parent run per training, one child run per step, one registered model."""

import contextlib
import functools
import logging
import os
import types
import urllib.parse
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import StepError, TemporaryError
from pipeline.run_identity import git_commit, is_named, pipeline_run
from pipeline.settings import settings

# Importing MLflow takes 3 s, so it is imported when it is first used.
if TYPE_CHECKING:
    from mlflow import ActiveRun, MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.entities.model_registry import ModelVersion

# Timeout of a request in seconds, and retries: of a step's own work, and while the step holds a lock.
USUAL = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# MLflow's pages show traces of language models unless the address asks for training runs. Other versions of it
# decide by the experiment's tag.
TRAINING_VIEW = "workflowType=machine_learning"
EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
# Parent runs of this process's steps, in the order of their use: the command line prints the page of the last.
used_parents: list[str] = []


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Shorten the timeouts of MLflow."""
    before = {name: os.environ.get(name, usual) for name, usual in USUAL.items()}
    os.environ.update(IMPATIENT)
    try:
        yield
    finally:
        os.environ.update(before)


@functools.cache
def load_mlflow() -> types.ModuleType:
    """Import MLflow, point it at $MLFLOW_TRACKING_URI and choose the experiment. Raises StepError."""
    _prepare()
    import mlflow
    import mlflow.onnx

    with answering():
        experiment = mlflow.set_experiment(settings().model)
        name, kind = EXPERIMENT_KIND
        if name not in experiment.tags:
            mlflow.set_experiment_tag(name, kind)
    return mlflow


def client() -> "MlflowClient":
    """Return a client of the tracking server and its registry. Raises StepError."""
    load_mlflow()
    from mlflow import MlflowClient

    return MlflowClient()


def _prepare() -> None:
    """Set MLflow's environment and silence its loggers. Raises StepError."""
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A step may not reach the S3 store, so files go through the server; else MLflow's client asks the store itself.
    for name in ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"):
        os.environ.setdefault(name, "false")
    warnings.filterwarnings("ignore", module="mlflow")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise StepError("MLFLOW_TRACKING_URI is not set: `make pipeline` sets it to the local server")
    import mlflow  # noqa: F401 - the import sets its logger's level

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # A step prints one line; MLflow's links would hide it.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raise TemporaryError when the tracking server does not answer, StepError when it refuses."""
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
    """Return whether an error means that the server did not answer, or that it cannot now (5xx, too many requests).

    MLflow's own exception does not say; the exception that it wraps does.
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
            return _may_pass(error.get_http_status_code())  # type: ignore[no-untyped-call]
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return _may_pass(error.response.status_code)
        error = error.__cause__ or error.__context__
    return False


def _may_pass(status: int) -> bool:
    """Return whether a later request may succeed after this HTTP status."""
    return status in (408, 429) or (status >= 500 and status != 501)


def parent_run(run_hash: str = "") -> str:
    """Return the id of the parent run of this pipeline run, or of one of its trainings; create it when it is missing.

    A pipeline run that trains twice has a parent run per training. A step that runs alone, without $PIPELINE_RUN,
    belongs to the parent run under which the training ran.
    """
    mlflow_client = client()
    experiment = _experiment(mlflow_client)
    name = pipeline_run()
    # The newest comes first.
    parents = _runs(mlflow_client, experiment, f"tags.pipeline_run = '{name}'")
    if not parents and not is_named():
        if used_parents and not run_hash:
            return used_parents[-1]
        trained = _runs(mlflow_client, experiment, f"tags.run_hash = '{run_hash}'") if run_hash else []
        parents = [run for run in trained if "pipeline_run" in run.data.tags]
    known = chosen_parent(parents, run_hash)
    if known:
        return known
    tags = {
        "pipeline_run": name,
        "owner": settings().owner,
        "git_commit": git_commit(),
        # The columns of MLflow's list of runs.
        "mlflow.source.name": settings().project_name,
        "mlflow.source.type": "PROJECT",
        "mlflow.source.git.commit": git_commit(),
    }
    created = mlflow_client.create_run(experiment.experiment_id, run_name=f"pipeline {name}", tags=tags)
    return str(created.info.run_id)


def chosen_parent(parents: "Sequence[Run]", run_hash: str) -> str | None:
    """Return the id of a training's parent run: its own, else one without a training; without a hash, the first."""
    if not run_hash:
        return str(parents[0].info.run_id) if parents else None
    for wanted in (run_hash, None):
        for run in parents:
            if run.data.tags.get("run_hash") == wanted:
                return str(run.info.run_id)
    return None


def page_of(run_id: str) -> str:
    """Return the address of a run's page, without a password that MLflow's address may hold."""
    address = urllib.parse.urlsplit(os.environ["MLFLOW_TRACKING_URI"])
    place = urllib.parse.urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))
    mlflow_client = client()
    with answering():
        experiment = _experiment(mlflow_client).experiment_id
    return f"{place.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}?{TRAINING_VIEW}"


@contextlib.contextmanager
def step_run(step: str, run_id: str | None = None, **tags: str) -> Iterator["ActiveRun"]:
    """Open the step's child run, or the run `run_id` of an earlier try of the same work.

    A run started by `mlflow run` ($MLFLOW_RUN_ID) becomes the child. An error inside marks the run as failed.
    Raises StepError when MLflow refuses, TemporaryError when it is away.
    """
    mlflow = load_mlflow()
    with answering(), parent_follows(tags.get("run_hash", "")) as parent:
        tags = {
            "mlflow.parentRunId": parent,
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
    """Return the run that `mlflow run` created for this step, None when the project's experiment has none.

    Without --experiment-name it lies in another experiment, and MLflow would refuse to resume it.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    mlflow_client = client()
    if mlflow_client.get_run(run_id).info.experiment_id == _experiment(mlflow_client).experiment_id:
        return run_id
    del os.environ["MLFLOW_RUN_ID"]  # start_run would use it
    return None


@contextlib.contextmanager
def parent_follows(run_hash: str = "") -> Iterator[str]:
    """Yield the id of the parent run, which afterwards has the status of this step; see parent_run."""
    mlflow_client = client()
    parent = parent_run(run_hash)
    used_parents.append(parent)
    try:
        yield parent
    except BaseException:
        mlflow_client.set_terminated(parent, "FAILED")
        raise
    mlflow_client.set_terminated(parent)


def run_of_experiment(step: str, experiment_hash: str) -> str | None:
    """Return the run of an earlier try of a step with the same trainings, None when there is none."""
    condition = f"tags.step = '{step}' AND tags.experiment_hash = '{experiment_hash}'"
    mlflow_client = client()
    with answering():
        runs = _runs(mlflow_client, _experiment(mlflow_client), condition)
    return str(runs[0].info.run_id) if runs else None


def child_run(parent: str, kind: str, number: int, run_hash: str) -> str:
    """Return the run of one training below the step's run `parent`, created when missing, with status RUNNING."""
    mlflow_client = client()
    with answering():
        experiment = _experiment(mlflow_client)
        condition = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.run_hash = '{run_hash}'"
        for run in _runs(mlflow_client, experiment, condition):
            mlflow_client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        tags = {
            "mlflow.parentRunId": parent,
            "step": kind,
            "run_hash": run_hash,
            "owner": settings().owner,
            "git_commit": git_commit(),
        }
        created = mlflow_client.create_run(experiment.experiment_id, run_name=f"{kind} {number}", tags=tags)
        return str(created.info.run_id)


def end_child_run(run_id: str, status: str) -> None:
    """End the run of one training: FINISHED or FAILED."""
    with answering():
        client().set_terminated(run_id, status)


def end_pipeline_run(name: str, status: str) -> str:
    """End the runs of a pipeline run with the orchestrator's `status`, and return a sentence about them.

    A step's run that still runs belongs to a killed process. With an empty status, the parent run keeps its own
    unless it still runs. Creates no run. Raises StepError.
    """
    _prepare()
    from mlflow import MlflowClient

    with answering(), impatient():
        mlflow_client = MlflowClient()
        experiment = mlflow_client.get_experiment_by_name(settings().model)
        parents = _runs(mlflow_client, experiment, f"tags.pipeline_run = '{name}'") if experiment else []
        if experiment is None or not parents:
            return "MLflow has no run of that name"
        killed = 0
        for parent in parents:
            for child in _running_below(mlflow_client, experiment, parent.info.run_id):
                mlflow_client.set_terminated(child.info.run_id, "KILLED")
                killed += 1
            if status:
                mlflow_client.set_tag(parent.info.run_id, "status", status)
            last_status = _last_status(parent.info.status, status)
            mlflow_client.set_terminated(parent.info.run_id, last_status)
    return f"MLflow's run is {last_status}" + (f", {killed} of its steps KILLED" if killed else "")


def _running_below(mlflow_client: "MlflowClient", experiment: "Experiment", run_id: str) -> "list[Run]":
    """Return the running runs below a run: steps, and the trainings below a step's run."""
    condition = f"tags.`mlflow.parentRunId` = '{run_id}' AND attributes.status = 'RUNNING'"
    children = _runs(mlflow_client, experiment, condition)
    below = [run for child in children for run in _running_below(mlflow_client, experiment, child.info.run_id)]
    return children + below


def _last_status(before: str, status: str) -> str:
    """Return MLflow's last status of the parent run, from its present one and the orchestrator's."""
    if status:
        return "FINISHED" if status == "Succeeded" else "FAILED"
    return "KILLED" if before == "RUNNING" else before


def _experiment(mlflow_client: "MlflowClient") -> "Experiment":
    """Return the project's experiment, which load_mlflow creates. Raises StepError when it was removed since."""
    experiment = mlflow_client.get_experiment_by_name(settings().model)
    if experiment is None:
        raise StepError(f"MLflow's experiment {settings().model} was removed while the step ran: run the step again")
    return experiment


def _runs(mlflow_client: "MlflowClient", experiment: "Experiment", condition: str) -> "list[Run]":
    return list(mlflow_client.search_runs([experiment.experiment_id], condition, max_results=1000))


def has_registered_model(mlflow_client: "MlflowClient") -> bool:
    """Return whether the registry has the project's model.

    A server with a login refuses every other question about a model that does not exist.
    """
    return bool(mlflow_client.search_registered_models(f"name = '{settings().model}'", max_results=1))


def registered_alias(alias: str) -> "ModelVersion | None":
    """Return the registered model's version that holds the alias, None when there is none."""
    mlflow_client = client()
    from mlflow.exceptions import MlflowException

    with answering():
        if not has_registered_model(mlflow_client):
            return None
        try:
            return mlflow_client.get_model_version_by_alias(settings().model, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise
