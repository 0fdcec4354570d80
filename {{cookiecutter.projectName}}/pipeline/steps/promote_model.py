"""Promote the candidate, or the version that you name.

The candidate gets the stage's alias if its scores on the holdout deserve it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from pipeline import doctor, interrupts, parent_runs, training_db
from pipeline.data import source
from pipeline.data.splits import FEEDBACK
from pipeline.databases import Connection, binding, session
from pipeline.errors import StepError
from pipeline.outcomes import write_outcome
from pipeline.predictions import correct_rows
from pipeline.records import Scores
from pipeline.registry import aliases, onnx_export, registered_versions, round_trip
from pipeline.registry.model_metadata import Metadata
from pipeline.registry.paired_comparison import Comparison, compare
from pipeline.registry.registered_versions import KnownVersion, RegisteredModel
from pipeline.registry.summaries import accuracy_summary, version_description, version_tags
from pipeline.settings import chosen_stage, settings
from pipeline.tracking import answering, client, has_registered_model, load_mlflow, registered_alias, step_run
from pipeline.training.checkpoints import best_row
from pipeline.training_db import Examples, FinishedRun, TrainingData

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo


class Promotion(NamedTuple):
    """The step's outcome and a sentence with the reason."""

    promoted: bool
    reason: str


class Judgement(NamedTuple):
    """Why the candidate must not hold the alias, None when it may; and a remark about its promotion.

    `comparisons` has the comparison with the served version per split, where there was one.
    """

    refusal: str | None
    remark: str = ""
    comparisons: Mapping[str, Comparison] = MappingProxyType({})


class Metrics(TypedDict):
    """Scores on the holdout under the names of MLflow's metrics."""

    accuracy_score: float
    f1_score: float
    loss: float


def run(version: int, stage: str) -> Promotion:
    """Give the stage's alias to the candidate if it deserves it, or to a version.

    Args:
        version: a registered version to promote whatever its scores; 0 for the candidate
        stage: staging or production; empty for the project's own

    Raises:
        StepError: a value is not allowed, there is no such version or candidate, or the export failed.
    """
    stage = chosen_stage(stage)
    if version < 0:
        raise StepError(f"version is {version}; allowed is 0 (the candidate) or a registered version")
    doctor.require(doctor.mlflow_server)
    promotion = _promote_version(version, stage) if version else _promote_candidate(stage)
    write_outcome("promoted", "true" if promotion.promoted else "false")
    return promotion


def _promote_version(version: int, stage: str) -> Promotion:
    """Promote a version whatever its scores. Raises StepError when the training database does not know it."""
    registered = aliases.require_version(version)
    doctor.require(doctor.trainer)
    connection = session("trainer")
    registered_versions.require_table(connection)
    with connection:
        known = registered_versions.known_version(connection, registered)
    if known is None:
        raise StepError(registered_versions.unknown_version_message(version))
    # A version adopted from elsewhere belongs to no training of this database.
    tags = {"run_hash": known.run_hash} if known.run_hash else {}
    with step_run("promote_model", **tags):
        interrupts.check()
        aliases.record_manual_promotion(stage, version)
        client().set_registered_model_alias(settings().model, stage, str(version))
        _log_decision(version, stage, True)
    return Promotion(True, f"version {version} now holds {stage}")


def _log_decision(version: int, stage: str, promoted: bool) -> None:
    """Log the decision; `mlflow run` has logged the step's parameters under their own names."""
    load_mlflow().log_params({"decided_version": version, "decided_stage": stage, "promoted": promoted})


def _promote_candidate(stage: str) -> Promotion:
    doctor.require(doctor.trainer)
    connection = session("trainer")
    registered_versions.require_table(connection)
    with connection:
        training_db.prepare_session(connection, binding("trainer").is_greenplum)
        candidate = training_db.finished_run(connection)
        config = training_db.evaluation_config(
            candidate.architecture.json, candidate.data, binding("trainer").is_greenplum
        )
        scores = training_db.evaluate(connection, candidate.data.dataset, "holdout", candidate.weights, config)
    current = registered_alias(stage)
    version = _registered_version(connection, candidate)
    refusal, exported = None, b""
    if version is None or current is None or int(current.version) != version:
        refusal, exported = _checked_export(connection, candidate, config)
    judgement = Judgement(refusal)
    if refusal is None:
        judgement = _judgement(connection, candidate, version, scores, current, stage)
    tags = {"data_hash": candidate.data.data_hash, "run_hash": candidate.run_hash}
    with step_run("promote_model", **tags):
        _log_metrics(connection, candidate, scores)
        _log_comparisons(judgement.comparisons)
        version = version or _register(connection, candidate, scores, exported)
        load_mlflow().set_tag("reason", judgement.refusal or accuracy_summary(scores) + judgement.remark)
        _log_decision(version, stage, judgement.refusal is None)
    if judgement.refusal:
        return Promotion(False, f"version {version} is not promoted: {judgement.refusal}")
    if current and int(current.version) == version:
        return Promotion(True, f"version {version} holds {stage} already ({accuracy_summary(scores)})")
    interrupts.check()
    with answering():
        client().set_registered_model_alias(settings().model, stage, str(version))
    return Promotion(True, f"version {version} now holds {stage} ({accuracy_summary(scores)}{judgement.remark})")


