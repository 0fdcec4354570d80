"""The report of evaluate_model: its numbers are scikit-learn's, and every class name is on the page."""

import html
import json
import re
import struct
import warnings

import numpy as np
import pytest
from matplotlib import pyplot
from sklearn import metrics
from sklearn.calibration import calibration_curve

from database.python import scores as scores_in_database
from database.python.state import HEADER
from pipeline.predictions import PredictedBlock
from pipeline.registry import report, report_page
from pipeline.registry.calibration import ConfidentError, calibration
from pipeline.registry.class_scores import class_scores, means

MATRICES = {
    "usual": [[50, 2, 3], [4, 40, 1], [0, 6, 30]],
    "perfect": [[3, 0], [0, 4]],
    "never predicted": [[0, 5], [0, 7]],
    "no true row": [[5, 1, 2], [0, 0, 0], [1, 0, 6]],
    "does not occur": [[5, 0, 2], [0, 0, 0], [1, 0, 6]],
    "all wrong": [[0, 2], [3, 0]],
}
NO_ERRORS = report_page.ReportedErrors((), (), "")
NAMES = ["cat", "猫と犬", "кошка", "<b>&amp;</b>", "$x$", "a" * 120]


def labels_of(matrix: list[list[int]]) -> tuple[list[int], list[int]]:
    """Return the true and the predicted label of each row that a confusion matrix counts."""
    pairs = [(i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) for _ in range(count)]
    return [true for true, _ in pairs], [predicted for _, predicted in pairs]


def page(matrix: list[list[int]], classes: list[str], parameters: dict[str, object] | None = None) -> str:
    return report_page.page("a title", {"rows": 7}, parameters or {}, matrix, classes, {}, NO_ERRORS)


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_scores_per_class_are_those_of_scikit_learn(matrix) -> None:
    expected = metrics.precision_recall_fscore_support(*labels_of(matrix), labels=range(len(matrix)), zero_division=0)
    rows = class_scores(matrix, [str(number) for number in range(len(matrix))])
    for column, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(row, name) for row in rows] == pytest.approx(expected[column].tolist())


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_means_are_those_of_scikit_learn(matrix, average) -> None:
    expected = metrics.precision_recall_fscore_support(*labels_of(matrix), average=average, zero_division=0)
    by_name = {row.name: row for row in means(matrix, class_scores(matrix, ["x"] * len(matrix)))}
    row = by_name[f"{average} mean"]
    assert (row.precision, row.recall, row.f1) == pytest.approx(expected[:3])
    assert row.support == sum(map(sum, matrix))


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_the_macro_f1_is_the_databases(matrix) -> None:
    counts = np.array(matrix, "<i8")
    state = struct.pack(HEADER, b"", b"", int(counts.sum()), 1.0, int(np.trace(counts))) + counts.tobytes()
    macro, _ = means(matrix, class_scores(matrix, ["x"] * len(matrix)))
    assert macro.f1 == pytest.approx(json.loads(scores_in_database.scores(state))["f1"])


def test_the_page_shows_every_number() -> None:
    text = page(MATRICES["usual"], ["a", "b", "c"], {"learning_rate": 0.002})
    assert "<tr><th>learning_rate</th><td>0.002</td></tr>" in text
    for row in class_scores(MATRICES["usual"], ["a", "b", "c"]):
        numbers = [f"{row.precision:.4f}", f"{row.recall:.4f}", f"{row.f1:.4f}", str(row.support)]
        cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
        assert f"<th>{row.name}</th>{cells}" in text
    assert re.findall(r'<td style="--share: [\d.]+">(\d+)</td>', text) == ["50", "2", "3", "4", "40", "1", "6", "30"]


@pytest.mark.parametrize("classes", [NAMES, [f"class number {number}" for number in range(100)]])
def test_every_class_name_is_text_of_the_page(classes) -> None:
    text = page(np.eye(len(classes), dtype=int).tolist(), classes)
    for name in classes:
        # Once among the scores, and twice around the matrix.
        assert text.count(f">{html.escape(name)}<") == 3
    assert "<script" not in text
    assert "color-scheme: light dark" in text


