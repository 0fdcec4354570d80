"""Decide whether to train again.

The accuracy on labelled predictions and the drift of the inputs decide, by the limits of project.yaml. Predictions and
labelled rows past the retention are deleted.
"""

import re
from typing import NamedTuple

from pipeline import doctor
from pipeline.data import label_reviews, labelled_rows
from pipeline.databases import Connection, has_relation, query, require_relation, session
from pipeline.errors import StepError
from pipeline.outcomes import write_outcome
from pipeline.settings import Monitoring, chosen_stage, settings
from pipeline.tracking import load_mlflow, step_run

FINE = "fine"
RETRAIN = "retrain"
TOO_LITTLE_DATA = "too-little-data"


class Drift(NamedTuple):
    """Population stability index of one statistic, and the number of predictions it is measured on."""

    predictions: int
    psi: float


class Observed(NamedTuple):
    """Measurements of the served version: labels, accuracy on them (None without labels), drift by statistic."""

    version: int
    labelled: int
    accuracy: float | None
    drift: dict[str, Drift]

    @property
    def predictions(self) -> int:
        """The number of its predictions in the window."""
        return max((drift.predictions for drift in self.drift.values()), default=0)


class Decision(NamedTuple):
    """The outcome (fine, retrain or too-little-data) and a sentence with the reason."""

    outcome: str
    reason: str


def run(stage: str) -> str:
    """Judge the version that holds the stage, and remove predictions past their retention.

    Args:
        stage: staging or production; empty for the project's own

    Raises:
        StepError: no version holds the stage, or monitoring is switched off.
    """
    if not settings().include_monitoring:
        raise StepError("this project is not monitored (project.yaml: includeMonitoring)")
    stage = chosen_stage(stage)
    doctor.require(doctor.inference_database, doctor.mlflow_server)
    connection = session("inference-deployer")
    with connection:
        require_relation(connection, "label_status", "deploy_inference_db")
        purged = query(connection, "SELECT {schema}.purge_predictions()")[0][0]
        observed = observe(connection, stage)
        waiting = label_reviews.waiting_labels(connection, settings().model)
    decision = decide(observed, settings().monitoring)
    _log(observed, decision, purged + _delete_expired_copies())
    write_outcome("decision", decision.outcome)
    review = f"; {waiting} labels wait for review" if waiting and settings().monitoring.labels == "reviewed" else ""
    return f"{decision.outcome}: {decision.reason}{review}"


def _delete_expired_copies() -> int:
    """Delete labelled rows in the training database that are past the retention; return how many."""
    if not settings().store_inputs:
        return 0
    doctor.require(doctor.trainer)
    trainer = session("trainer")
    with trainer:
        return labelled_rows.delete_expired(trainer) if has_relation(trainer, "dataset_labelled_row") else 0


def observe(connection: Connection, stage: str) -> Observed:
    """Return the measurements of the version that holds `stage`. Raises StepError when none does."""
    served = query(
        connection,
        "SELECT version FROM {schema}.model_info WHERE model = %s AND alias = %s",
        (settings().model, stage),
    )
    if not served:
        raise StepError(f"no version of {settings().model} holds {stage}: promote one first")
    version = served[0][0]
    accuracies = query(
        connection,
        "SELECT labelled, accuracy FROM {schema}.accuracy_window WHERE model = %s AND version = %s "
        "ORDER BY labelled_at DESC LIMIT 1",
        (settings().model, version),
    )
    drifts = query(
        connection,
        "SELECT statistic, predictions, psi FROM {schema}.drift WHERE model = %s AND version = %s",
        (settings().model, version),
    )
    labelled, accuracy = accuracies[0] if accuracies else (0, None)
    return Observed(version, labelled, accuracy, {name: Drift(predictions, psi) for name, predictions, psi in drifts})


def decide(observed: Observed, limits: Monitoring) -> Decision:
    """Decide by the limits of project.yaml. Drift without enough labels does not retrain: it brings no new rows."""
    drifted, drift = _judge_drift(observed, limits)
    if observed.accuracy is None or observed.labelled < limits.minimum_labels:
        return Decision(
            TOO_LITTLE_DATA,
            f"version {observed.version} has {observed.labelled} labelled predictions, {limits.minimum_labels} are "
            f"needed (project.yaml: monitoring.minimumLabels); {drift}",
        )
    poor = observed.accuracy < limits.accuracy_floor
    accuracy = (
        f"accuracy {observed.accuracy:.4f} {'below' if poor else 'not below'} {limits.accuracy_floor:g} "
        f"on {observed.labelled} labelled predictions"
    )
    return Decision(RETRAIN if poor or drifted else FINE, f"version {observed.version}: {accuracy}; {drift}")


def _judge_drift(observed: Observed, limits: Monitoring) -> tuple[bool, str]:
    """Return whether a statistic with enough predictions is above the limit, and a clause about the worst."""
    enough = {name: drift for name, drift in observed.drift.items() if drift.predictions >= limits.minimum_predictions}
    if not enough:
        needed = limits.minimum_predictions
        return False, f"drift is not judged with {observed.predictions} of {needed} predictions"
    worst = max(enough, key=lambda name: enough[name].psi)
    predictions, psi = enough[worst]
    drifted = psi > limits.maximum_psi
    side = "above" if drifted else "within"
    return drifted, f"drift {psi:.2f} ({worst}) {side} {limits.maximum_psi:g} over {predictions} predictions"


def _log(observed: Observed, decision: Decision, purged: int) -> None:
    mlflow = load_mlflow()
    with step_run("monitor_model", decision=decision.outcome, model_version=str(observed.version)):
        mlflow.set_tag("reason", decision.reason)
        metrics: dict[str, float] = {
            "predictions": observed.predictions,
            "labelled": observed.labelled,
            "purged_predictions": purged,
        }
        if observed.accuracy is not None:
            metrics["live_accuracy"] = observed.accuracy
        mlflow.log_metrics({**metrics, **{metric_of(name): drift.psi for name, drift in observed.drift.items()}})


def metric_of(statistic: str) -> str:
    """Return the metric's name for a statistic's drift: a column's name may hold characters that MLflow refuses."""
    return "psi_" + re.sub(r"[^\w.\- ]", "_", statistic)
