"""Adopt a version that somebody else registered in MLflow.

Adopted versions may be promoted and served. Versions that promote_model registered need no adoption.
"""

import json
import textwrap

import numpy as np

from pipeline import doctor, run_identity, training_db
from pipeline.data import source
from pipeline.databases import Connection, binding, session
from pipeline.errors import StepError
from pipeline.registry import aliases, onnx_export, registered_versions, round_trip
from pipeline.registry.registered_versions import RegisteredModel
from pipeline.tracking import load_mlflow, step_run
from pipeline.training_db import FinishedRun, TrainingData


def run(version: int) -> str:
    """Check a registered version, and record its hashes and who adopted it in the training database.

    Args:
        version: the number of the version in MLflow's registry

    Raises:
        StepError: there is no such version, or the app could not serve it.
    """
    if version < 1:
        raise StepError(f"version is {version}; name a registered version, as in `./run adopt_model --version 3`")
    doctor.require(doctor.trainer, doctor.mlflow_server)
    connection = session("trainer")
    registered_versions.require_table(connection)
    registered = aliases.require_version(version)
    model = registered_versions.download(registered)
    with connection:
        if registered_versions.is_known(connection, model):
            return f"the training database knows version {version} already"
        if registered_versions.is_taken(connection, version):
            raise StepError(
                f"the training database knows another model as version {version}: register this one again, so that "
                "MLflow gives it a new number"
            )
        training_db.prepare_session(connection, binding("trainer").is_greenplum)
        trained = training_db.finished_run_of(connection, registered_versions.tagged_run_hash(registered))
    _check(connection, model, trained)
    person = run_identity.person()
    with connection:
        registered_versions.record(connection, model, trained.run_hash if trained else None, person)
    with step_run("adopt_model", data_hash=model.metadata["data_hash"]):
        load_mlflow().log_params({"adopted_version": version, "adopted_by": person})
    origin = "a training of this database" if trained else "elsewhere"
    return (
        f"version {version}, which comes from {origin}, was checked and adopted by {person}; "
        f"`./run promote_model --version {version} deploy_inference_db` serves it"
    )


def _check(connection: Connection, model: RegisteredModel, trained: FinishedRun | None) -> None:
    """Raise StepError unless the app can serve a version, and it answers as the training from which it comes."""
    if trained:
        _require_same_data(model, trained.data)
        _require_same_answers(connection, model, trained)
        return
    with connection:
        data = training_db.current_data(connection)
    _require_same_data(model, data)
    _require_probabilities(model)


def _require_same_data(model: RegisteredModel, data: TrainingData) -> None:
    """Raise StepError unless the version takes the rows of a data set and gives its classes."""
    metadata = model.metadata
    expected = {"classes": data.classes, "input_shape": list(data.shape), "input_dtype": data.dtype}
    if data.encoding:
        expected["encoding"] = data.encoding
    for name, value in expected.items():
        if metadata.get(name) != value:
            given, needed = (
                textwrap.shorten(json.dumps(part, ensure_ascii=False), 100, placeholder=" …")
                for part in (metadata.get(name), value)
            )
            raise StepError(
                f"version {model.version} has {given} as {name} in its metadata, and the data set has {needed}: "
                "register a version that was trained for this data"
            )


def _require_same_answers(connection: Connection, model: RegisteredModel, trained: FinishedRun) -> None:
    """Raise StepError unless the version answers as the training that its tag run_hash names."""
    config = training_db.evaluation_config(trained.architecture.json, trained.data, binding("trainer").is_greenplum)
    with connection:
        served = source.served_rows(connection, trained, config)
    reason = round_trip.refusal(model.onnx, served)
    if reason:
        raise StepError(
            f"version {model.version} is not the model of the training that its tag run_hash names: {reason}; "
            "register it without this tag to adopt it as a model from elsewhere"
        )


def _require_probabilities(model: RegisteredModel) -> None:
    """Raise StepError unless the version gives one probability per class."""
    shape, dtype = tuple(model.metadata["input_shape"]), model.metadata["input_dtype"]
    expected = (onnx_export.CHECKED_ROWS, len(model.metadata["classes"]))
    try:
        answers = np.asarray(
            onnx_export.probabilities(model.onnx, np.zeros((onnx_export.CHECKED_ROWS, *shape), dtype)), "f4"
        )
    except Exception as error:
        # ONNX Runtime raises any kind of exception, and its answer may be no array of numbers.
        reason = onnx_export.type_and_first_line(error)
        raise StepError(
            f"ONNX Runtime cannot compute version {model.version} with an input named images: {reason}"
        ) from error
    if answers.shape != expected:
        raise StepError(f"version {model.version} returns an array of shape {answers.shape}; {expected} is required")
    if not np.allclose(answers.sum(axis=1), 1, atol=1e-3) or answers.min() < 0:
        raise StepError(
            f"version {model.version} returns numbers that are not probabilities; they must be at least 0 and sum to 1 "
            "per row"
        )
