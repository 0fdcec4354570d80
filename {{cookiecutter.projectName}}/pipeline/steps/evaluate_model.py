"""Evaluate the selected run on the validation split.

The training database computes the scores of the best epoch; MLflow gets them with figures and a report.
"""

from matplotlib import pyplot
from matplotlib.figure import Figure

from pipeline import doctor, parent_runs, training_db
from pipeline.data import source
from pipeline.databases import Connection, binding, session
from pipeline.predictions import predict_blocks
from pipeline.records import EpochRow, Scores
from pipeline.registry import report, report_page
from pipeline.registry.calibration import ConfidentError, calibration
from pipeline.registry.report_page import ReportedErrors
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run
from pipeline.training.checkpoints import best_row
from pipeline.training_db import FinishedRun, TrainingData

CURVES = "Training"
CALIBRATION = "Calibration (validation)"
CONFUSION_MATRIX = "Confusion matrix (validation)"


def run() -> str:
    """Evaluate the selected run and log metrics, figures and a report. Raises StepError."""
    doctor.require(doctor.trainer, doctor.mlflow_server)
    connection = session("trainer")
    with connection:
        training_db.prepare_session(connection, binding("trainer").is_greenplum)
        trained = training_db.finished_run(connection)
        config = training_db.evaluation_config(trained.architecture.json, trained.data, binding("trainer").is_greenplum)
        scores = training_db.evaluate(connection, trained.data.dataset, "validation", trained.weights, config)
        source.store_evaluated_model(connection, trained, config)
        calibrated = calibration(predict_blocks(connection, trained.data, "validation", trained.weights, config))
        reported = _reported_errors(connection, trained.data, calibrated.errors)
        epochs = training_db.epoch_rows(connection, trained.run_hash)
    figures = {
        CURVES: report.curves(epochs, trained.best_epoch),
        CALIBRATION: report.reliability_diagram(calibrated),
        CONFUSION_MATRIX: report.confusion_matrix(scores["confusion_matrix"], trained.data.classes),
    }
    _log(trained, scores, best_row(epochs), figures, calibrated.expected_calibration_error, reported)
    return f"validation: accuracy {scores['accuracy']:.4f}, F1 {scores['f1']:.4f} on {scores['rows']} rows"


def _reported_errors(connection: Connection, data: TrainingData, errors: list[ConfidentError]) -> ReportedErrors:
    """Return the errors with their pictures, or with the query that lists their rows."""
    pictures = source.pictures(connection, data, [(error.batch_id, error.row_index) for error in errors])
    return ReportedErrors(errors, pictures, source.errors_query(connection, data))


def _log(
    trained: FinishedRun, scores: Scores, best: EpochRow, figures: dict[str, Figure], calibration_error: float,
    reported: ReportedErrors,
) -> None:  # fmt: skip
    mlflow = load_mlflow()
    facts = {
        "validation accuracy": f"{scores['accuracy']:.4f}",
        "validation macro F1": f"{scores['f1']:.4f}",
        "validation loss": f"{scores['loss']:.4f}",
        "expected calibration error": f"{calibration_error:.4f}",
        "validation rows": scores["rows"],
        "best epoch": trained.best_epoch,
        "data": trained.data.data_hash,
        "run": trained.run_hash,
        "commit": trained.git_commit,
    }
    with step_run("evaluate_model", data_hash=trained.data.data_hash, run_hash=trained.run_hash):
        parent_runs.describe(trained, best)
        mlflow.log_metrics(
            {
                "accuracy_score": scores["accuracy"],
                "f1_score": scores["f1"],
                "loss": scores["loss"],
                "expected_calibration_error": calibration_error,
            }
        )
        mlflow.log_figure(figures[CURVES], "curves.png")
        mlflow.log_figure(figures[CALIBRATION], "calibration.png")
        mlflow.log_figure(figures[CONFUSION_MATRIX], "confusion_matrix.png")
        page = report_page.page(
            f"{settings().project_name}: evaluation",
            facts,
            parent_runs.logged_parameters(trained),
            scores["confusion_matrix"],
            trained.data.classes,
            {name: figures[name] for name in (CURVES, CALIBRATION)},
            reported,
        )
        mlflow.log_text(page, "report.html")
    pyplot.close("all")
