"""A model of a table's rows, served: SQL, the API, the page, monitoring, feedback, and the way back."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from .api import Api, sentence, serving, with_keys
from .browser import SECONDS, served, started_browser, watched_page
from .page import SCHEMES, Scheme, serious, settle
from .project import Project
from .servers import Database
from .test_rollback import DATABASES, liquibase, objects, roles

# Every kind of column: two names need quotes, and one equals the name of the classes' drift statistic.
TABLE = """CREATE TABLE visits (
    id int PRIMARY KEY, weight real, "age in years" smallint NOT NULL, smoker boolean, city text,
    "Ward" character(6) NOT NULL, class numeric(6, 2) NOT NULL, outcome text NOT NULL
)"""
COLUMNS = ["weight", "age in years", "smoker", "city", "Ward", "class"]
ROWS, WINDOW = 900, 200
TEST_PROJECT = "visits"
expect.set_options(timeout=1000 * SECONDS)


def visits(count: int, first: int = 1, seed: int = 1) -> list[dict[str, Any]]:
    """Return rows of the table; young, light patients in Bern get well."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(first, first + count):
        row = {
            "id": number,
            "weight": round(random.normal(70, 12), 1),
            "age in years": int(random.integers(18, 90)),
            "smoker": bool(random.random() < 0.3),
            "city": ["Basel", "Bern", "Zürich"][random.integers(3)],
            "Ward": ["A", "B12"][random.integers(2)],
            "class": round(random.uniform(0, 100), 2),
        }
        ill = (row["weight"] - 70) / 12 + (row["age in years"] - 54) / 20 + (row["city"] != "Bern") + row["smoker"] - 1
        row["outcome"] = "ill" if ill > 0 else "well"
        for name in ("weight", "smoker", "city"):
            row[name] = None if random.random() < 0.03 else row[name]
        rows.append(row)
    return rows


