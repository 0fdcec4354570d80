"""The feedback loop on real servers: serving, labels, drift, retraining, promotion and rollback."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from .api import serving
from .browser import SECONDS, started_browser
from .page import picture
from .project import Project
from .servers import metrics, tags

Splits = dict[str, set[bytes]]
PEOPLE = Path(__file__).with_name("people.py")
# Monitoring reads this many predictions and labels.
WINDOW = 300


class Loop:
    """A served project and its users."""

    def __init__(self, project: Project, address: str, outputs: Path) -> None:
        self.project = project
        self.address = address
        self.outputs = outputs

    def people(self, change: str, first: int, count: int) -> list[dict[str, Any]]:
        """Let users send and label images; return the answers."""
        command = ("python", str(PEOPLE), self.address, change, str(first), str(count))
        return json.loads(self.project.run(*command, PYTHONPATH=str(self.project.folder)).stdout)

    def monitor(self) -> tuple[str, str]:
        """Return the outcome and the output of monitor_model."""
        printed = self.project.pipeline("monitor_model", STEP_OUTPUTS=str(self.outputs)).stdout
        return (self.outputs / "decision").read_text(), printed

    def splits(self) -> dict[str, Splits]:
        """Return the rows in the training database by data set and split."""
        rows_of_datasets: dict[str, Splits] = {}
        with self.project.database("trainer") as database:
            rows = database.query("SELECT dataset, split, row_count, features FROM {schema}.dataset_batch")
        for dataset, split, count, packed in rows:
            size = len(packed) // count
            features = {bytes(packed[start : start + size]) for start in range(0, len(packed), size)}
            rows_of_datasets.setdefault(dataset, {}).setdefault(split, set()).update(features)
        return rows_of_datasets


def accuracy(answers: list[dict[str, Any]]) -> float:
    """Return the share of correct predictions."""
    return sum(answer["label"] == answer["true"] for answer in answers) / len(answers)


@pytest.fixture(scope="module")
def loop(default_project: Project, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A project whose first version holds staging, and its API."""
    project = Project.generate(work, default_project.servers, projectName="feedback", minimumAccuracy="0.8")
    # One person labels all rows.
    project.answer(window=str(WINDOW), maximumLabelSharePerSubject="0.2")
    assert "version 1 now holds staging" in project.pipeline("all").stdout
    outputs = tmp_path_factory.mktemp("feedback")
    with serving(project, outputs / "log") as api:
        yield Loop(project, api.address, outputs)


@pytest.fixture(scope="module")
def before(loop: Loop) -> tuple[str, str]:
    """Outcome and output of monitor_model before the first prediction."""
    return loop.monitor()


@pytest.fixture(scope="module")
def usual(loop: Loop, before: tuple[str, str]) -> tuple[list[dict[str, Any]], str, str]:
    """The answers to 300 unchanged, labelled images; then outcome and output of monitor_model."""
    return loop.people("as they are", 0, WINDOW), *loop.monitor()