def _checked_export(connection: Connection, candidate: FinishedRun, config: str) -> tuple[str | None, bytes]:
    """Return the reason for which the app cannot serve the candidate, None when it can, and the ONNX file.

    Rows of the validation split go through the app's own decoding and the ONNX model. The app must answer them as the
    training database does.
    Raises StepError when ONNX computes another answer than Keras.
    """
    with connection:
        served = source.served_rows(connection, candidate, config)
    model = onnx_export.keras_model(candidate.architecture.json, candidate.weights)
    exported = onnx_export.export(model, candidate.data.dtype, served.rows)
    return round_trip.refusal(exported, served), exported


def _log_metrics(connection: Connection, candidate: FinishedRun, scores: Scores) -> None:
    """Log the scores on the holdout with the step's run, and with the row of the training."""
    load_mlflow().log_metrics(_metrics(scores))
    with connection:
        epochs = training_db.epoch_rows(connection, candidate.run_hash)
    row = parent_runs.describe(candidate, best_row(epochs))
    parent_runs.log_scores(row, **_metrics(scores))


def _log_comparisons(comparisons: Mapping[str, Comparison]) -> None:
    """Log the accuracies of both models per split, as served_holdout_accuracy and the like."""
    for split, comparison in comparisons.items():
        accuracies = {"candidate": comparison.candidate, "served": comparison.served}
        load_mlflow().log_metrics({f"{model}_{split}_accuracy": value for model, value in accuracies.items()})


def _metrics(scores: Scores) -> Metrics:
    return {"accuracy_score": scores["accuracy"], "f1_score": scores["f1"], "loss": scores["loss"]}


def _judgement(
    connection: Connection,
    candidate: FinishedRun,
    version: int | None,
    scores: Scores,
    current: "ModelVersion | None",
    stage: str,
) -> Judgement:
    """Decide whether the candidate may hold the alias.

    `version` is the candidate's if it is registered already, `current` the version that holds the alias.
    """
    minimum = settings().minimum_accuracy
    if scores["accuracy"] < minimum:
        return Judgement(
            f"its {accuracy_summary(scores)} is below the minimum {minimum:g} (project.yaml: minimumAccuracy)"
        )
    known: KnownVersion | None = None
    if current:
        with connection:
            known = registered_versions.known_version(connection, current)
    if known and known.run_hash == candidate.run_hash:
        return Judgement(None)
    if current and known is None and registered_versions.tagged_run_hash(current) == candidate.run_hash:
        # The training database was emptied, and the same training was repeated: nothing is lost with the alias.
        return Judgement(None)
    rolled_back = aliases.rolled_back_at(stage, version) if version else None
    if rolled_back:
        by_hand = f"`./run promote_model --version {version} --stage {stage}`"
        return Judgement(f"it was rolled back from {stage} at {rolled_back}; {by_hand} promotes it all the same")
    if current is None:
        return Judgement(None)
    not_comparable = f"it cannot be compared with version {current.version}, which keeps {stage}"
    if known is None:
        return Judgement(f"{not_comparable}: {registered_versions.unknown_version_message(int(current.version))}")
    if known.run_hash is None:
        by_hand = f"`./run promote_model --version NUMBER --stage {stage}` replaces it"
        return Judgement(f"{not_comparable}: {known.adopted_by} adopted it from elsewhere; {by_hand}")
    return _compared(connection, candidate, known.run_hash, f"version {current.version}", stage)


def _compared(connection: Connection, candidate: FinishedRun, run_hash: str, served: str, stage: str) -> Judgement:
    """Decide by a comparison with the served version, called `served`, which comes from the training `run_hash`.

    The data set's own holdout decides. Rows from feedback may refuse a candidate, and lift the limit of one point if
    the candidate is better on them; both only if a person reviewed their labels.
    """
    comparisons = _comparisons(connection, candidate, run_hash)
    if comparisons is None:
        return Judgement(None, f"; not compared with {served}, which takes other data")
    own = comparisons["holdout"]
    # Only labels that a person reviewed have a say: they teach what the holdout does not show.
    reviewed = comparisons.get(FEEDBACK) if settings().monitoring.labels == "reviewed" else None
    has_learned = reviewed is not None and reviewed.candidate > reviewed.served
    is_worse = own.is_significantly_worse or (own.loses_too_much and not has_learned)
    is_vetoed = reviewed is not None and reviewed.is_significantly_worse
    if is_worse or is_vetoed:
        worse, kind = (own, "held-out") if is_worse or reviewed is None else (reviewed, "labelled")
        refusal = (
            f"its accuracy {worse.candidate:.4f} on {worse.rows} {kind} rows is worse than {worse.served:.4f} of "
            f"{served}, which keeps {stage}"
        )
        return Judgement(refusal, comparisons=comparisons)
    remark = f"; {served} has {own.served:.4f}, which is within chance" if own.candidate < own.served else ""
    return Judgement(None, remark, comparisons)


