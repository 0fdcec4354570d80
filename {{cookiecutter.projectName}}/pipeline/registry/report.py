"""Figures of trained models, for MLflow."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import matplotlib

matplotlib.use("Agg")

from matplotlib import font_manager, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.records import EpochRow
from pipeline.registry.calibration import BINS, Calibration

LABELLED_CLASSES = 25
LONGEST_LABEL = 24
NAMED_CANDIDATES = 12


class CurvePoint(Protocol):
    """A point of a learning curve: accuracies of a model trained on `rows` rows."""

    @property
    def rows(self) -> int:
        """Number of training rows."""

    @property
    def train_accuracy(self) -> float:
        """Accuracy on the rows trained on."""

    @property
    def val_accuracy(self) -> float:
        """Accuracy on the validation split."""


def curves(epochs: Sequence[EpochRow], best_epoch: int) -> Figure:
    """Draw loss and accuracy per epoch, of training and validation; a line marks the best epoch."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    _draw_metric(axes[0], epochs, best_epoch, "loss", "train_loss", "val_loss")
    _draw_metric(axes[1], epochs, best_epoch, "accuracy", "train_accuracy", "val_accuracy")
    return figure


def _draw_metric(
    axis: Axes,
    epochs: Sequence[EpochRow],
    best_epoch: int,
    name: str,
    train: Literal["train_loss", "train_accuracy"],
    validation: Literal["val_loss", "val_accuracy"],
) -> None:
    numbers = [row["epoch"] for row in epochs]
    axis.plot(numbers, [row[train] for row in epochs], marker="o", label="training")
    axis.plot(numbers, [row[validation] for row in epochs], marker="o", label="validation")
    axis.axvline(best_epoch, linestyle=":", color="grey", label=f"best epoch {best_epoch}")
    axis.set(xlabel="epoch", ylabel=name)
    axis.locator_params(axis="x", integer=True)
    axis.legend()


def confusion_matrix(matrix: list[list[int]], classes: list[str]) -> Figure:
    """Draw the row counts per true class (down) and predicted class (across).

    The cells carry numbers for up to LABELLED_CLASSES classes. The report has the same matrix with full names.
    """
    size = max(4.0, 0.45 * len(classes) + 2)
    labels = tick_labels(classes)
    figure, axis = pyplot.subplots(figsize=(size, size), layout="constrained")
    axis.imshow(matrix, cmap="Blues")
    axis.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
    axis.set_xticklabels(labels, rotation=90)
    axis.set_yticklabels(labels)
    most = max(max(row) for row in matrix)
    if len(classes) <= LABELLED_CLASSES:
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


def reliability_diagram(calibration: Calibration) -> Figure:
    """Draw accuracy by predicted probability, and the rows per bin. The diagonal is perfect calibration."""
    figure, (axis, counts) = pyplot.subplots(
        2, 1, figsize=(5, 6), layout="constrained", sharex=True, height_ratios=(3, 1)
    )
    filled = [number for number, rows in enumerate(calibration.row_counts) if rows]
    axis.plot([0, 1], [0, 1], linestyle=":", color="grey", label="perfect calibration")
    axis.plot(
        [calibration.probabilities[number] for number in filled],
        [calibration.accuracies[number] for number in filled],
        marker="o",
        label="validation",
    )
    axis.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend()
    centres = [(number + 0.5) / BINS for number in range(BINS)]
    counts.bar(centres, calibration.row_counts, width=0.9 / BINS)
    counts.set(xlabel="probability of the predicted class", ylabel="rows")
    return figure


def tick_labels(classes: Sequence[str]) -> list[str]:
    """Return a label per class: its name, cut to LONGEST_LABEL characters, or its number where the font lacks it."""
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    glyphs = font.get_charmap()
    labels = []
    for number, name in enumerate(classes):
        short = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        # Matplotlib reads a text between two dollar signs as a formula.
        labels.append(short.replace("$", r"\$") if all(ord(sign) in glyphs for sign in short) else f"#{number}")
    return labels


def candidates(trainings: Mapping[str, Sequence[EpochRow]], best: str, best_epoch: int) -> Figure:
    """Draw the validation loss of each training per epoch, and the accuracies in the best epochs.

    `trainings` are epochs by label, from the best to the worst. The line of `best` is thick. Up to NAMED_CANDIDATES
    trainings have a colour and a bar, the others are grey.
    """
    named = list(trainings)[:NAMED_CANDIDATES]
    height = max(4.0, 0.35 * len(named) + 1.5)
    figure, (losses, accuracies) = pyplot.subplots(1, 2, figsize=(13, height), layout="constrained")
    colours = {label: f"C{number}" for number, label in enumerate(named)}
    for label, epochs in reversed(list(trainings.items())):
        numbers, values = [row["epoch"] for row in epochs], [row["val_loss"] for row in epochs]
        width = 3.0 if label == best else 1.2
        losses.plot(numbers, values, marker=".", linewidth=width, color=colours.get(label, "lightgrey"))
    losses.axvline(best_epoch, linestyle=":", color="grey")
    # A training that diverges would hide the others on a linear scale.
    losses.set(xlabel="epoch", ylabel="validation loss", yscale="log")
    losses.locator_params(axis="x", integer=True)
    best_of = {label: min(trainings[label], key=lambda row: (row["val_loss"], row["epoch"])) for label in named}
    accuracies.barh(named, [row["val_accuracy"] for row in best_of.values()], color=colours.values())
    accuracies.bar_label(accuracies.containers[0], fmt="%.4f", label_type="center", color="white")
    accuracies.invert_yaxis()
    accuracies.set(xlabel="validation accuracy in the epoch of the lowest loss", xlim=(0, 1))
    return figure


def learning_curve(points: Sequence[CurvePoint], sentence: str) -> Figure:
    """Draw the accuracies on the rows trained on and on the validation split, by number of training rows.

    `sentence` is the title.
    """
    figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
    rows = [point.rows for point in points]
    axis.plot(rows, [point.train_accuracy for point in points], marker="o", label="on the rows trained on")
    axis.plot(rows, [point.val_accuracy for point in points], marker="o", label="on the validation rows")
    axis.set(xlabel="training rows", ylabel="accuracy", xlim=(0, None))
    axis.set_title(textwrap.fill(sentence, 90), fontsize="small")
    axis.legend()
    return figure
