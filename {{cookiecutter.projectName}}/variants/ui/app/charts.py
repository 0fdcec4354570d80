"""The page's charts. The browser draws them from the numbers in the page and fetches nothing from elsewhere."""

import json
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from app.records import AccuracyRow, DriftRow

# A chart of more classes, or points, leaves out the numbers in it and the marks on its line.
MAX_NUMBERED = 25
# A chart of more classes shows those that matter most.
MAX_CLASSES = 100
# Longest line of a class name and longest name beneath the confusion matrix, in Latin letters.
LINE, BENEATH = 28, 40
# Lines of a name; the middle of a longer name is left out.
MAX_LINES = 3
# Pixels of a letter, of a line, of a line in a chart without numbers, and of the axis' title.
LETTER, LINE_HEIGHT, SMALL_LINE, TITLE = 7, 15, 13, 40
# Pixels of the widest chart's cells: half of the page, or the whole page.
HALF, WHOLE = 420, 950
# Time format per unit between two ticks of the axis.
TIME = {
    "milliseconds": "%H:%M:%S",
    "seconds": "%H:%M:%S",
    "minutes": "%H:%M",
    "hours": "%H:%M",
    "date": "%d %b",
    "week": "%d %b",
    "month": "%b %Y",
}
# Visible on a light and on a dark page.
ACCENT, PALE, ALARM, LIMIT = "#1f6feb", "#7fb0f5", "#d1453f", "#7d8590"
CELL = "#1257b0"
# The colour of the text around the chart, which follows the page's theme.
TEXT = "currentColor"


def probabilities(classes: Sequence[str], values: Sequence[float], label: str) -> alt.LayerChart:
    """Return one bar per class, in class order; the predicted class has a stronger colour.

    Of more than MAX_CLASSES classes, the most probable ones are shown.
    """
    shown = _largest(values)
    names = [classes[place] for place in shown]
    rows = [
        {"class": classes[place], "probability": values[place], "predicted": classes[place] == label} for place in shown
    ]
    lines = _lines(names)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("class:N", sort=names, title=None, axis=_names(lines)),
        x=alt.X(
            "probability:Q", title="probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5)
        ),
        tooltip=["class:N", alt.Tooltip("probability:Q", format=".2%")],
    )
    bars = base.mark_bar().encode(color=_either("datum.predicted", ACCENT, PALE))
    # There is no room beside the longest bars, so their number stands inside.
    beside, inside = (base.transform_filter(f"datum.probability {where} 0.85") for where in ("<", ">="))
    numbers = [
        beside.mark_text(align="left", dx=4, color=TEXT).encode(text=alt.Text("probability:Q", format=".1%")),
        inside.mark_text(align="right", dx=-4, color="white").encode(text=alt.Text("probability:Q", format=".1%")),
    ]
    height = max(_rows_height(lines), 80) + TITLE
    return alt.layer(bars, *numbers).properties(height=height, description="Probability of each class")


def confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> alt.LayerChart:
    """Return a heat map, true × predicted class, coloured by the share of the row.

    Of more than MAX_CLASSES classes, those with most wrong predictions are shown.
    """
    shown = _largest([sum(counts) - counts[place] for place, counts in enumerate(matrix)])
    names = [classes[place] for place in shown]
    rows = [
        {
            "true": classes[true],
            "predicted": classes[predicted],
            "rows": matrix[true][predicted],
            "share": matrix[true][predicted] / (sum(matrix[true]) or 1),
        }
        for true in shown
        for predicted in shown
    ]
    lines = _lines(names)
    beneath, room = _names_beneath(names)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("predicted:N", sort=names, title="predicted class", axis=beneath),
        y=alt.Y("true:N", sort=names, title="true class", axis=_names(lines)),
        tooltip=["true:N", "predicted:N", "rows:Q", alt.Tooltip("share:Q", format=".1%", title="share of the class")],
    )
    # A transparent cell has the page's colour, whatever the theme.
    opacity = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 1]), legend=None)
    layers = [base.mark_rect(color=CELL).encode(opacity=opacity)]
    if len(names) <= MAX_NUMBERED:
        pale, strong = (base.transform_filter(f"datum.share {where} 0.5") for where in ("<=", ">"))
        layers += [
            pale.mark_text(color=TEXT).encode(text="rows:Q"),
            strong.mark_text(color="white").encode(text="rows:Q"),
        ]
    height = max(_rows_height(lines), 180) + room + TITLE
    return alt.layer(*layers).properties(height=height, description="Confusion matrix")


def needs_whole_width(classes: Sequence[str]) -> bool:
    """Return whether the names beneath a confusion matrix of these classes need the page's whole width."""
    return min(len(classes), MAX_CLASSES) * LINE_HEIGHT > HALF


def accuracy(history: Sequence[AccuracyRow], floor: float) -> alt.LayerChart:
    """Return the accuracy over time, one line per version, and the floor below which the model is retrained."""
    rows = [
        {
            "time": row["labelled_at"].isoformat(),
            "version": f"version {row['version']}",
            "accuracy": float(row["accuracy"]),
            "labelled": row["labelled"],
        }
        for row in history
    ]
    lines = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=len(rows) <= MAX_NUMBERED)
        .encode(
            x=alt.X("time:T", title="time (UTC)", scale=alt.Scale(type="utc"), axis=alt.Axis(format=TIME, tickCount=5)),
            y=alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
            color=alt.Color("version:N", title=None, sort=None, legend=alt.Legend(orient="top")),
            tooltip=["version:N", alt.Tooltip("accuracy:Q", format=".1%"), alt.Tooltip("labelled:Q", title="labels")],
        )
    )
    chart = alt.layer(lines, _limit("y", floor, f"floor {floor:g}"))
    return chart.properties(height=300, description="Accuracy over time")


