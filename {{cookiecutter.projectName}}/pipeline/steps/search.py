"""Step search: trains many configurations, and makes the best by validation loss the candidate."""

from typing import Any

from matplotlib import pyplot

from pipeline import doctor
from pipeline.databases import binding, session
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
    """Train the configurations that project.yaml's section `search` means, as many at a time as there are sessions.

    On Greenplum they hop from segment to segment, one session a segment. A search that was stopped goes on with each
    configuration after its last committed epoch; another `run` number starts afresh. Raises StepError.
    """
    experiments.require_sessions(sessions)
    if "train_model" not in steps():
        raise StepError("MLproject: the entry point train_model, whose defaults search takes, is missing")
    chosen = configurations(section("search"), steps()["train_model"])
    doctor.require(doctor.trainer, doctor.mlflow_server)
    if binding("trainer").is_greenplum:
        division = experiments.division_by_segment(session("trainer"))
    else:
        division = Division(min(sessions, len(chosen)))
    return search([{**parameters, "run": run} for parameters in chosen], division)


def search(chosen: list[dict[str, Any]], division: Division) -> str:
    """Train configurations, the parameters of train_model each, spread as `division` says. Raises StepError."""
    trainings = [training_run.current_training({**parameters, **division.parameters}) for parameters in chosen]
    return experiments.run("search", "configuration", trainings, division, _conclude)


def _conclude(connection: Any, candidates: list[Candidate]) -> str:
    """Choose the best, print the table, log the picture. Raises StepError when every candidate failed."""
    trained = sorted((each for each in candidates if not each.error), key=lambda each: each.best["val_loss"])
    if not trained:
        raise StepError(f"every configuration failed, the first because {candidates[0].error}")
    best = trained[0]
    named = differing_parameters(candidates)
    print(table(candidates, best, named))
    mlflow = load_mlflow()
    figure = report.candidates(
        {label(each, named): each.epoch_rows for each in trained}, label(best, named), best.best["epoch"]
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
    mlflow.set_tags({"best_configuration": label(best, named), "run_hash": best.training.run_hash})
    # Last: a search that was stopped before it has chosen nothing.
    with connection:
        training_run.select(connection, best.training)
    return (
        f"{len(candidates)} configurations; best is {best.number} ({label(best, named)}): validation loss "
        f"{best.best['val_loss']:.4f}, accuracy {best.best['val_accuracy']:.4f} in epoch {best.best['epoch']}"
    )


def differing_parameters(candidates: list[Candidate]) -> list[str]:
    """Return the parameters in which the candidates differ, all that count where there is one candidate."""
    first = candidates[0].training.parameters
    differing = [
        name for name in first if any(each.training.parameters[name] != first[name] for each in candidates[1:])
    ]
    return differing or ["batch_size", "learning_rate"]


def label(candidate: Candidate, named: list[str]) -> str:
    """Return a candidate's values of some parameters."""
    return ", ".join(f"{name} {candidate.training.parameters[name]}" for name in named)


def table(candidates: list[Candidate], best: Candidate, named: list[str]) -> str:
    """Return the candidates as a table: parameters, epochs trained, the best of them, and its validation scores."""
    lines = [["", "#", *named, "trained", "best", "val_loss", "val_accuracy"]]
    for each in candidates:
        parameters = [str(each.training.parameters[name]) for name in named]
        row = ["*" if each is best else "", str(each.number), *parameters, str(len(each.epoch_rows))]
        if each.error:
            lines.append([*row, f"failed: {each.error}"])
        else:
            scores = each.best
            lines.append([*row, str(scores["epoch"]), f"{scores['val_loss']:.4f}", f"{scores['val_accuracy']:.4f}"])
    widths = [max(len(line[column]) for line in lines if len(line) == len(lines[0])) for column in range(len(lines[0]))]
    # A reason has no column: it ends its line.
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
