"""Pictures and the HTML report of a trained model, for MLflow."""

import base64
import html
import io
import textwrap
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.figure import Figure


def curves(epochs: list[dict[str, Any]], best_epoch: int) -> Figure:
    """Draw loss and accuracy of training and validation an epoch; a line marks the best epoch."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    numbers = [row["epoch"] for row in epochs]
    for axis, name in zip(axes, ("loss", "accuracy")):
        axis.plot(numbers, [row[f"train_{name}"] for row in epochs], marker="o", label="training")
        axis.plot(numbers, [row[f"val_{name}"] for row in epochs], marker="o", label="validation")
        axis.axvline(best_epoch, linestyle=":", color="grey", label=f"best epoch {best_epoch}")
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    return figure


def confusion_matrix(matrix: list[list[int]], classes: list[str]) -> Figure:
    """Draw how many rows of a class (down) were called what (across); cells are labelled up to 25 classes."""
    size = max(4.0, 0.45 * len(classes) + 2)
    figure, axis = pyplot.subplots(figsize=(size, size), layout="constrained")
    axis.imshow(matrix, cmap="Blues")
    axis.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
    axis.set_xticklabels(classes, rotation=90)
    axis.set_yticklabels(classes)
    most = max(max(row) for row in matrix)
    if len(classes) <= 25:
        for true, row in enumerate(matrix):
            for predicted, count in enumerate(row):
                axis.text(
                    predicted,
                    true,
                    str(count),
                    ha="center",
                    va="center",
                    color="white" if count > most / 2 else "black",
                )
    return figure


def candidates(trainings: dict[str, list[dict[str, Any]]], best: str, best_epoch: int) -> Figure:
    """Draw the validation loss of each training an epoch, and the best accuracies; `best` is thick, the first named.

    `trainings` are epochs by label, from the best to the worst; up to 12 of them are named, the others are grey.
    """
    named = list(trainings)[:12]
    height = max(4.0, 0.35 * len(named) + 1.5)
    figure, (losses, accuracies) = pyplot.subplots(1, 2, figsize=(13, height), layout="constrained")
    colours = {label: f"C{number}" for number, label in enumerate(named)}
    for label, epochs in reversed(trainings.items()):
        numbers, values = [row["epoch"] for row in epochs], [row["val_loss"] for row in epochs]
        width = 3.0 if label == best else 1.2
        losses.plot(numbers, values, marker=".", linewidth=width, color=colours.get(label, "lightgrey"))
    losses.axvline(best_epoch, linestyle=":", color="grey")
    # A training that goes astray would hide the others.
    losses.set(xlabel="epoch", ylabel="validation loss", yscale="log")
    losses.xaxis.get_major_locator().set_params(integer=True)
    best_of = {label: min(trainings[label], key=lambda row: (row["val_loss"], row["epoch"])) for label in named}
    accuracies.barh(named, [row["val_accuracy"] for row in best_of.values()], color=colours.values())
    accuracies.bar_label(accuracies.containers[0], fmt="%.4f", label_type="center", color="white")
    accuracies.invert_yaxis()
    accuracies.set(xlabel="validation accuracy in the epoch of the lowest loss", xlim=(0, 1))
    return figure


def learning_curve(points: list[dict[str, Any]], sentence: str) -> Figure:
    """Draw the accuracy on the rows trained on and on the validation split against the number of rows."""
    figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
    rows = [point["rows"] for point in points]
    for name, told in (("train_accuracy", "on the rows trained on"), ("val_accuracy", "on the validation rows")):
        axis.plot(rows, [point[name] for point in points], marker="o", label=told)
    axis.set(xlabel="training rows", ylabel="accuracy", xlim=(0, None))
    axis.set_title(textwrap.fill(sentence, 90), fontsize="small")
    axis.legend()
    return figure


def page(title: str, facts: dict[str, Any], figures: dict[str, Figure]) -> str:
    """Return a self-contained HTML page: a table of facts and the figures."""
    rows = "\n".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    pictures = "\n".join(
        f'<h2>{html.escape(name)}</h2>\n<img alt="{html.escape(name)}" src="data:image/png;base64,{_png(figure)}">'
        for name, figure in figures.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title></head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        f"<table>\n{rows}\n</table>\n{pictures}\n</body>\n</html>\n"
    )


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()
