"""The API for rows of a table over a stand-in for the database: its calls, its refusals and their messages."""

import contextlib
import dataclasses
import datetime
import json

import pytest
from fastapi.testclient import TestClient

from app import endpoints, inputs, rows
from app.api_keys import line
from app.authentication import authenticator
from app.predictions import DatabaseAway, Model, Prediction, RefusedInput, WaitingForModel
from app.records import InputStatistics
from app.settings import Settings
from app.subjects import ROLES

NOW = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
ENCODING = {
    "label": "outcome",
    "key": ["id"],
    "columns": [
        {
            "name": "weight",
            "type": "double precision",
            "kind": "number",
            "mean": 70.25,
            "deviation": 9.5,
            "nulls": True,
        },
        {"name": "age in years", "type": "smallint", "kind": "number", "mean": 41.5, "deviation": 12.0, "nulls": False},
        {"name": "smoker", "type": "boolean", "kind": "boolean", "mean": 0.3, "deviation": 0.46, "nulls": False},
        {"name": "city", "type": "text", "kind": "text", "vocabulary": ["Basel", "Bern"], "nulls": True},
    ],
}
MODEL = Model("visits", "staging", 3, ("ill", "well"), (5,), "float32", {}, "hash", "commit", NOW, NOW, {}, ENCODING)
SETTINGS = Settings("visits", "Who gets well.", "staging", True, 0.5, 0.25, 200)
ROW = {"weight": 70.25, "age in years": 42, "smoker": False, "city": "Basel"}
ID = "0b1f7c9e-3d52-4c8a-9a57-0f6f7f1f2c11"


class StandIn:
    """Answers as the database would. `models` are served one after the other, the last one forever."""

    def __init__(self, *models: Model | None) -> None:
        self.models = list(models) or [MODEL]
        self.rows: list[dict] = []
        self.error: Exception | None = None

    def model(self, newest: bool = False) -> Model | None:
        if newest and len(self.models) > 1:
            self.models.pop(0)
        if self.error:
            raise self.error
        return self.models[0]

    def served(self, newest: bool = False) -> Model:
        model = self.model(newest)
        if not model:
            raise WaitingForModel("no version yet")
        return model

    def classes(self, version: int) -> tuple[str, ...]:
        return MODEL.classes

    def predict_many(self, rows: list[str], subject: str) -> list[Prediction]:
        self.rows += map(json.loads, rows)
        return [Prediction(ID, "well", (0.25, 0.75), "visits", self.models[-1].version) for _ in rows]

    def close(self) -> None:
        """Do nothing: no connection is open."""


