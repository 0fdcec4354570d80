"""The page's charts. The browser draws them from the numbers in the page and fetches nothing from elsewhere."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from app.records import AccuracyRow, DriftRow

# The names of more classes than this would overlap.
MAX_LABELLED = 25
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
ACCENT, PALE, ALARM, LIMIT = "#1f6feb", "#a9c8f5", "#c93c37", "#6e7781"


def probabilities(classes: Sequence[str], values: Sequence[float], label: str) -> alt.LayerChart:
    """Return one bar per class, in class order; the predicted class has a stronger colour."""
    rows = [
        {"class": name, "probability": value, "predicted": name == label}
        for name, value in zip(classes, values, strict=True)
    ]
    labelled = len(classes) <= MAX_LABELLED
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(labels=labelled, ticks=False)),
        x=alt.X(
            "probability:Q", title="probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5)
        ),
        tooltip=["class:N", alt.Tooltip("probability:Q", format=".2%")],
    )
    bars = base.mark_bar().encode(color=_either("datum.predicted", ACCENT, PALE))
    # There is no room beside the longest bars, so their number stands inside.
    numbers = [
        base.transform_filter(f"datum.probability {where} 0.85")
        .mark_text(align=align, dx=dx, color=color)
        .encode(text=alt.Text("probability:Q", format=".1%"))
        for where, align, dx, color in (("<", "left", 4, "gray"), (">=", "right", -4, "white"))
    ]
    layers = [bars, *numbers] if labelled else [bars]
    return alt.layer(*layers).properties(height=_height(len(classes)), description="Probability of each class")


def confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> alt.LayerChart:
    """Return a heat map, true × predicted class, coloured by the share of the row."""
    rows = [
        {"true": true, "predicted": predicted, "rows": count, "share": count / (sum(counts) or 1)}
        for true, counts in zip(classes, matrix, strict=True)
        for predicted, count in zip(classes, counts, strict=True)
    ]
    labelled = len(classes) <= MAX_LABELLED
    axis = alt.Axis(labels=labelled, ticks=False, labelAngle=0 if max(map(len, classes)) < 4 else -45)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("predicted:N", sort=None, title="predicted class", axis=axis),
        y=alt.Y("true:N", sort=None, title="true class", axis=alt.Axis(labels=labelled, ticks=False)),
        tooltip=["true:N", "predicted:N", "rows:Q", alt.Tooltip("share:Q", format=".1%", title="share of the class")],
    )
    cells = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], range=["#f3f7fc", "#0b4a92"]), legend=None)
    )
    numbers = base.mark_text().encode(text="rows:Q", color=_either("datum.share > 0.5", "white", "#1c2733"))
    layers = [cells, numbers] if labelled else [cells]
    return alt.layer(*layers).properties(height=min(max(34 * len(classes), 220), 620), description="Confusion matrix")


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
        .mark_line(point=len(rows) <= MAX_LABELLED)
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
    minimum = sorted((row["psi"] for row in statistics), reverse=True)[:MAX_LABELLED][-1]
    rows = [
        {"statistic": readable(row["statistic"]), "psi": float(row["psi"]), "drift": row["psi"] > limit}
        for row in statistics
        if row["psi"] >= minimum
    ]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            y=alt.Y("statistic:N", sort=None, title=None, axis=alt.Axis(ticks=False)),
            x=alt.X("psi:Q", title="population stability index", axis=alt.Axis(tickCount=5)),
            color=_either("datum.drift", ALARM, ACCENT),
            tooltip=["statistic:N", alt.Tooltip("psi:Q", format=".3f")],
        )
    )
    chart = alt.layer(bars, _limit("x", limit, f"limit {limit:g}"))
    return chart.properties(height=_height(len(rows)), description="Drift of each statistic")


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
    return base.mark_rule(strokeDash=[5, 4], color=LIMIT) + base.mark_text(color=LIMIT, **text).encode(
        text="label:N", **place
    )


def _height(bars: int) -> int:
    """Return the height in pixels for that many bars."""
    return min(max(28 * bars, 120), 600)
