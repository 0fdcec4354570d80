"""The HTML report of a trained model: one file, without scripts and without anything from elsewhere.

Class names are text of the page, not of a picture, so that the browser's fonts show them in any script.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from pipeline.registry.calibration import ConfidentError
from pipeline.registry.class_scores import ClassScores, class_scores, means

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --cell: 37, 99, 235; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 72rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.mean { background: var(--soft); }
.wide { overflow-x: auto; max-width: 100%; }
.matrix th, .matrix td { border: 1px solid var(--line); padding: .15rem .4rem; }
.matrix td { text-align: right; font-variant-numeric: tabular-nums; background: rgba(var(--cell), var(--share, 0)); }
.matrix thead th { vertical-align: bottom; }
.matrix thead span { writing-mode: vertical-rl; max-height: 14em; overflow-wrap: anywhere; }
.matrix tbody th { position: sticky; left: 0; background: Canvas; font-weight: normal; }
.matrix tbody span { display: block; width: max-content; max-width: 16em; }
img { max-width: 100%; background: white; padding: .5rem; }
.errors { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; }
.errors figure { margin: 0; width: 9rem; overflow-wrap: anywhere; }
.errors img { width: 100%; padding: 0; image-rendering: pixelated; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; }
""".strip()


class ReportedErrors(NamedTuple):
    """The most confident errors with a PNG file each (None for a visitor's row), or a query that lists them."""

    errors: Sequence[ConfidentError]
    pictures: Sequence[bytes | None]
    query: str


def page(
    title: str,
    facts: Mapping[str, object],
    parameters: Mapping[str, object],
    matrix: Sequence[Sequence[int]],
    classes: Sequence[str],
    figures: Mapping[str, Figure],
    reported: ReportedErrors,
) -> str:
    """Return the page: facts, parameters, scores per class, confusion matrix, figures and errors."""
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        _pairs(facts),
        f"<h2>Parameters</h2>\n{_pairs(parameters)}",
        f"<h2>Scores per class (validation)</h2>\n{_scores(matrix, classes)}",
        f"<h2>Confusion matrix (validation)</h2>\n{_matrix(matrix, classes)}",
        *(f"<h2>{html.escape(name)}</h2>\n{_image(name, figure)}" for name, figure in figures.items()),
        f"<h2>Most confident errors (validation)</h2>\n{_errors(reported, classes)}",
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}\n</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _pairs(values: Mapping[str, object]) -> str:
    rows = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in values.items()
    )
    return _table(rows)


def _table(rows: Iterable[str], kind: str = "") -> str:
    """Return a table that scrolls where it is wider than the page."""
    return f'<div class="wide"><table class="{kind}">\n' + "\n".join(rows) + "\n</table></div>"


def _scores(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    scores = class_scores(matrix, classes)
    header = "<tr><th>#</th><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>support</th></tr>"
    rows = [_score_row(row, str(number)) for number, row in enumerate(scores)]
    return _table([header, *rows, *(_score_row(row, "") for row in means(matrix, scores))])


def _score_row(scores: ClassScores, number: str) -> str:
    """Return the row of a class, or of a mean, which has no number."""
    shares = "".join(f'<td class="number">{value:.4f}</td>' for value in (scores.precision, scores.recall, scores.f1))
    cells = f'<td class="number">{number}</td><th>{html.escape(scores.name)}</th>{shares}'
    kind = "" if number else ' class="mean"'
    return f'<tr{kind}>{cells}<td class="number">{scores.support:,}</td></tr>'


def _matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Return the row counts per true class (down) and predicted class (across); a darker cell is a larger share."""
    names = [html.escape(name) for name in classes]
    header = "".join(f"<th><span>{name}</span></th>" for name in names)
    rows = [
        f"<tr><th><span>{name}</span></th>{''.join(_cell(count, sum(counts)) for count in counts)}</tr>"
        for name, counts in zip(names, matrix, strict=True)
    ]
    return _table([f"<thead><tr><th>true ↓ predicted →</th>{header}</tr></thead><tbody>", *rows, "</tbody>"], "matrix")


def _cell(count: int, total: int) -> str:
    """Return a cell, coloured by its share of the true class's rows; an empty one where the count is 0."""
    return f'<td style="--share: {0.6 * count / total:.3f}">{count}</td>' if count else "<td></td>"


def _errors(reported: ReportedErrors, classes: Sequence[str]) -> str:
    """Return the errors: pictures of the rows, or the query that lists them for those who may read them."""
    if not reported.errors:
        return "<p>The model predicts every row of the validation split correctly.</p>"
    if reported.query:
        return (
            "<p>The rows stay in the training database. To list up to 20 misclassified rows of the table, most "
            "confident first, run <code>./run psql trainer</code> and enter this query. It uses the model that was "
            f"evaluated last:</p>\n<pre>{html.escape(reported.query)}</pre>"
        )
    figures = (
        _error(error, picture, classes) for error, picture in zip(reported.errors, reported.pictures, strict=True)
    )
    return '<div class="errors">\n' + "\n".join(figures) + "\n</div>"


def _error(error: ConfidentError, picture: bytes | None, classes: Sequence[str]) -> str:
    label, predicted = html.escape(classes[error.label]), html.escape(classes[error.predicted])
    image = "<p>sent by a visitor</p>" if picture is None else _png(f"a row of the class {label}", picture)
    caption = f"predicted <b>{predicted}</b> ({error.probability:.1%}), true {label}"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _image(name: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return _png(html.escape(name), buffer.getvalue())


def _png(alt_text: str, file: bytes) -> str:
    """Return an img element; `alt_text` is escaped HTML."""
    return f'<img alt="{alt_text}" src="data:image/png;base64,{base64.b64encode(file).decode()}">'
