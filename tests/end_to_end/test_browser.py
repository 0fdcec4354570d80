"""The page and the API's documentation in a real browser, served as `make serve` does.

With PICTURES set to a folder, the pictures of the README are written there.
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from .api import file
from .browser import SIZE, Served, served, watched_page
from .page import SCHEMES, Scheme, marks, metric, pick, picture, pixels, serious, settle, upload, visit
from .project import Project
from .servers import Database

# Enough labels for a meaningful screenshot: this many, some of which disagree with the prediction.
LABELLED, WRONG_EVERY = 220, 12
STATISTICS = ["class", "mean", "standard deviation", *(f"part {number}" for number in range(1, 9))]


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A page of the test's own, which must show no error and send no request to other machines."""
    with watched_page(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(trained: Project, work: Path) -> Iterator[Served]:
    """The API and the page of the default project."""
    with served(trained, work / "serve.log") as served_page:
        yield served_page


@pytest.fixture
def owner(trained: Project) -> Iterator[Database]:
    """A session that may read the tables which the app may not."""
    with trained.database("inference-deployer") as database:
        yield database


@pytest.fixture(scope="module")
def digits(trained: Project) -> list[tuple[str, bytes]]:
    """Labels and rows of the holdout, which the model has never seen."""
    return rows_of(trained, "holdout")


def rows_of(project: Project, split: str) -> list[tuple[str, bytes]]:
    """Return labels and rows of a split."""
    with project.database("trainer") as database:
        blocks = database.query(
            "SELECT features, labels FROM {schema}.dataset_batch WHERE split = %s ORDER BY dataset, batch_id", (split,)
        )
    return [
        (str(int.from_bytes(labels[4 * row : 4 * row + 4], "little")), bytes(features[64 * row : 64 * row + 64]))
        for features, labels in blocks
        for row in range(len(labels) // 4)
    ]


@pytest.fixture(scope="module")
def three(digits: list[tuple[str, bytes]]) -> bytes:
    """A row of the class three."""
    return next(row for label, row in digits if label == "3")


def png(row: bytes) -> bytes:
    """Return a row as a picture of 8×8 pixels."""
    return file(Image.frombytes("L", (8, 8), row))


def logged(owner: Database) -> int:
    """Return the number of predictions in the log."""
    return owner.value("SELECT count(*) FROM {schema}.prediction_log")


def newest(owner: Database) -> tuple[Any, ...]:
    """Return id, label and probabilities of the newest logged prediction."""
    return owner.query(
        "SELECT prediction_id::text, label, probabilities FROM {schema}.prediction_log "
        "ORDER BY predicted_at DESC LIMIT 1"
    )[0]


def test_upload(page: Page, site: Served, owner: Database, three: bytes) -> None:
    """An uploaded file is predicted and logged once; picture, label, chart and id are shown."""
    visit(page, site)
    before = logged(owner)
    upload(page, "three.png", png(three))
    expect(page.get_by_text("three.png, as the model sees it")).to_be_visible()
    settle(page)
    assert pixels(page, "three.png, as the model sees it") == three
    prediction_id, label, probabilities = newest(owner)
    expect(metric(page, "Label")).to_have_text(label)
    expect(page.get_by_text(f"prediction {prediction_id}, answered by version 1")).to_be_visible()
    shown = marks(page, "Probability of each class", "bar")
    assert [bar["class"] for bar in shown] == [str(number) for number in range(10)]
    percentages = [float(bar["probability"].rstrip("%")) / 100 for bar in shown]
    assert percentages == pytest.approx(probabilities, abs=1e-4)
    # Other interactions do not repeat the prediction.
    pick(page, "Wrong, it is", "7")
    page.set_viewport_size({**SIZE, "height": 1040})
    settle(page)
    picture(page, "page-prediction", 1040)
    assert logged(owner) == before + 1


def test_sample(page: Page, site: Served, owner: Database, three: bytes) -> None:
    """A sample replaces an upload, and an upload a sample."""
    samples = owner.value("SELECT samples FROM {schema}.model_info")
    visit(page, site)
    upload(page, "three.png", png(three))
    expect(page.get_by_text("three.png, as the model sees it")).to_be_visible()
    before = logged(owner)
    expect(page.get_by_text("The model takes pictures of 8×8 pixels in grey, like the samples below.")).to_be_visible()
    expect(page.get_by_role("img", name="a sample of 5", exact=True)).to_be_visible()
    page.get_by_role("button", name="5", exact=True).click()
    expect(page.get_by_text("a sample of 5, as the model sees it")).to_be_visible()
    settle(page)
    expect(page.get_by_text("three.png")).to_have_count(0)
    row = owner.value("SELECT decode(%s, 'base64')", (samples["5"],)).tobytes()
    assert pixels(page, "a sample of 5, as the model sees it") == row
    prediction_id, label, _ = newest(owner)
    expect(metric(page, "Label")).to_have_text(label)
    assert logged(owner) == before + 1
    upload(page, "again.png", png(three))
    expect(page.get_by_text("again.png, as the model sees it")).to_be_visible()
    expect(page.get_by_text("a sample of 5, as the model sees it")).to_have_count(0)
    assert newest(owner)[0] != prediction_id
    assert logged(owner) == before + 2


def test_an_upload_of_another_shape_is_shown_beside_the_models_view(page: Page, site: Served) -> None:
    """The original is on the left and keeps its aspect ratio."""
    visit(page, site)
    upload(page, "wide.png", file(Image.new("RGB", (400, 100), "red")))
    boxes = []
    for how in ("as uploaded", "as the model sees it"):
        shown = page.get_by_role("img", name=f"wide.png, {how}", exact=True)
        expect(shown).to_be_visible()
        boxes.append(shown.bounding_box() or pytest.fail("no picture is shown"))
    original, seen = boxes
    assert original["x"] + original["width"] < seen["x"]
    assert original["width"] == pytest.approx(4 * original["height"], rel=0.05)
    assert seen["width"] == pytest.approx(seen["height"], rel=0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_is_accessible(page: Page, site: Served, three: bytes, scheme: Scheme) -> None:
    """In light and dark, with a prediction, axe-core finds nothing serious; the colours follow the preference."""
    page.emulate_media(color_scheme=scheme)
    visit(page, site)
    upload(page, "three.png", png(three))
    expect(page.get_by_text("three.png, as the model sees it")).to_be_visible()
    expect(page.get_by_label("Probability of each class", exact=True)).to_be_visible()
    settle(page)
    assert not serious(page)
    background = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


@pytest.mark.parametrize("verdict", ["wrong", "right"])
def test_feedback(page: Page, site: Served, owner: Database, three: bytes, verdict: str) -> None:
    """A label is recorded once, however often the button is clicked."""
    visit(page, site)
    upload(page, "three.png", png(three))
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    prediction_id, label, _ = newest(owner)
    if verdict == "wrong":
        pick(page, "Wrong, it is", "7")
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
        page.get_by_role("button", name="Send").dblclick()
        expect(page.get_by_role("status")).to_have_text("Recorded: it is 7. Thank you.")
    else:
        page.get_by_role("button", name="Correct").dblclick()
        expect(page.get_by_role("status")).to_have_text(f"Recorded: {label} is right. Thank you.")
    expect(page.get_by_role("button", name="Send")).to_have_count(0)
    settle(page)
    rows = owner.query("SELECT label FROM {schema}.prediction_label WHERE prediction_id::text = %s", (prediction_id,))
    assert rows == [("7" if verdict == "wrong" else label,)]


def test_model(page: Page, site: Served, owner: Database) -> None:
    """The model's version, stage, metrics and confusion matrix equal those in model_info."""
    ((version, alias, commit, metrics),) = owner.query(
        "SELECT version, alias, git_commit, metrics FROM {schema}.model_info WHERE alias = 'staging'"
    )
    visit(page, site)
    expect(metric(page, "Version")).to_have_text(str(version))
    expect(metric(page, "Stage")).to_have_text(alias)
    expect(metric(page, "Accuracy")).to_have_text(f"{metrics['accuracy_score']:.1%}")
    expect(metric(page, "F1")).to_have_text(f"{metrics['f1_score']:.3f}")
    expect(metric(page, "Held-out rows")).to_have_text(str(metrics["rows"]))
    expect(page.get_by_text(f"git commit {commit}")).to_be_visible()
    cells = marks(page, "Confusion matrix", "rect mark")
    shown = {(int(cell["true"]), int(cell["predicted"])): int(cell["rows"]) for cell in cells}
    matrix = metrics["confusion_matrix"]
    assert shown == {(true, predicted): matrix[true][predicted] for true in range(10) for predicted in range(10)}


def predict_and_label(project: Project, rows: list[tuple[str, bytes]]) -> None:
    """Predict rows and label them, some with a wrong class."""
    task = "SELECT {schema}.run_inference_task(%s, 'image_classifier', 'staging') ->> 'prediction_id'"
    with project.database("inference-app") as app:
        for number, (label, row) in enumerate(rows):
            other = str((int(label) + 1) % 10)
            arguments = (app.value(task, (row,)), label if number % WRONG_EVERY else other)
            app.query("SELECT {schema}.record_label(%s, %s)", arguments)


def test_few_predictions_are_no_drift(page: Page, site: Served, trained: Project, owner: Database) -> None:
    """Differences of a few predictions are chance, so no chart is drawn."""
    owner.query("DELETE FROM {schema}.prediction_label")
    owner.query("DELETE FROM {schema}.prediction_log")
    predict_and_label(trained, rows_of(trained, "train")[:8])
    visit(page, site)
    expect(page.get_by_text("8 of 200 predictions: too few to measure drift.")).to_be_visible()
    expect(page.get_by_label("Drift of each statistic", exact=True)).to_have_count(0)


def test_monitoring(page: Page, site: Served, trained: Project, owner: Database) -> None:
    """Accuracy over time and drift equal those of the views."""
    predict_and_label(trained, rows_of(trained, "train")[:LABELLED])
    labelled, accuracy = owner.query(
        "SELECT labelled, accuracy FROM {schema}.accuracy_window WHERE version = 1 ORDER BY labelled_at DESC LIMIT 1"
    )[0]
    drift = dict(owner.query("SELECT replace(statistic, '_', ' '), psi FROM {schema}.drift WHERE version = 1"))
    visit(page, site)
    expect(page.get_by_text(f"{accuracy:.1%} of the last {labelled} labelled predictions were right.")).to_be_visible()
    lines = marks(page, "Accuracy over time", "line mark")
    assert [line["version"] for line in lines] == ["version 1"]
    bars = marks(page, "Drift of each statistic", "bar")
    assert [bar["statistic"] for bar in bars] == STATISTICS
    shown = {bar["statistic"]: float(bar["psi"]) for bar in bars}
    assert shown == pytest.approx(drift, abs=1e-3)
    most = max(drift, key=lambda name: drift[name])
    side = "above" if drift[most] > 0.25 else "within"
    expect(page.get_by_text(f"{drift[most]:.2f} at most ({most}), {side} the limit 0.25.")).to_be_visible()
    page.set_viewport_size({**SIZE, "height": 1080})
    page.get_by_role("heading", name="Model").evaluate("heading => heading.scrollIntoView()")
    settle(page)
    picture(page, "page-model-and-monitoring", 1080)


def test_wrong_files(page: Page, site: Served, owner: Database, three: bytes) -> None:
    """A file that is no image is refused with a sentence and not logged; a valid file is answered afterwards."""
    visit(page, site)
    before = logged(owner)
    for content, message in (
        (b"<html></html>", "The file is no PNG, JPEG or WebP image."),
        (b"", "The file is empty."),
        (png(bytes(64))[:45], "The image cannot be decoded: the file is damaged or cut off."),
    ):
        upload(page, "wrong_*name*.png", content)
        expect(page.get_by_role("alert")).to_have_text(message)
    assert logged(owner) == before
    upload(page, "right_*name*.png", png(three))
    expect(page.get_by_text("right_*name*.png, as the model sees it")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_picture_unlike_all_training_rows(page: Page, site: Served, three: bytes) -> None:
    """A digit in black on white, where the model knows white on black, is answered with a warning."""
    visit(page, site)
    upload(page, "inverted.png", png(bytes(255 - level for level in three)))
    expect(page.get_by_text("inverted.png, as the model sees it")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("mean")


def test_database_away(page: Page, site: Served, trained: Project, owner: Database) -> None:
    """The page reports that the database does not answer, and recovers with it."""
    user = trained.servers.binding("inference-app")["username"]
    visit(page, site)
    try:
        owner.query(f'ALTER ROLE "{user}" NOLOGIN')
        owner.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (user,))
        expect(page.get_by_role("status")).to_contain_text("does not answer. This page refreshes itself.")
    finally:
        owner.query(f'ALTER ROLE "{user}" LOGIN')
    expect(metric(page, "Version")).to_have_text("1")
    expect(page.get_by_role("status")).to_have_count(0)


def test_api_documentation(page: Page, site: Served) -> None:
    """The documentation lists every operation, and each one opens."""
    with urllib.request.urlopen(f"{site.api}/openapi.json") as answer:  # noqa: S310
        paths = json.load(answer)["paths"]
    expected = sorted((method.upper(), path) for path in paths for method in paths[path])
    page.goto(site.api)
    expect(page).to_have_url(f"{site.api}/docs")
    operations = page.locator(".opblock")
    expect(operations).to_have_count(len(expected))
    shown = [
        (operation.locator(".opblock-summary-method").inner_text(), operation.locator("[data-path]").inner_text())
        for operation in operations.all()
    ]
    assert sorted((method, path.replace("\u200b", "")) for method, path in shown) == expected
    picture(page, "api-docs", 710)
    page.get_by_role("button", name="Classify an image").click()
    expect(page.get_by_role("button", name="Execute")).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_api_documentation_is_accessible(page: Page, site: Served, scheme: Scheme) -> None:
    """In light and dark, closed and with every operation open, axe-core finds nothing serious."""
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site.api}/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    assert not serious(page)
    for operation in page.locator(".opblock-summary-control").all():
        operation.click()
    expect(page.get_by_role("button", name="Execute")).to_have_count(page.locator(".opblock").count())
    assert not serious(page)


def test_mlflow_shows_a_training_as_one_row(browser: BrowserContext, trained: Project) -> None:
    """The address that `make next` prints opens the list of trainings, named after the hashes of data and training."""
    address = re.search(r"^MLflow: (http\S+)$", trained.local("next").stdout, re.MULTILINE)
    assert address
    page = browser.new_page()
    try:
        page.goto(address[1])
        expect(page.get_by_role("link", name=re.compile(r"^[0-9a-f]{6}-[0-9a-f]{6}$")).first).to_be_visible()
        picture(page, "mlflow-runs", 700)
    finally:
        page.close()