@pytest.fixture(scope="module")
def shifted(loop: Loop, usual: tuple[list[dict[str, Any]], str, str]) -> tuple[list[dict[str, Any]], str, str]:
    """The answers to 150 inverted and 150 rotated images, labelled; then outcome and output of monitor_model."""
    answers = loop.people("inverted", 0, WINDOW // 2) + loop.people("rotated", 0, WINDOW // 2)
    return answers, *loop.monitor()


@pytest.fixture(scope="module")
def refused(loop: Loop, shifted: tuple[list[dict[str, Any]], str, str]) -> str:
    """The output of `retrain` when the new model learns nothing: one epoch with a tiny learning rate."""
    untrained = loop.project.variant("untrained")
    steps = untrained.folder / "MLproject"
    text = re.sub(r"epochs: {type: int, default: \d+}", "epochs: {type: int, default: 1}", steps.read_text())
    steps.write_text(text.replace("default: 0.002", "default: 0.000001"))
    answers = untrained.folder / "project.yaml"
    answers.write_text(re.sub("minimumAccuracy: .*", "minimumAccuracy: 0", answers.read_text()))
    assert "600 labels accepted; 0 wait" in untrained.pipeline("review_labels", "--accept", "all").stdout
    return untrained.pipeline("retrain", STEP_OUTPUTS=str(loop.outputs)).stdout


@pytest.fixture(scope="module")
def version_after_refusal(loop: Loop, refused: str) -> tuple[str, str | None, int]:
    """After the refused promotion: its outcome, the version with staging, and the version that answers."""
    promoted = (loop.outputs / "promoted").read_text()
    answer = loop.people("as they are", 0, 1)[0]
    return promoted, loop.project.servers.tracking.alias(loop.project.schema, "staging"), answer["version"]


@pytest.fixture(scope="module")
def retrained(loop: Loop, version_after_refusal: tuple[str, str | None, int]) -> str:
    """The output of `retrain` with the project's own parameters."""
    accepted = loop.project.pipeline("review_labels", "--accept", "all").stdout
    return accepted + loop.project.pipeline("retrain", STEP_OUTPUTS=str(loop.outputs)).stdout


@pytest.fixture(scope="module")
def grown(loop: Loop, retrained: str) -> list[Splits]:
    """The splits of both data sets, the smaller data set first."""
    return sorted(loop.splits().values(), key=lambda splits: len(splits["train"]))


@pytest.fixture(scope="module")
def new_answers(loop: Loop, grown: list[Splits]) -> list[dict[str, Any]]:
    """The new version's answers to inverted images that it was not trained on."""
    return loop.people("inverted", WINDOW, 60)


def test_monitoring_without_labels_decides_nothing(before: tuple[str, str]) -> None:
    outcome, printed = before
    assert outcome == "too-little-data"
    assert "version 1 has 0 labelled predictions, 50 are needed" in printed


def test_unchanged_images_are_fine(loop: Loop, usual: tuple[list[dict[str, Any]], str, str]) -> None:
    """300 labelled predictions of unchanged images: their accuracy, no drift, outcome `fine`."""
    answers, outcome, printed = usual
    assert len(answers) == WINDOW
    right = accuracy(answers)
    assert outcome == "fine"
    assert f"accuracy {right:.4f} not below 0.8 on 300 labelled predictions" in printed
    assert "within 0.25 over 300 predictions" in printed


def test_changed_images_are_drift(loop: Loop, shifted: tuple[list[dict[str, Any]], str, str]) -> None:
    """Inverted and rotated images: low accuracy, drift far above the limit, outcome `retrain`."""
    answers, outcome, printed = shifted
    right = accuracy(answers)
    assert right < 0.6
    assert outcome == "retrain"
    assert f"accuracy {right:.4f} below 0.8" in printed
    with loop.project.database("inference-app") as database:
        drift = dict(database.query("SELECT statistic, psi FROM {schema}.drift WHERE version = 1"))
    assert len(drift) == 11
    assert drift["class"] > 0.25
    assert drift["mean"] > 0.25
    assert max(drift.values()) > 1


def test_mlflow_records_the_observations(loop: Loop, shifted: tuple[list[dict[str, Any]], str, str]) -> None:
    """Each monitor_model has a run with decision, reason, accuracy and drift."""
    runs = loop.project.servers.tracking.runs(loop.project.schema, "tags.step = 'monitor_model'")
    decisions = [tags(run)["decision"] for run in sorted(runs, key=lambda run: run["info"]["start_time"])]
    assert decisions[:3] == ["too-little-data", "fine", "retrain"]
    (run,) = [run for run in runs if tags(run)["decision"] == "retrain"]
    assert tags(run)["reason"] in shifted[2]
    assert metrics(run)["labelled"] == WINDOW
    assert metrics(run)["live_accuracy"] < 0.6
    assert metrics(run)["psi_mean"] > 0.25


def test_a_worse_model_is_refused(refused: str, version_after_refusal: tuple[str, str | None, int]) -> None:
    """A model that is worse on the same holdout is refused with status 0, and version 1 still answers."""
    assert re.search(r"collect_labels: 600 new or changed labels, 600 labelled rows", refused)
    comparison = re.search(
        r"version 2 is not promoted: its accuracy (\S+) on (\d+) .* worse than (\S+) of version 1", refused
    )
    assert comparison, refused
    assert float(comparison[1]) < float(comparison[3])
    assert int(comparison[2]) == 149
    assert "deploy_inference_db: skipped, nothing was promoted" in refused
    assert version_after_refusal == ("false", "1", 1)


def test_a_better_model_is_promoted(
    loop: Loop,
    shifted: tuple[list[dict[str, Any]], str, str],
    retrained: str,
    new_answers: list[dict[str, Any]],
) -> None:
    """With the same labels and the project's own parameters a version is promoted, answers, and is better."""
    assert "version 3 now holds staging" in retrained
    assert (loop.outputs / "promoted").read_text() == "true"
    assert "collect_labels: 1 new or changed labels" in retrained
    assert {answer["version"] for answer in new_answers} == {3}
    assert accuracy(new_answers) > accuracy(shifted[0][: WINDOW // 2]) + 0.2


def test_labelled_rows_are_trained_on_or_apart_and_no_row_changes_its_split(
    retrained: str, grown: list[Splits]
) -> None:
    """Labelled rows join the training rows or their own split; rows of dataset.py are not duplicated."""
    first, second = grown
    assert first["train"] < second["train"]
    assert second["feedback"]
    for split in ("validation", "holdout"):
        assert first[split] == second[split]
    assert "labelled in the app: 300 of them; 301 not used" in retrained
    together = [row for rows in second.values() for row in rows]
    assert len(together) == len(set(together))


@pytest.mark.usefixtures("retrained")
def test_mlflow_shows_and_compares_trainings(loop: Loop) -> None:
    """MLflow compares parameters and scores of two trainings, and a version's page links to its training."""
    tracking, model = loop.project.servers.tracking, loop.project.schema
    rows = [run for run in tracking.runs(model) if "accuracy_score" in metrics(run) and "step" not in tags(run)]
    ids = [run["info"]["run_id"] for run in rows][:2]
    version = tracking.get("model-versions/get", name=model, version="1")["model_version"]
    with started_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * SECONDS)
        experiments = json.dumps([rows[0]["info"]["experiment_id"]])
        page.goto(f"{tracking.address}/#/compare-runs?runs={json.dumps(ids)}&experiments={experiments}")
        for name in [run["info"]["run_name"] for run in rows[:2]]:
            expect(page.get_by_role("cell", name=name, exact=True)).to_be_visible()
        expect(page.get_by_role("row", name="learning_rate 0.002 1e-06")).to_be_visible()
        for name in ("accuracy_score", "val_loss"):
            expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
        picture(page, "mlflow-compare", 900)
        page.goto(f"{tracking.address}/#/models/{model}/versions/1")
        expect(page.get_by_text(version["description"])).to_be_visible()
        expect(page.get_by_role("link", name=re.compile(r"^[0-9a-f]{6}-[0-9a-f]{6}$")).first).to_be_visible()
        picture(page, "mlflow-version", 900)


@pytest.fixture(scope="module")
def after_rollback(
    loop: Loop, usual: tuple[list[dict[str, Any]], str, str], new_answers: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The answers to the first images after the rollback to version 1."""
    loop.project.pipeline("rollback", "--to-version", "1")
    return loop.people("as they are", 0, 50)


def test_rolled_back_answers_are_those_of_version_1(
    usual: tuple[list[dict[str, Any]], str, str], after_rollback: list[dict[str, Any]]
) -> None:
    """After the rollback the same images get the same probabilities as from version 1 before."""
    keys = ("label", "probabilities", "version", "true")
    expected = [{key: answer[key] for key in keys} for answer in usual[0][:50]]
    assert [{key: answer[key] for key in keys} for answer in after_rollback] == expected


def test_the_next_run_does_not_undo_the_rollback(loop: Loop, after_rollback: list[dict[str, Any]]) -> None:
    """The pipeline does not promote the version again that was rolled back from."""
    output = loop.project.pipeline("promote_model", "deploy_inference_db").stdout
    assert "is not promoted" in output
    assert loop.people("as they are", 0, 1)[0]["version"] == 1


def test_retraining_without_new_labels_trains_nothing(loop: Loop, after_rollback: list[dict[str, Any]]) -> None:
    """The same labels are not collected twice, and the same data is not trained on twice."""
    steps = ("collect_labels", "upload_dataset", "train_model")
    loop.project.pipeline("review_labels", "--accept", "all")
    assert "was trained before" not in loop.project.pipeline(*steps).stdout
    output = loop.project.pipeline(*steps).stdout
    assert "collect_labels: 0 new or changed labels" in output
    assert "was there already" in output
    assert "was trained before" in output


def test_without_inputs_nothing_is_collected(loop: Loop) -> None:
    """Without stored inputs, or without monitoring, the steps refuse."""
    private = loop.project.variant("private")
    answers = private.folder / "project.yaml"
    answers.write_text(re.sub("storeInputs: .*", "storeInputs: false", answers.read_text()))
    assert "stored without their inputs" in private.refuses("collect_labels")
    answers.write_text(re.sub("includeMonitoring: .*", "includeMonitoring: false", answers.read_text()))
    assert "is not monitored (project.yaml: includeMonitoring)" in private.refuses("monitor_model")
