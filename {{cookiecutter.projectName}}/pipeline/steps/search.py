"""Train many configurations and select the best.

Section `search` of project.yaml lists them; the one with the lowest validation loss becomes the candidate.
"""

from typing import Any

from matplotlib import pyplot

from pipeline import doctor, parent_runs
from pipeline.databases import Connection, binding, session
from pipeline.errors import StepError
from pipeline.mlproject import steps
from pipeline.registry import report
from pipeline.settings import section
from pipeline.tracking import load_mlflow
from pipeline.training import experiments
from pipeline.training import run as training_run
from pipeline.training.candidates import Candidate, Division
from pipeline.training.search_space import configurations


def run(sessions: int, run: int) -> str:
    """Train the configurations of project.yaml's section `search`, several at the same time.

    On Greenplum they hop from segment to segment, with one session per segment. A stopped search resumes each
    configuration after its last committed epoch.

    Args:
        sessions: trainings at the same time, each in a session of the database; Greenplum has one per segment
        run: another number trains afresh

    Raises:
        StepError: the section or a value is not allowed, or every configuration failed.
    """
    experiments.require_sessions(sessions)
    if "train_model" not in steps():
        raise StepError("MLproject: the entry point train_model, whose defaults search uses, is missing")
    chosen = configurations(section("search"), steps()["train_model"])
    doctor.require(doctor.trainer, doctor.mlflow_server)
    if binding("trainer").is_greenplum:
        division = experiments.division_by_segment(session("trainer"))
    else:
        division = Division(min(sessions, len(chosen)))
    return search([{**parameters, "run": run} for parameters in chosen], division)


def search(chosen: list[dict[str, Any]], division: Division) -> str:
    """Train configurations, each the parameters of train_model, on the sessions of `division`. Raises StepError."""
    trainings = [training_run.current_training({**parameters, **division.parameters}) for parameters in chosen]
    return experiments.run("search", "configuration", trainings, division, _conclude)


def _conclude(connection: Connection, candidates: list[Candidate]) -> str:
    """Select the best, print the table, log the figure. Raises StepError when every candidate failed."""
    successful = [candidate for candidate in candidates if not candidate.error]
    trained = sorted(successful, key=lambda candidate: candidate.best["val_loss"])
    if not trained:
        raise StepError(f"every configuration failed, the first because {candidates[0].error}")
    best = trained[0]
    names = differing_parameters(candidates)
    print(table(candidates, best, names))
    mlflow = load_mlflow()
    figure = report.candidates(
        {label(candidate, names): candidate.epoch_rows for candidate in trained},
        label(best, names),
        best.best["epoch"],
    )
    mlflow.log_figure(figure, "candidates.png")
    pyplot.close("all")
    mlflow.log_metrics(
        {
            "configurations": len(candidates),
            "failed": len(candidates) - len(trained),
            "best_val_loss": best.best["val_loss"],
            "best_val_accuracy": best.best["val_accuracy"],
        }
    )
    mlflow.set_tags({"best_configuration": label(best, names), "run_hash": best.training.run_hash})
    parent_runs.describe(best.training, best.best)
    # The last action: a search that is stopped before has selected nothing.
    with connection:
        training_run.select(connection, best.training)
    return (
        f"{len(candidates)} configurations; best is {best.number} ({label(best, names)}): validation loss "
        f"{best.best['val_loss']:.4f}, accuracy {best.best['val_accuracy']:.4f} in epoch {best.best['epoch']}"
    )


def differing_parameters(candidates: list[Candidate]) -> list[str]:
    """Return the parameters in which the candidates differ; two names where there is one candidate."""
    first = candidates[0].training.parameters
    differing = [
        name
        for name in first
        if any(candidate.training.parameters[name] != first[name] for candidate in candidates[1:])
    ]
    return differing or ["batch_size", "learning_rate"]


def label(candidate: Candidate, names: list[str]) -> str:
    """Return the names and values of some parameters of a candidate."""
    return ", ".join(f"{name} {candidate.training.parameters[name]}" for name in names)


def table(candidates: list[Candidate], best: Candidate, names: list[str]) -> str:
    """Return the candidates as a table: parameters, epochs trained, the best epoch and its validation scores."""
    lines = [["", "#", *names, "trained", "best", "val_loss", "val_accuracy"]]
    for candidate in candidates:
        parameters = [str(candidate.training.parameters[name]) for name in names]
        row = ["*" if candidate is best else "", str(candidate.number), *parameters, str(len(candidate.epoch_rows))]
        if candidate.error:
            lines.append([*row, f"failed: {candidate.error}"])
        else:
            scores = candidate.best
            lines.append([*row, str(scores["epoch"]), f"{scores['val_loss']:.4f}", f"{scores['val_accuracy']:.4f}"])
    widths = [max(len(line[column]) for line in lines if len(line) == len(lines[0])) for column in range(len(lines[0]))]
    # A reason has no column; it stands at the end of its line.
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
