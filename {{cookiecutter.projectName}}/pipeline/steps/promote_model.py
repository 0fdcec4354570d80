"""Step promote_model: the holdout decides whether the candidate gets the alias."""

import json
import pathlib
import tempfile
from typing import Any, NamedTuple

import numpy as np

from pipeline import doctor, training_db
from pipeline.data import source
from pipeline.databases import binding, session
from pipeline.errors import StepError
from pipeline.outcomes import write_outcome
from pipeline.records import Scores
from pipeline.registry import aliases, onnx_export
from pipeline.run_identity import git_commit
from pipeline.settings import chosen_stage, settings
from pipeline.tracking import answering, load_mlflow, registered_alias, step_run
from pipeline.training_db import FinishedRun


class Promotion(NamedTuple):
    """The step's outcome and the sentence that says why."""

    promoted: bool
    reason: str


def run(version: int, stage: str) -> Promotion:
    """Give the alias to the candidate if it deserves it, or to the version a person names. Raises StepError."""
    stage = chosen_stage(stage)
    if version < 0:
        raise StepError(f"version is {version}; allowed is 0 (the candidate) or a registered version")
    doctor.require(doctor.mlflow_server)
    promotion = _promote_version(version, stage) if version else _promote_candidate(stage)
    write_outcome("promoted", "true" if promotion.promoted else "false")
    return promotion


def _promote_version(version: int, stage: str) -> Promotion:
    """A person has decided: no gate, but the version must exist."""
    if aliases.registered_version(version) is None:
        raise StepError(f"MLflow has no version {version} of the model {settings().model}")
    with step_run("promote_model"):
        aliases.record_manual_promotion(stage, version)
        load_mlflow().MlflowClient().set_registered_model_alias(settings().model, stage, str(version))
        _log_decision(version, stage, True)
    return Promotion(True, f"version {version} now holds {stage}")


def _log_decision(version: int, stage: str, promoted: bool) -> None:
    """Log under names of its own: `mlflow run` has logged the parameters as they were given."""
    load_mlflow().log_params({"decided_version": version, "decided_stage": stage, "promoted": promoted})


def _promote_candidate(stage: str) -> Promotion:
    doctor.require(doctor.trainer)
    connection = session("trainer")
    with connection:
        training_db.prepare_session(connection, binding("trainer").is_greenplum)
        candidate = training_db.finished_run(connection)
        config = training_db.evaluation_config(
            candidate.architecture.json, candidate.data, binding("trainer").is_greenplum
        )
        scores = training_db.evaluate(connection, candidate.data.dataset, "holdout", candidate.weights, config)
    current = registered_alias(stage)
    version = _registered_version(candidate)
    refusal = _refusal(connection, candidate, version, scores, current, stage)
    tags = {"data_hash": candidate.data.data_hash, "run_hash": candidate.run_hash}
    with step_run("promote_model", **tags):
        load_mlflow().log_metrics(_metrics(scores))
        version = version or _register(connection, candidate, scores)
        load_mlflow().set_tag("reason", refusal or _told(scores))
        _log_decision(version, stage, refusal is None)
    if refusal:
        return Promotion(False, f"version {version} is not promoted: {refusal}")
    if current and int(current.version) == version:
        return Promotion(True, f"version {version} holds {stage} already ({_told(scores)})")
    with answering():
        load_mlflow().MlflowClient().set_registered_model_alias(settings().model, stage, str(version))
    return Promotion(True, f"version {version} now holds {stage} ({_told(scores)})")


def _told(scores: Scores) -> str:
    return f"accuracy {scores['accuracy']:.4f} on {scores['rows']} held-out rows"


def _metrics(scores: Scores) -> dict[str, float]:
    return {"accuracy_score": scores["accuracy"], "f1_score": scores["f1"], "loss": scores["loss"]}


