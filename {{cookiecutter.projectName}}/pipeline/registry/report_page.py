"""The HTML report of a trained model: one file, without scripts and without anything from elsewhere.

Class names are text of the page, not of a picture, so that the browser's fonts show them in any script.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from pipeline.registry.class_scores import ClassScores, class_scores, means
from pipeline.registry.confidence import Mistake

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
.mistakes { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; }
.mistakes figure { margin: 0; width: 9rem; overflow-wrap: anywhere; }
.mistakes img { width: 100%; padding: 0; image-rendering: pixelated; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; }
""".strip()


class ShownMistakes(NamedTuple):
    """The surest mistakes, surest first, with the PNG file of each row or None; or the SQL that lists them."""

    mistakes: Sequence[Mistake]
    pictures: Sequence[bytes | None]
    statement: str


def page(
    title: str,
    facts: Mapping[str, object],
    parameters: Mapping[str, object],
    matrix: Sequence[Sequence[int]],
    classes: Sequence[str],
    figures: Mapping[str, Figure],
    shown: ShownMistakes,
) -> str:
    """Return the page: facts, parameters, scores per class, confusion matrix, figures and mistakes."""
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        _pairs(facts),
        f"<h2>Parameters</h2>\n{_pairs(parameters)}",
        f"<h2>Scores per class (validation)</h2>\n{_scores(matrix, classes)}",
        f"<h2>Confusion matrix (validation)</h2>\n{_matrix(matrix, classes)}",
        *(f"<h2>{html.escape(name)}</h2>\n{_image(name, figure)}" for name, figure in figures.items()),
        f"<h2>Surest mistakes (validation)</h2>\n{_mistakes(shown, classes)}",
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


def _mistakes(shown: ShownMistakes, classes: Sequence[str]) -> str:
    """Return the mistakes: pictures of the rows, or the statement that lists them for those who may read them."""
    if not shown.mistakes:
        return "<p>No row of the validation split has a wrong answer.</p>"
    if shown.statement:
        return (
            "<p>The rows stay in the training database. As its trainer (<code>./run psql trainer</code>), list those "
            f"with a wrong answer of the model that was evaluated last:</p>\n<pre>{html.escape(shown.statement)}</pre>"
        )
    figures = (
        _mistake(mistake, picture, classes) for mistake, picture in zip(shown.mistakes, shown.pictures, strict=True)
    )
    return '<div class="mistakes">\n' + "\n".join(figures) + "\n</div>"


def _mistake(mistake: Mistake, picture: bytes | None, classes: Sequence[str]) -> str:
    label, answer = html.escape(classes[mistake.label]), html.escape(classes[mistake.answer])
    image = "<p>sent by a visitor</p>" if picture is None else _png(f"a row of the class {label}", picture)
    caption = f"<b>{answer}</b> {mistake.probability:.1%}<br>is {label}"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _image(name: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return _png(html.escape(name), buffer.getvalue())


def _png(alternative: str, file: bytes) -> str:
    """Return the picture; `alternative` is the HTML of its text."""
    return f'<img alt="{alternative}" src="data:image/png;base64,{base64.b64encode(file).decode()}">'