def test_the_picture_labels_with_numbers_what_its_font_lacks() -> None:
    assert report.tick_labels(NAMES) == ["cat", "#1", "кошка", "<b>&amp;</b>", r"\$x\$", "a" * 23 + "…"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.confusion_matrix(np.eye(len(NAMES), dtype=int).tolist(), NAMES).canvas.draw()
    pyplot.close("all")


def predicted(*rows: tuple[int, list[float]], batch_id: int = 0) -> PredictedBlock:
    """Return a block of rows, each with its label and its probabilities."""
    labels, probabilities = zip(*rows, strict=True)
    return PredictedBlock(batch_id, np.array(labels, "<i4"), np.array(probabilities, "<f4"))


def test_calibration_is_that_of_scikit_learn() -> None:
    """Calibration over several blocks equals scikit-learn's for two classes."""
    rng = np.random.default_rng(1)
    highest, labels = rng.uniform(0.501, 0.999, 500), rng.integers(0, 2, 500)
    probabilities = np.stack([highest, 1 - highest], axis=1).astype("f4")
    blocks = [
        PredictedBlock(start, labels[start : start + 128], probabilities[start : start + 128])
        for start in range(0, 500, 128)
    ]
    measured = calibration(blocks)
    accuracies, means_of_bins = calibration_curve(labels == 0, highest, n_bins=10)
    assert measured.accuracies[5:] == pytest.approx(accuracies.tolist())
    assert measured.probabilities[5:] == pytest.approx(means_of_bins.tolist())
    assert measured.row_counts[:5] == [0] * 5
    assert sum(measured.row_counts) == 500
    weights = np.array(measured.row_counts[5:]) / 500
    assert measured.expected_calibration_error == pytest.approx((weights * np.abs(accuracies - means_of_bins)).sum())


def test_a_sure_and_right_answer_has_no_error() -> None:
    measured = calibration([predicted((0, [1, 0]), (1, [0, 1]))])
    assert (measured.expected_calibration_error, measured.row_counts[9], measured.errors) == (0, 2, [])


def test_the_most_confident_errors_come_first() -> None:
    blocks = [
        predicted(*[(0, [0.4 - 0.01 * row, 0.6 + 0.01 * row]) for row in range(15)], batch_id=number)
        for number in (3, 7)
    ]
    errors = calibration([*blocks, predicted((0, [0.9, 0.1]))]).errors
    assert len(errors) == 20
    assert errors[0] == ConfidentError(pytest.approx(0.74), 7, 14, 0, 1)
    assert [error.row_index for error in errors] == sorted((error.row_index for error in errors), reverse=True)


def test_the_page_shows_errors_or_how_to_list_them() -> None:
    errors = [ConfidentError(0.93, 0, 5, 0, 1), ConfidentError(0.8, 0, 6, 1, 0)]
    shown = report_page.ReportedErrors(errors, [b"a file", None], "")
    pictures = report_page.page("a title", {}, {}, MATRICES["perfect"], ["<a>", "b"], {}, shown)
    assert '<img alt="a row of the class &lt;a&gt;" src="data:image/png;base64,YSBmaWxl"' in pictures
    assert "predicted <b>b</b> (93.0%), true &lt;a&gt;" in pictures
    assert "<p>sent by a visitor</p><figcaption>predicted <b>&lt;a&gt;</b> (80.0%), true b" in pictures
    shown = report_page.ReportedErrors(errors, (), "SELECT 1 < 2;")
    statement = report_page.page("a title", {}, {}, MATRICES["perfect"], ["<a>", "b"], {}, shown)
    assert "<pre>SELECT 1 &lt; 2;</pre>" in statement
    assert "<figure>" not in statement
    assert "The model predicts every row of the validation split correctly" in page(MATRICES["perfect"], ["a", "b"])
