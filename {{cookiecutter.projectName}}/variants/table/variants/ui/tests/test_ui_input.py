"""The page's form for a row: big whole numbers are exact, NULL can be entered, and long texts have room."""

import json
from typing import Any

import pytest
from page_environment import call

BIG = 2**53 + 1


def column(type_: str = "bigint", **changed: Any) -> dict[str, Any]:
    """Return a column of the encoding."""
    kind = {"text": "text", "boolean": "boolean"}.get(type_, "number")
    numbers = {"vocabulary": ["a", "b"]} if kind == "text" else {"mean": 2.0, "deviation": 1.0}
    return {"name": "value", "type": type_, "kind": kind, "nulls": False, **numbers, **changed}


def fill_in(*columns: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return the fields of the form, its predicted rows and its refusal."""
    return call("page_visit", {"columns": columns, "values": values})


@pytest.mark.parametrize("type_", ["bigint", "numeric", "numeric(20,0)"])
@pytest.mark.parametrize("number", [BIG, -BIG, 2**63 - 1])
def test_a_big_whole_number_is_exact(type_, number) -> None:
    shown = fill_in(column(type_, mean=float(2**60)), value=f" {number} ")
    assert shown["fields"]["value"][0] == "text_input"
    assert shown["rows"] == [json.dumps({"value": number})]


def test_the_form_starts_with_numbers_that_it_accepts() -> None:
    """The float nearest to the largest bigint is a larger number; a mean of numeric is written in digits."""
    columns = [
        column(name="largest", mean=float(2**63 - 1)),
        column(name="smallest", mean=-float(2**63)),
        column("numeric", name="large", mean=1.2345e18),
        column("numeric", name="small", mean=0.125),
    ]
    shown = fill_in(*columns)
    first = {name: value for name, (_, value) in shown["fields"].items()}
    large = str(int(float(f"{1.2345e18:.4g}")))
    assert first == {"largest": str(2**63 - 1), "smallest": str(-(2**63)), "large": large, "small": "0.125"}
    assert json.loads(shown["rows"][0]) == {name: json.loads(value) for name, value in first.items()}


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("bigint", "1.5"),
        ("bigint", "1_000"),
        ("bigint", "many"),
        ("bigint", ""),
        ("bigint", str(2**63)),
        ("bigint", "٣"),
        ("numeric", "nan"),
        ("numeric", "1e999"),
        ("numeric", "9" * 310),
        ("numeric", "1,5"),
        ("numeric", ""),
    ],
)
def test_text_that_is_no_number_is_refused(type_, text) -> None:
    """In a sentence that names the column, instead of an error of the page."""
    shown = fill_in(column(type_), value=text)
    assert shown["refused"].startswith("Column value must be a")
    assert not shown["rows"]


@pytest.mark.parametrize("text", ["12.5", "-0.5", ".5", "5.", "1e3", "+7"])
def test_what_a_numeric_field_takes(text) -> None:
    assert json.loads(fill_in(column("numeric"), value=text)["rows"][0]) == {"value": float(text)}


def test_null_can_be_entered() -> None:
    """In each kind of field of a column that has NULLs; other columns keep an empty text."""
    long = ["x" * 100, "y"]
    columns = [
        column(name="big", nulls=True),
        column("numeric", name="exact", nulls=True),
        column("integer", name="small", nulls=True),
        column("double precision", name="real", nulls=True),
        column("boolean", name="yes or no", nulls=True),
        column("text", name="word", nulls=True),
        column("text", name="long", nulls=True, vocabulary=long),
        column("text", name="long without NULL", vocabulary=long),
        column("text", name="long with an empty text", nulls=True, vocabulary=[*long, ""]),
    ]
    empty = {"big": "", "exact": " ", "small": None, "real": None, "yes or no": None, "word": None, "long": ""}
    shown = fill_in(*columns, **empty, **{"long without NULL": "", "long with an empty text": ""})
    assert json.loads(shown["rows"][0]) == {
        **dict.fromkeys(empty),
        "long without NULL": "",
        "long with an empty text": "",
    }


def test_a_column_of_long_texts_has_a_field_of_several_lines() -> None:
    """Of short texts there is a list."""
    other = "another long text\nof two lines " * 20
    columns = [column("text", name="long", vocabulary=["x" * 61]), column("text", name="word", vocabulary=["x" * 60])]
    shown = fill_in(*columns, long=other)
    assert {name: kind for name, (kind, _) in shown["fields"].items()} == {"long": "text_area", "word": "selectbox"}
    assert json.loads(shown["rows"][0]) == {"long": other, "word": "x" * 60}


def test_small_whole_numbers_and_floats_keep_their_fields() -> None:
    shown = fill_in(column("integer", name="small"), column("double precision", name="real", mean=1e300))
    assert {name: kind for name, (kind, _) in shown["fields"].items()} == {
        "small": "number_input",
        "real": "number_input",
    }
    assert json.loads(shown["rows"][0]) == {"small": 2, "real": 1e300}