def features(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's features."""
    return {name: row[name] for name in COLUMNS}


def fill(project: Project, binding: str, rows: list[dict[str, Any]]) -> None:
    """Create the table in a database; any role may read it."""
    with project.database(binding) as database:
        database.query(TABLE)
        database.query(
            "INSERT INTO visits SELECT * FROM json_populate_recordset(NULL::visits, %s)", (json.dumps(rows),)
        )
        if binding.startswith("inference"):
            database.query("GRANT SELECT ON visits TO PUBLIC")


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Project:
    """A project that is trained on a table and deployed."""
    answers = {"sourceTable": "visits", "labelColumn": "outcome", "minimumAccuracy": "0.7", "epochs": "20"}
    made = Project.generate(work, default_project.servers, projectName=TEST_PROJECT, dataset="table", **answers)
    # A column with some NULLs has fewer values than there are predictions. One person labels all, without a review.
    made.answer(window=str(WINDOW), minimumPredictions="100", labels="automatic")
    made.answer(maximumLabelShare="0.5", maximumLabelSharePerSubject="0.5")
    fill(made, "training-deployer", visits(ROWS))
    assert "version 1 now holds staging" in made.pipeline("all").stdout
    return made


@pytest.fixture(scope="module")
def api(project: Project, work: Path) -> Iterator[Api]:
    """The project's API, which asks for a key."""
    variables, keys = with_keys(project, work / "visits-keys", tester="predict,label")
    with serving(project, work / "visits.log", REQUESTS_PER_MINUTE="0", **variables) as served:
        served.session.headers["Authorization"] = f"Bearer {keys['tester']}"
        yield served


@pytest.fixture
def owner(project: Project) -> Iterator[Database]:
    """A session that may read the tables which the app may not."""
    with project.database("inference-deployer") as database:
        yield database


def answers_to(api: Api, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the API's predictions for rows."""
    answer = api.post("/predictions/batch", json=[features(row) for row in rows])
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_everywhere_the_same_answer(api: Api, project: Project) -> None:
    """From the API, from SQL in the inference and in the training database, with NULLs and unknown texts too."""
    rows = [*visits(60), {**visits(1)[0], "id": 0, "city": "Genève", "Ward": "C"}]
    fill(project, "inference-deployer", rows)
    answers = answers_to(api, rows)
    probabilities = [list(answer["probabilities"].values()) for answer in answers]
    assert any(None in row.values() for row in rows)
    with project.database("inference-app") as database:
        served = dict(database.query("SELECT id, {schema}.predict(t.*) FROM public.visits AS t"))
    assert probabilities == [served[row["id"]] for row in rows]
    with project.database("trainer") as database:
        trained = dict(database.query("SELECT id, {schema}.predict(t.*) FROM public.visits AS t WHERE id <= 60"))
    for row in rows[:60]:
        assert served[row["id"]] == pytest.approx(trained[row["id"]], abs=1e-6)
    # Every column changes the prediction.
    for name, other in {"weight": 120, "smoker": None, "city": None, "age in years": 88}.items():
        assert answers_to(api, [{**rows[0], name: other}])[0]["probabilities"] != answers[0]["probabilities"]


def test_what_the_api_takes_is_the_tables_columns(api: Api, project: Project) -> None:
    """In the model's description, in the API's own, and in the messages of refusals."""
    model = api.get(f"/models/{project.schema}").json()
    assert [column["name"] for column in model["columns"]] == COLUMNS
    assert model["columns"][4]["type"] == "character(6)"
    row = api.get("/openapi.json").json()["components"]["schemas"]["Row"]
    assert list(row["properties"]) == row["required"] == COLUMNS
    assert row["properties"]["city"]["anyOf"][0] == {"enum": ["Basel", "Bern", "Zürich"]}
    good = features(visits(1)[0])
    assert api.post("/predictions", json=row["examples"][0]).status_code == 200
    assert 'no column "outcome"' in sentence(api.post("/predictions", json={**good, "outcome": "well"}), 422)
    message = sentence(api.post("/predictions", json={**good, "age in years": 40_000}), 422)
    assert message.startswith("Column age in years must be a whole number")
    assert "Column class is too far" in sentence(api.post("/predictions", json={**good, "class": 1e200}), 422)
    assert sentence(api.post("/predictions/batch", json=[good, {}]), 422).startswith("Row 2: column weight is missing")


def test_it_does_what_its_description_says(api: Api, work: Path) -> None:
    """Requests generated from the description, valid and invalid; none causes a server error."""
    settings = work / "schemathesis-table.toml"
    key = str(api.session.headers["Authorization"]).removeprefix("Bearer ")
    # The description names the columns only to those who may predict.
    header, token = f'headers = {{ Authorization = "Bearer {key}" }}', f'[auth.openapi.bearer]\nbearer = "{key}"'
    settings.write_text(f"{header}\n{token}\n", encoding="utf-8")
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", settings, "run"]
    command += [f"{api.address}/openapi.json", "--checks", "all", "--seed", "1", "--max-examples", "60"]
    command += ["--include-path-regex", "^/(predictions(/batch)?|models/.*)$", "--no-color"]
    # The schema does not tell which numbers are too far from the training rows.
    command += ["--exclude-checks", "positive_data_acceptance", "--generation-database", "none"]
    before = len(api.requests())
    process = subprocess.run(
        [*map(str, command), "--suppress-health-check", "all", "--continue-on-failure"],
        cwd=work, env={**os.environ, "NO_PROXY": "127.0.0.1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-8000:] + process.stderr[-2000:]
    answered = Counter(line["status"] for line in api.requests()[before:])
    assert answered[200] > 30
    assert answered[422] > 30
    assert max(answered) < 500


def test_a_prediction_is_kept_with_its_columns_alone(api: Api, owner: Database) -> None:
    """The row is logged as JSON, with its raw values for drift and nothing else."""
    row = {**visits(1)[0], "smoker": None, "city": "Genève"}
    (answer,) = answers_to(api, [row])
    logged, statistics = owner.query(
        "SELECT input, statistics FROM {schema}.prediction_log WHERE prediction_id = %s", (answer["prediction_id"],)
    )[0]
    assert json.loads(bytes(logged)) == pytest.approx(features(row))
    raw = [row["weight"], row["age in years"], None, 3, float(row["Ward"] != "A"), row["class"]]
    assert statistics == pytest.approx(raw)


@pytest.fixture(scope="module")
def looked_at(project: Project, api: Api, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Decisions of monitor_model: after usual, labelled rows, and after rows with three times the spread of weights."""
    outputs = tmp_path_factory.mktemp("visits")
    reports = []
    for factor in (1, 3):
        rows = visits(WINDOW, first=10_000 * factor, seed=6 + factor)
        for row in rows:
            row["weight"] = row["weight"] and round(70 + factor * (row["weight"] - 70), 1)
        for row, answer in zip(rows, answers_to(api, rows), strict=True):
            recorded = api.post(f"/predictions/{answer['prediction_id']}/label", json={"label": row["outcome"]})
            assert recorded.status_code == 200
        printed = project.pipeline("monitor_model", STEP_OUTPUTS=str(outputs)).stdout
        reports.append(((outputs / "decision").read_text(), printed))
    return reports


def test_drift_is_measured_column_by_column(project: Project, looked_at: list[tuple[str, str]]) -> None:
    """Usual rows show no drift; for the others the report names the changed column."""
    (usual, decision), (shifted, why) = looked_at
    assert usual == "fine", decision
    assert shifted == "retrain", why
    assert "(weight) above 0.25" in why
    with project.database("inference-app") as database:
        drift = dict(database.query("SELECT statistic, psi FROM {schema}.drift WHERE version = 1"))
    assert set(drift) == {"class", "column class", *COLUMNS}
    assert drift["weight"] > 0.5
    assert max(drift[name] for name in ("age in years", "smoker", "Ward", "column class")) < 0.25


@pytest.fixture(scope="module")
def grown(project: Project, api: Api, looked_at: list[tuple[str, str]]) -> str:
    """Output of collecting and packing labels; one row is in the table already, one is there twice."""
    again = [visits(ROWS)[5], visits(1, first=10_000, seed=7)[0]]
    for row, answer in zip(again, answers_to(api, again), strict=True):
        api.post(f"/predictions/{answer['prediction_id']}/label", json={"label": row["outcome"]})
    return project.pipeline("collect_labels", "upload_dataset").stdout


def test_labelled_rows_are_added_once(project: Project, grown: str) -> None:
    """Labelled rows join the table's rows in the training database, except those that are there already.

    A few of the rows with three times the spread lie too far from the table's own rows.
    """
    count = 2 * WINDOW + 2
    assert f"collect_labels: {count} new or changed labels, {count} labelled rows" in grown
    used, unused = map(int, re.search(r"labelled in the app: (\d+) of them; (\d+) not used", grown).groups())
    assert used + unused == count
    assert 2 <= unused < 20
    with project.database("trainer") as database:
        packed = database.query("SELECT sum(row_count) FROM {schema}.dataset_batch GROUP BY dataset ORDER BY 1")
    assert [rows for (rows,) in packed] == [ROWS, ROWS + used]


@pytest.fixture(scope="module")
def page(project: Project, work: Path) -> Iterator[Page]:
    """The page in Chromium, which must show no error and send no request to other machines."""
    with (
        served(project, work / "visits-page.log") as site,
        started_browser() as browser,
        watched_page(browser) as opened,
    ):
        opened.goto(site.page)
        expect(opened.get_by_role("heading", name="Monitoring")).to_be_visible()
        yield opened


def test_the_form_has_a_field_a_column(page: Page, owner: Database) -> None:
    """It starts as a typical row, nullable fields can be emptied, and one click makes one labelled prediction."""
    before = owner.value("SELECT count(*) FROM {schema}.prediction_log")
    expect(page.get_by_role("spinbutton")).to_have_count(2)
    # A numeric column has a field of text, because the browser would round some numbers.
    exact = page.get_by_role("textbox", name="class")
    expect(exact).not_to_have_value("")
    typical = exact.input_value()
    exact.fill("many")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_have_text('Column class must be a number, or null; "many" was given.')
    exact.fill(typical)
    weight = page.get_by_role("spinbutton", name="weight")
    expect(weight).not_to_have_value("")
    weight.fill("")
    page.get_by_role("spinbutton", name="age in years").fill("81")
    page.get_by_role("combobox", name="city").click()
    page.get_by_role("option", name="Zürich").click()
    page.get_by_role("button", name="Predict").click()
    label = page.get_by_test_id("stMetric").filter(has=page.get_by_text("Label", exact=True))
    expect(label.get_by_test_id("stMetricValue")).to_have_text("ill")
    ((logged, prediction),) = owner.query(
        "SELECT input, prediction_id::text FROM {schema}.prediction_log ORDER BY predicted_at DESC LIMIT 1"
    )
    expected = {"weight": None, "age in years": 81, "smoker": None, "city": "Zürich", "Ward": "A"}
    assert {name: json.loads(bytes(logged))[name] for name in expected} == expected
    page.get_by_role("button", name="Correct").click()
    expect(page.get_by_role("status")).to_have_text("Recorded: ill is right. Thank you.")
    statement = "SELECT label FROM {schema}.labelled_prediction WHERE prediction_id::text = %s"
    assert owner.value(statement, (prediction,)) == "ill"
    assert owner.value("SELECT count(*) FROM {schema}.prediction_log") == before + 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_form_is_accessible(page: Page, scheme: Scheme) -> None:
    """In light and dark, with an answer shown, axe-core finds nothing serious."""
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_test_id("stMetric").filter(has=page.get_by_text("Label", exact=True))).to_be_visible()
    settle(page)
    assert not serious(page)


def test_the_code_goes_back_and_forward(project: Project, page: Page, grown: str) -> None:
    """Both changelogs leave nothing after a rollback and restore everything; the last test of this module."""
    before = {name: (objects(project, name), roles(project, name)) for name in DATABASES}
    assert {"encode_row", "predict_row"} <= before["inference"][0]
    for name in DATABASES:
        liquibase(project, name, "rollback", "--tag=empty")
        assert objects(project, name) == {"databasechangelog", "databasechangeloglock"}
        liquibase(project, name, "update")
        assert (objects(project, name), roles(project, name)) == before[name]