def _comparisons(connection: Connection, candidate: FinishedRun, run_hash: str) -> dict[str, Comparison] | None:
    """Return the comparison with an earlier training's model, on the candidate's holdout and its labelled rows.

    None when the served model answers another question (see source.features_for). Architecture and weights come from
    the training database itself. Raises StepError when it no longer holds the training.
    """
    greenplum = binding("trainer").is_greenplum
    with connection:
        served = training_db.finished_run_of(connection, run_hash)
        if served is None:
            raise StepError(
                f"the training database no longer holds the training {run_hash[:12]} of the served version: "
                "`./run promote_model --version NUMBER` promotes a version without a comparison"
            )
        features = source.features_for(served.data, candidate.data)
        if features is None:
            return None
        data = candidate.data._replace(shape=served.data.shape)
        ours = training_db.evaluation_config(candidate.architecture.json, candidate.data, greenplum)
        theirs = training_db.evaluation_config(served.architecture.json, data, greenplum)
        return {
            split: compare(
                correct_rows(connection, candidate.data, split, candidate.weights, ours),
                correct_rows(connection, data, split, served.weights, theirs, features),
            )
            for split in ("holdout", FEEDBACK)
            if candidate.data.split_rows.get(split)
        }


def _registered_version(connection: Connection, candidate: FinishedRun) -> int | None:
    """Return the version under which this training is registered, None when it is not.

    The training database and MLflow must both say so: MLflow may be another server by now.
    """
    with connection:
        versions = registered_versions.versions_of(connection, candidate.run_hash)
    for version in versions:
        registered = aliases.registered_version(version)
        if registered and registered.tags.get("run_hash") == candidate.run_hash:
            return version
    return None


def _register(connection: Connection, candidate: FinishedRun, scores: Scores, exported: bytes) -> int:
    """Log and register the candidate as ONNX with its metadata; return the version. Raises StepError."""
    data = candidate.data
    with connection:
        examples = source.examples(connection, data)
    row = parent_runs.row_of(candidate)
    metadata = _metadata(candidate, scores, examples)
    onnx, model_uri, model_id = _log_onnx(exported, data, examples, metadata, row)
    with answering():
        mlflow_client = client()
        if not has_registered_model(mlflow_client):
            mlflow_client.create_registered_model(
                settings().model, tags={"owner": settings().owner}, description=settings().description
            )
    version = _new_version(connection, candidate, scores, row, model_uri, model_id)
    with connection:
        model = RegisteredModel(version, onnx, metadata, row)
        registered_versions.record(connection, model, candidate.run_hash)
    return version


def _new_version(
    connection: Connection, candidate: FinishedRun, scores: Scores, row: str, model_uri: str, model_id: str
) -> int:
    """Register a logged model, and return its number, which no other model of this project ever had.

    A registry that was emptied counts from 1 again, and the inference database may hold those versions. Versions with
    a number that is taken are deleted.
    """
    mlflow_client = client()
    while True:
        with answering():
            created = mlflow_client.create_model_version(
                settings().model,
                model_uri,
                row,
                tags=version_tags(candidate),
                description=version_description(candidate, scores),
                model_id=model_id,
            )
        with connection:
            if not registered_versions.is_taken(connection, int(created.version)):
                return int(created.version)
        with answering():
            mlflow_client.delete_model_version(settings().model, created.version)


def _metadata(candidate: FinishedRun, scores: Scores, examples: Examples) -> Metadata:
    """Return the metadata that deploy_inference_db stores beside the ONNX file."""
    data = candidate.data
    metadata: Metadata = {
        "classes": data.classes,
        "input_shape": list(data.shape),
        "input_dtype": data.dtype,
        "metrics": {
            **_metrics(scores),
            "rows": scores["rows"],
            "confusion_matrix": scores["confusion_matrix"],
        },
        "training_statistics": data.statistics,
        "samples": examples.samples,
        "data_hash": data.data_hash,
        "git_commit": candidate.git_commit,
    }
    if data.encoding:
        metadata["encoding"] = data.encoding
    return metadata


def _log_onnx(
    exported: bytes, data: TrainingData, examples: Examples, metadata: Metadata, row: str
) -> tuple[bytes, str, str]:
    """Log the ONNX file and its metadata with the run `row`; return the file, and its address and id in MLflow."""
    import onnx

    model = onnx.load_from_string(exported)
    with answering():
        logged: ModelInfo = load_mlflow().onnx.log_model(
            model,
            name="model",
            run_id=row,
            signature=_signature(data),
            input_example=examples.rows[:1],
            pip_requirements=["onnxruntime", "numpy"],
            save_as_external_data=False,
            metadata=metadata,
        )
    # MLflow writes this serialization, which may order the parts of the file in another way.
    return model.SerializeToString(), logged.model_uri, logged.model_id


def _signature(data: TrainingData) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(data.dtype), (-1, *data.shape), "images")]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(data.classes)), "probabilities")]),
    )