@contextlib.contextmanager
def serving(stand_in: StandIn, settings: Settings = SETTINGS):
    app = endpoints.create_app(settings, stand_in, authenticator(settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(name="stand_in")
def _stand_in() -> StandIn:
    return StandIn()


@pytest.fixture(name="client")
def _client(stand_in):
    with serving(stand_in) as client:
        yield client


def problem(answer, status: int) -> str:
    """Return the sentence of an error answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def test_the_body_is_the_row(client, stand_in) -> None:
    answer = client.post("/predictions", json=ROW)
    assert answer.json() == {
        "prediction_id": ID,
        "label": "well",
        "probabilities": {"ill": 0.25, "well": 0.75},
        "model": "visits",
        "version": 3,
        "unlike_training": [],
    }
    assert stand_in.rows == [ROW]


def test_the_answer_names_what_is_unlike_the_training_rows() -> None:
    known = InputStatistics(statistic="weight", minimum=40, maximum=140)
    stand_in = StandIn(dataclasses.replace(MODEL, inputs=(known,)))
    with serving(stand_in) as client:
        answers = [
            client.post("/predictions", json={**ROW, **changed}).json()["unlike_training"]
            for changed in ({"weight": 150}, {"weight": None}, {"weight": 700, "city": "Nowhere"})
        ]
    assert answers == [
        [],
        [],
        ["weight 700 (training rows: 40 to 140)", "city is a text that no training row has"],
    ]


@pytest.mark.parametrize(("kind", "unlike"), [("character(8)", False), ("text", True)])
def test_blanks_at_the_end_of_a_character_column_are_ignored(kind, unlike) -> None:
    """PostgreSQL writes a character(8) with them."""
    columns = [*ENCODING["columns"][:3], {**ENCODING["columns"][3], "type": kind}]
    model = dataclasses.replace(MODEL, encoding={**ENCODING, "columns": columns})
    assert bool(inputs.unlike(model, json.dumps({**ROW, "city": "Basel   "}))) == unlike


@pytest.mark.parametrize(
    ("changed", "stored"),
    [
        ({"weight": 70}, {"weight": 70.0}),
        ({"age in years": 42.0}, {"age in years": 42}),
        (dict.fromkeys(ROW), dict.fromkeys(ROW)),
        ({"city": "Zürich \U0001f600"}, {"city": "Zürich \U0001f600"}),
    ],
)
def test_what_a_row_may_hold(client, stand_in, changed, stored) -> None:
    """Whole numbers in number columns, null in every column, texts that no training row has."""
    assert client.post("/predictions", json={**ROW, **changed}).status_code == 200
    assert stand_in.rows == [{**ROW, **stored}]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": "70"}, 'Column weight must be a number, or null; "70" was given.'),
        ({"weight": True}, "Column weight must be a number, or null; true was given."),
        ({"weight": [70]}, "Column weight must be a number, or null; [70] was given."),
        ({"age in years": 41.5}, "Column age in years must be a whole number from -32768 to 32767, or null; 41.5 was"),
        ({"age in years": 32768}, "Column age in years must be a whole number from -32768 to 32767, or null; 32768"),
        ({"age in years": True}, "Column age in years must be a whole number"),
        ({"smoker": 1}, "Column smoker must be true or false, or null; 1 was given."),
        ({"smoker": "yes"}, 'Column smoker must be true or false, or null; "yes" was given.'),
        ({"city": 7}, "Column city must be text without the character of code 0, or null; 7 was given."),
        ({"city": "a\0b"}, 'Column city must be text without the character of code 0, or null; "a\\u0000b" was given.'),
        ({"outcome": "well"}, 'There is no column "outcome"; the columns are weight, age in years, smoker, city.'),
        ({"x" * 1000: 1}, "x…; the columns are weight"),
    ],
)
def test_a_wrong_column_is_named(client, stand_in, changed, message) -> None:
    assert message in problem(client.post("/predictions", json={**ROW, **changed}), 422)
    assert not stand_in.rows


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"weight": NaN, "age in years": 1, "smoker": null, "city": null}', "Column weight must be a number"),
        ('{"weight": 1e999, "age in years": 1, "smoker": null, "city": null}', "Column weight must be a number"),
        ('{"weight": 1, "age in years": 1, "smoker": null, "city": "\\ud800"}', "Column city must be text"),
        ('{"\\ud800": 1}', 'There is no column "\\ud800"'),
        (
            '{"weight": 1, "smoker": null, "city": null}',
            "Column age in years is missing; give null for an unknown value",
        ),
        ("[]", "A JSON object is expected"),
        ("7", "A JSON object is expected"),
    ],
)
def test_a_body_that_is_no_row(client, body, message) -> None:
    answer = client.post("/predictions", content=body, headers={"Content-Type": "application/json"})
    assert message in problem(answer, 422)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 60_000, b"9" * 5000])
def test_a_body_that_cannot_be_read(client, body) -> None:
    answer = client.post("/predictions", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_a_batch_keeps_the_order_and_names_the_row(client, stand_in) -> None:
    batch = [{**ROW, "weight": float(number)} for number in range(1000)]
    assert len(client.post("/predictions/batch", json=batch).json()["predictions"]) == 1000
    assert stand_in.rows == batch
    stand_in.rows.clear()
    assert "at most 1000" in problem(client.post("/predictions/batch", json=[*batch, ROW]), 422)
    assert "at least 1" in problem(client.post("/predictions/batch", json=[]), 422)
    message = problem(client.post("/predictions/batch", json=[ROW, {**ROW, "smoker": 1}]), 422)
    assert message == "Row 2: column smoker must be true or false, or null; 1 was given."
    assert problem(client.post("/predictions/batch", json=[ROW, 7]), 422) == "A JSON object is expected (body.1)."
    assert "A JSON list is expected" in problem(client.post("/predictions/batch", json=ROW), 422)
    assert not stand_in.rows


def test_a_body_that_is_too_long_is_refused(client) -> None:
    assert "longer" in problem(client.post("/predictions", json={**ROW, "city": "x" * 300_000}), 413)
    assert "longer" in problem(client.post("/predictions/batch", json=["x" * 17_000_000]), 413)


def test_a_model_of_other_columns_is_seen_at_once() -> None:
    """A row that the old version refuses is accepted by the new one."""
    columns = [*ENCODING["columns"][:1], {**ENCODING["columns"][0], "name": "height"}]
    stand_in = StandIn(MODEL, dataclasses.replace(MODEL, version=4, encoding={**ENCODING, "columns": columns}))
    with serving(stand_in) as client:
        assert client.post("/predictions", json={"weight": 1, "height": 2}).json()["version"] == 4
    assert stand_in.rows == [{"weight": 1, "height": 2}]


def test_what_another_version_answered_is_read_as_that_one_reads_it() -> None:
    """Both versions accept the row, but encode it differently, so it is read again for the version that answers."""
    columns = [{**ENCODING["columns"][0], "type": "real"}, *ENCODING["columns"][1:]]
    stand_in = StandIn(MODEL, dataclasses.replace(MODEL, version=4, encoding={**ENCODING, "columns": columns}))
    with serving(stand_in) as client:
        assert client.post("/predictions", json=ROW).json()["version"] == 4
    assert stand_in.rows == [ROW, ROW]


def test_a_model_of_images_is_a_sentence(client, stand_in) -> None:
    stand_in.models = [dataclasses.replace(MODEL, encoding=None)]
    message = "Version 3 of visits does not take rows of a table."
    assert problem(client.post("/predictions", json=ROW), 422) == message
    assert problem(client.get("/models/visits"), 422) == message


def test_what_the_database_refuses_is_told(client, stand_in, monkeypatch) -> None:
    def refuse(rows: list[str], subject: str) -> None:
        raise RefusedInput("column weight is too far from what it was in the training rows: 1e+300")

    monkeypatch.setattr(stand_in, "predict_many", refuse)
    assert "Column weight is too far" in problem(client.post("/predictions", json=ROW), 422)


def test_the_model_tells_its_columns(client) -> None:
    answer = client.get("/models/visits").json()
    assert (answer["classes"], answer["input_shape"]) == (["ill", "well"], [5])
    columns = [{name: value for name, value in column.items() if value is not None} for column in answer["columns"]]
    assert columns == ENCODING["columns"]


def test_the_description_holds_the_columns_of_the_served_model(client, stand_in) -> None:
    described = client.get("/openapi.json").json()["components"]["schemas"]["Row"]
    assert list(described["properties"]) == described["required"] == list(ROW)
    assert described["additionalProperties"] is False
    kinds = {name: column["anyOf"][0] for name, column in described["properties"].items()}
    assert kinds == {
        "weight": {"type": "number"},
        "age in years": {"type": "integer", "minimum": -32768, "maximum": 32767},
        "smoker": {"type": "boolean"},
        "city": {"enum": ["Basel", "Bern"]},
    }
    (example,) = described["examples"]
    assert client.post("/predictions", json=example).status_code == 200
    # Another model is described anew; where there is none, or nobody knows, any row is.
    stand_in.models = [dataclasses.replace(MODEL, encoding={**ENCODING, "columns": ENCODING["columns"][:1]})]
    assert list(client.get("/openapi.json").json()["components"]["schemas"]["Row"]["properties"]) == ["weight"]
    stand_in.models = [None]
    general = client.get("/openapi.json").json()["components"]["schemas"]["Row"]
    assert "properties" not in general
    stand_in.error = DatabaseAway("it does not answer")
    assert client.get("/openapi.json").json()["components"]["schemas"]["Row"] == general


def test_many_columns_are_not_all_told() -> None:
    columns = [{**ENCODING["columns"][0], "name": f"c{number}"} for number in range(200)]
    with pytest.raises(RefusedInput, match=r"the columns are c0, .*, c19 and 180 more$"):
        rows.read({"x": 1}, {"label": "y", "columns": columns})


def test_whole_numbers_of_a_numeric_column_are_exact() -> None:
    """The description names one type, number; a number that no float can hold is refused."""
    column = {
        "name": "balance",
        "type": "numeric(30,0)",
        "kind": "number",
        "mean": 1.0,
        "deviation": 1.0,
        "nulls": False,
    }
    encoding = {"label": "outcome", "columns": [column]}
    for number in (10**20 + 1, -(2**53) - 1, 0.5, None):
        assert rows.read({"balance": number}, encoding) == json.dumps({"balance": number})
    for wrong in (True, "1", 10**400, float("inf")):
        with pytest.raises(RefusedInput, match="column balance must be a number, or null"):
            rows.read({"balance": wrong}, encoding)
    kinds = rows.schema(encoding)["properties"]["balance"]["anyOf"]
    assert kinds == [{"type": "number"}, {"type": "null"}]


def test_strangers_do_not_see_the_columns(tmp_path, monkeypatch) -> None:
    """They hold values of the training rows."""
    (tmp_path / "api-keys").mkdir()
    (tmp_path / "api-keys" / "type").write_text("api-keys", encoding="utf-8")
    for role in ROLES:
        (tmp_path / "api-keys" / role).write_text(line(f"key of {role}", (role,)), encoding="utf-8")
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    with serving(StandIn(), dataclasses.replace(SETTINGS, authentication="api-key")) as client:
        for headers in ({}, {"Authorization": "Bearer key of label"}, {"Authorization": "Bearer wrong"}):
            assert "Basel" not in client.get("/openapi.json", headers=headers).text
        assert "Basel" in client.get("/openapi.json", headers={"Authorization": "Bearer key of predict"}).text