def _refusal(
    connection: Any, candidate: FinishedRun, version: int | None, scores: Scores, current: Any, stage: str
) -> str | None:
    """Return why the candidate, which may have a version already, may not have the alias; None when it may."""
    least = settings().minimum_accuracy
    if scores["accuracy"] < least:
        return f"its {_told(scores)} is below the minimum {least:g} (project.yaml: minimumAccuracy)"
    if current and current.tags.get("run_hash") == candidate.run_hash:
        return None
    rolled_back = aliases.rolled_back_at(stage, version) if version else None
    if rolled_back:
        by_hand = f"`promote_model --version {version} --stage {stage}`"
        return f"it was rolled back from {stage} at {rolled_back}; {by_hand} promotes it all the same"
    if current is None:
        return None
    held = _current_accuracy(connection, candidate, current)
    if held is not None and scores["accuracy"] < held:
        return f"its {_told(scores)} is worse than {held:.4f} of version {current.version}, which keeps {stage}"
    return None


def _current_accuracy(connection: Any, candidate: FinishedRun, current: Any) -> float | None:
    """Evaluate the model that holds the alias on the same holdout; None when it answers another question."""
    mlflow = load_mlflow()
    with tempfile.TemporaryDirectory() as folder:
        with answering():
            # By the run's id MLflow would not tell a store that is away from a path that is wrong.
            where = mlflow.MlflowClient().get_run(current.run_id).info.artifact_uri
            path = mlflow.artifacts.download_artifacts(artifact_uri=f"{where}/keras", dst_path=folder)
        weights = (pathlib.Path(path) / "weights.f4").read_bytes()
        kept = json.loads((pathlib.Path(path) / "model.json").read_text(encoding="utf-8"))
    data = candidate.data
    features = source.features_for(kept, data)
    if features is None:
        return None
    taken = data._replace(shape=tuple(kept["shape"]))
    config = training_db.evaluation_config(kept["architecture"], taken, binding("trainer").is_greenplum)
    with connection:
        return training_db.evaluate(connection, data.dataset, "holdout", weights, config, features=features)["accuracy"]


def _registered_version(candidate: FinishedRun) -> int | None:
    """Return the version this run was registered as before, None if it was not."""
    client = load_mlflow().MlflowClient()
    with answering():
        found = client.search_model_versions(f"name = '{settings().model}' AND tags.run_hash = '{candidate.run_hash}'")
    return max((int(version.version) for version in found), default=None)


def _register(connection: Any, candidate: FinishedRun, scores: Scores) -> int:
    """Export to ONNX, log it with all that serving needs to know, and register it; return the version."""
    mlflow = load_mlflow()
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    data = candidate.data
    with connection:
        examples = source.examples(connection, data)
    model = onnx_export.keras_model(candidate.architecture.json, candidate.weights)
    exported = onnx_export.export(model, data.dtype, examples.rows)
    _log_keras(candidate)
    dtype = np.dtype(data.dtype)
    with answering():
        logged = mlflow.onnx.log_model(
            onnx.load_from_string(exported),
            name="model",
            signature=ModelSignature(
                inputs=Schema([TensorSpec(dtype, (-1, *data.shape), "images")]),
                outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(data.classes)), "probabilities")]),
            ),
            input_example=examples.rows[:1],
            pip_requirements=["onnxruntime", "numpy"],
            save_as_external_data=False,
            metadata={
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
                **({"encoding": data.encoding} if data.encoding else {}),
            },
        )
        client = mlflow.MlflowClient()
        if not client.search_registered_models(f"name = '{settings().model}'"):
            client.create_registered_model(
                settings().model, tags={"owner": settings().owner}, description=settings().description
            )
        tags = {"run_hash": candidate.run_hash, "data_hash": data.data_hash, "git_commit": git_commit()}
        made = client.create_model_version(
            settings().model,
            logged.model_uri,
            mlflow.active_run().info.run_id,
            tags=tags,
            model_id=logged.model_id,
        )
    return int(made.version)


def _log_keras(candidate: FinishedRun) -> None:
    """Keep architecture and weights: a later candidate is compared with this model on its own holdout."""
    mlflow = load_mlflow()
    data = candidate.data
    kept = {
        "architecture": candidate.architecture.json,
        "shape": data.shape,
        "dtype": data.dtype,
        "classes": data.classes,
        "encoding": data.encoding,
    }
    with tempfile.TemporaryDirectory() as folder, answering():
        (pathlib.Path(folder) / "weights.f4").write_bytes(candidate.weights)
        (pathlib.Path(folder) / "model.json").write_text(json.dumps(kept), encoding="utf-8")
        mlflow.log_artifacts(folder, "keras")