def drift(statistics: Sequence[DriftRow], limit: float) -> alt.LayerChart:
    """Return the population stability index of the statistics that drifted most, one bar each, and its limit."""
    minimum = sorted((row["psi"] for row in statistics), reverse=True)[:MAX_NUMBERED][-1]
    rows = [
        {"statistic": readable(row["statistic"]), "psi": float(row["psi"]), "drift": row["psi"] > limit}
        for row in statistics
        if row["psi"] >= minimum
    ]
    lines = _lines([str(row["statistic"]) for row in rows])
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            y=alt.Y("statistic:N", sort=None, title=None, axis=_names(lines)),
            x=alt.X("psi:Q", title="population stability index", axis=alt.Axis(tickCount=5)),
            color=_either("datum.drift", ALARM, ACCENT),
            tooltip=["statistic:N", alt.Tooltip("psi:Q", format=".3f")],
        )
    )
    chart = alt.layer(bars, _limit("x", limit, f"limit {limit:g}"))
    return chart.properties(height=max(_rows_height(lines), 80) + TITLE, description="Drift of each statistic")


def sort_key(row: DriftRow) -> tuple[bool, str]:
    """Return the sort key of a statistic: those of the whole picture come before those of its parts."""
    return row["statistic"].startswith("part"), row["statistic"]


def readable(statistic: str) -> str:
    """Return a statistic's name with spaces between its words."""
    return statistic.replace("_", " ")


def _either(test: str, yes: str, no: str) -> Any:
    return alt.condition(test, alt.value(yes), alt.value(no))


def _limit(axis: str, value: float, label: str) -> alt.LayerChart:
    """Return a dashed line across the chart with its label."""
    base = alt.Chart(alt.Data(values=[{"value": value, "label": label}])).encode(**{axis: "value:Q"})
    text = {"align": "left", "dx": 4, "dy": 4, "baseline": "top"}
    place = {"x": alt.value(0)} if axis == "y" else {"y": alt.value(0)}
    return base.mark_rule(strokeDash=[5, 4], color=LIMIT) + base.mark_text(color=TEXT, **text).encode(
        text="label:N", **place
    )


def _largest(values: Sequence[float]) -> list[int]:
    """Return the places of the MAX_CLASSES largest values, in their order."""
    return sorted(sorted(range(len(values)), key=lambda place: -values[place])[:MAX_CLASSES])


def _names_beneath(names: Sequence[str]) -> tuple[alt.Axis, int]:
    """Return the horizontal axis with every name, at an angle without overlaps, and its height in pixels."""
    short = {name: [_shortened(name, BENEATH)] for name in names}
    longest = max(LETTER * _width(parts[0]) for parts in short.values())
    room = (WHOLE if needs_whole_width(names) else HALF) / len(names)
    if longest < room:
        return _names(short, labelAngle=0), LINE_HEIGHT
    if room > 1.5 * LINE_HEIGHT:
        return _names(short, labelAngle=-45), int(0.75 * longest) + LINE_HEIGHT
    return _names(short, labelAngle=-90), longest + LINE_HEIGHT


def _names(lines: Mapping[str, Sequence[str]], **options: object) -> alt.Axis:
    """Return an axis that shows each name as its lines, and leaves none out."""
    size = {"labelFontSize": 10} if len(lines) > MAX_NUMBERED else {}
    return alt.Axis(
        labelExpr=f"{json.dumps(lines)}[datum.value]",
        labelLimit=0,
        labelOverlap=False,
        labelFlush=False,
        labelBound=False,
        labelColor=TEXT,
        ticks=False,
        **_shift(lines),
        **size,
        **options,
    )


def _shift(lines: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Return the offset that puts the middle of a name of several lines, not its first line, beside its row."""
    several = [[name for name, parts in lines.items() if len(parts) == count] for count in range(2, MAX_LINES + 1)]
    conditions = [
        {"test": f"indexof({json.dumps(names)}, datum.value) >= 0", "value": -place * LINE_HEIGHT / 2}
        for place, names in enumerate(several, 1)
        if names
    ]
    return {"labelOffset": {"condition": conditions, "value": 0}} if conditions else {}


def _rows_height(lines: Mapping[str, Sequence[str]]) -> int:
    """Return the height of all rows in pixels; each is as high as the highest."""
    if len(lines) > MAX_NUMBERED:
        return SMALL_LINE * len(lines)
    return (LINE_HEIGHT * max(map(len, lines.values()), default=0) + 12) * len(lines)


def _lines(names: Sequence[str]) -> dict[str, list[str]]:
    """Return each name in up to MAX_LINES lines of LINE Latin letters, or in one line if there are many names."""
    if len(names) > MAX_NUMBERED:
        return {name: [_shortened(name, BENEATH)] for name in names}
    return {name: _wrapped(name) for name in names}


def _wrapped(name: str) -> list[str]:
    letters = LINE * len(name) // max(_width(name), 1)
    return textwrap.wrap(_shortened(name, MAX_LINES * LINE - LINE // 2), letters) or [name]


def _shortened(name: str, width: int) -> str:
    """Return a name, without its middle if it is wider than so many Latin letters."""
    if _width(name) <= width:
        return name
    length = (width - 1) * len(name) // _width(name)
    return f"{name[: length - length // 2]}…{name[len(name) - length // 2 :]}"


def _width(text: str) -> int:
    """Return the width of a text in Latin letters; those of East Asian scripts count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
