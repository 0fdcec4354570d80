"""The specifications of the page's charts: every class name is shown, and the colours suit a light and a dark page."""

import json
import re
import unicodedata
from typing import Any

import pytest
from page_environment import call

FOUR = [
    "chronic obstructive pulmonary disease with acute exacerbation",
    "community-acquired pneumonia",
    "pulmonary embolism without acute cor pulmonale",
    "well",
]
NAMES = {
    "digits": [str(number) for number in range(10)],
    "four long names": FOUR,
    "a hundred": [f"class number {number}" for number in range(100)],
    "of East Asian scripts": ["慢性閉塞性肺疾患の急性増悪を伴う患者の分類", "肺炎", "폐색전증", "健康"],
    "quotes and more": ['a "quoted" \\ name', "it's <b>bold</b>", "tab\there", "\U0001f600"],
}
Charts = tuple[dict[str, Any], dict[str, Any], bool]


def numbers(count: int) -> tuple[list[float], list[list[int]]]:
    """Return equal probabilities, and a confusion matrix without a wrong prediction."""
    return [1 / count] * count, [[9 * (row == column) for column in range(count)] for row in range(count)]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Charts]:
    """Both charts of each list of names."""
    return call("chart_specifications", {name: (classes, *numbers(len(classes))) for name, classes in NAMES.items()})


def axis_of(chart: dict[str, Any], channel: str) -> dict[str, Any]:
    return chart["layer"][0]["encoding"][channel]["axis"]


def lines_of(axis: dict[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each name, after the checks that the axis leaves out and cuts off none."""
    assert axis["labelOverlap"] is False
    assert axis["labelLimit"] == 0
    assert axis.get("labels", True)
    assert axis["labelExpr"].endswith("[datum.value]")
    return json.loads(axis["labelExpr"].removesuffix("[datum.value]"))


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


@pytest.mark.parametrize("names", NAMES)
def test_every_name_is_beside_its_bar(drawn, names) -> None:
    (chart, _, _), classes = drawn[names], NAMES[names]
    lines = lines_of(axis_of(chart, "y"))
    assert list(lines) == classes == chart["layer"][0]["encoding"]["y"]["sort"]
    for name, parts in lines.items():
        assert "".join(parts).replace(" ", "") == re.sub(r"\s", "", name)
        assert max(map(width, parts)) <= 30
    # Each line of a name has room, in rows of equal height.
    assert chart["height"] >= 13 * len(lines) * max(map(len, lines.values()))


@pytest.mark.parametrize("names", NAMES)
def test_every_name_is_on_both_sides_of_the_confusion_matrix(drawn, names) -> None:
    (_, chart, whole), classes = drawn[names], NAMES[names]
    beside, beneath = (axis_of(chart, channel) for channel in "yx")
    assert list(lines_of(beside)) == list(lines_of(beneath)) == classes
    # The names beneath take their height from the chart's.
    longest = max(width(parts[0]) for parts in lines_of(beneath).values())
    room = {0: 0, -45: 4, -90: 6}[beneath["labelAngle"]] * longest
    assert chart["height"] - room >= 13 * len(classes) * max(map(len, lines_of(beside).values()))
    assert whole == (len(classes) > 28)


@pytest.mark.parametrize(("names", "angle"), [("digits", 0), ("four long names", -45), ("a hundred", -90)])
def test_the_names_beneath_are_turned_when_they_need_to_be(drawn, names, angle) -> None:
    assert axis_of(drawn[names][1], "x")["labelAngle"] == angle


def test_a_very_long_name_loses_its_middle() -> None:
    names = ["start " + "x" * 500 + " end"]
    ((chart, _, _),) = call("chart_specifications", {"long": (names, *numbers(1))}).values()
    (lines,) = lines_of(axis_of(chart, "y")).values()
    text = "".join(lines)
    assert len(lines) <= 3
    assert text.startswith("start") and text.endswith("end") and "…" in text


def test_of_very_many_classes_the_largest_are_shown() -> None:
    """The most probable ones, and those with most wrong predictions, in class order."""
    classes = [f"class {number}" for number in range(120)]
    matrix = [[number if column == 0 else 1 for column in range(120)] for number in range(120)]
    argument = {"many": (classes, [number / 120 for number in range(120)], matrix)}
    ((bars, cells, whole),) = call("chart_specifications", argument).values()
    for chart in (bars, cells):
        assert list(lines_of(axis_of(chart, "y"))) == classes[20:]
    assert whole
    # The share is of all rows of the class, also of those in columns that are not shown.
    (data,) = cells["datasets"].values() if "datasets" in cells else [cells["data"]["values"]]
    assert data[0] == {"true": "class 20", "predicted": "class 20", "rows": 1, "share": 1 / 139}


def test_text_has_the_colour_of_the_page(drawn) -> None:
    """Except the text on a bar or a cell of a strong colour."""
    bars, cells, _ = drawn["four long names"]
    for chart in (bars, cells):
        texts = [layer["mark"] for layer in chart["layer"] if layer["mark"]["type"] == "text"]
        assert {text["color"] for text in texts} == {"currentColor", "white"}
    (rectangles,) = [layer for layer in cells["layer"] if layer["mark"]["type"] == "rect"]
    assert rectangles["encoding"]["opacity"]["scale"]["domain"] == [0, 1]
