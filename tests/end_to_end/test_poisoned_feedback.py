"""Wrong labels that attackers give, and labels that a person reviews, takes back or erases."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from .project import Project

pytestmark = pytest.mark.security

SCRIPT = Path(__file__).with_name("poisoning.py")
STEPS = ("collect_labels", "upload_dataset", "train_model", "promote_model")
# Levels of the pixels, of 255: images with less noise are near-duplicates of those in the data set.
LITTLE, MUCH = 2, 40
# The accuracy that one promotion may cost, by the original holdout.
ONE_POINT = 0.01


def poison(project: Project, share: float, subjects: int, noise: float) -> None:
    """Let attackers and honest users label, and nobody before them."""
    with project.database("inference-deployer") as database:
        database.query("DELETE FROM {schema}.label_review")
        database.query("DELETE FROM {schema}.prediction_label")
        database.query("DELETE FROM {schema}.prediction_log")
    with project.database("trainer") as database:
        database.query("DELETE FROM {schema}.labelled_row")
    arguments = ("python", str(SCRIPT), str(share), str(subjects), str(noise))
    project.run(*arguments, PYTHONPATH=str(project.folder))


def own_accuracy(output: str) -> tuple[bool, float]:
    """Return whether promote_model promoted a new version, and its accuracy on the original holdout."""
    (line,) = re.findall("^promote_model: version .*", output, re.MULTILINE)
    accuracy, rows = re.search(r"accuracy (0\.\d+|1\.0+) on (\d+) held-out rows", line).groups()
    assert rows == "149", "the holdout holds the rows of dataset.py alone"
    return "now holds" in line, float(accuracy)


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Iterator[Project]:
    """A project whose first version holds staging, and that trains on labels without a review."""
    made = Project.generate(work, default_project.servers, projectName="poisoned", epochs="5")
    made.answer(labels="automatic")
    assert "version 1 now holds staging" in made.pipeline("all").stdout
    return made


@pytest.fixture(scope="module")
def served(project: Project) -> list[float]:
    """Accuracies of the versions that held staging, on the original holdout."""
    return [own_accuracy(project.pipeline("promote_model").stdout)[1]]


@pytest.mark.parametrize("subjects", [1, 20])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_wrong_labels_cost_no_accuracy(project: Project, served: list[float], share: float, subjects: int) -> None:
    """Of all labels the share is wrong, from one or from 20 subjects: no promoted version loses more than a point."""
    poison(project, share, subjects, MUCH)
    output = project.pipeline(*STEPS).stdout
    assert ("attacker-0 is set aside" in output) == (subjects == 1)
    counts = re.search(r"upload_dataset: ([\d,]+) train, .* \(labelled in the app: (\d+) of them", output)
    assert 0 < int(counts[2]) <= 0.2 * int(counts[1].replace(",", "")) + 100
    promoted, accuracy = own_accuracy(output)
    if promoted:
        assert accuracy > served[-1] - ONE_POINT
        served.append(accuracy)


def test_copies_of_known_images_are_not_used(project: Project, served: list[float]) -> None:
    """Slightly noisy copies of the data set's own images are no new rows, whatever their labels."""
    poison(project, 0.9, 20, LITTLE)
    output = project.pipeline(*STEPS[:2]).stdout
    assert re.search(r"600 labelled rows .*\n.*labelled in the app: 0 of them; 600 not used", output)


@pytest.fixture(scope="module")
def reviewed(project: Project) -> Project:
    """The same project when labels need a review, with labels of a single attacker and three users."""
    poison(project, 0.1, 1, MUCH)
    strict = project.variant("reviewed")
    strict.answer(labels="reviewed")
    return strict


def test_no_label_is_collected_before_its_review(reviewed: Project) -> None:
    output = reviewed.pipeline("collect_labels").stdout
    assert "collect_labels: 0 new or changed labels, 0 labelled rows" in output
    assert "600 labels wait: `./run review_labels`" in output
    assert "600 labels wait for review" in reviewed.pipeline("monitor_model").stdout


def test_a_person_accepts_and_refuses_labels(reviewed: Project, tmp_path: Path) -> None:
    """The list names the doubtful subject, and its inputs are pictures; a selection by number and by subject."""
    folder = tmp_path / "inputs"
    listed = reviewed.pipeline("review_labels", "--inputs", str(folder)).stdout
    assert len(list(folder.glob("*.png"))) == 20
    with Image.open(next(folder.glob("*.png"))) as picture:
        assert picture.size == (8, 8)
    assert "File exists: name a folder" in reviewed.refuses("review_labels", "--inputs", str(folder))
    assert "600 labels wait for review" in listed
    assert "doubtful: attacker-0 disagrees with the model in 60 of 60 labels" in listed
    proposed = re.search(r"--accept (\d+)-\d+`", listed)
    assert (
        "60 labels refused; 540 wait"
        in reviewed.pipeline("review_labels", "--refuse", "all", "--subject", "attacker-0").stdout
    )
    first = int(proposed[1])
    assert re.search(
        r"\d+ labels accepted", reviewed.pipeline("review_labels", "--accept", f"{first}-{first + 9}").stdout
    )
    accepted = reviewed.pipeline("review_labels", "--accept", "all", "collect_labels").stdout
    assert "540 new or changed labels, 540 labelled rows" in accepted
    assert "no label waits for review" in reviewed.pipeline("review_labels").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--accept", "some"), "accept is 'some'; write numbers of labels like 3,7-12, or all"),
        (("--accept", "1", "--refuse", "2"), "accept and refuse were both given"),
        (("--accept", "999999999"), "none of the selected labels is there to be accepted"),
    ],
)
def test_wrong_selections_are_refused(reviewed: Project, options: tuple[str, ...], message: str) -> None:
    assert message in reviewed.refuses("review_labels", *options)


def test_labels_are_taken_back_and_a_subject_is_erased(reviewed: Project) -> None:
    """Both name the data set and the versions; after an erasure nothing of the subject is left in any table."""
    trained = reviewed.pipeline("upload_dataset", "train_model", "promote_model").stdout
    version = re.search(r"promote_model: version (\d+)", trained)[1]
    revoked = reviewed.pipeline("revoke_labels", "--subject", "user-0").stdout
    assert re.search(
        rf"\d+ labels refused, \d+ copies deleted; data .* trained versions: [\d, ]*\b{version}\b", revoked
    )
    assert "there is no label of the subject 'nobody'" in reviewed.refuses("revoke_labels", "--subject", "nobody")
    erased = reviewed.pipeline("erase", "--subject", "user-1").stdout
    assert re.search(
        rf"\d+ predictions, \d+ labels and \d+ copies deleted; data .* trained versions: [\d, ]*\b{version}\b", erased
    )
    assert left_of(reviewed, "user-1") == 0
    with reviewed.database("trainer") as database:
        blocks, runs = database.query(
            "SELECT count(DISTINCT b.batch_id), count(DISTINCT r.run_hash) FROM {schema}.dataset AS d "
            "LEFT JOIN {schema}.dataset_batch AS b ON b.dataset = d.dataset "
            "LEFT JOIN {schema}.training_run AS r ON r.dataset = d.dataset WHERE d.erased_at IS NOT NULL"
        )[0]
        assert blocks == 0 < runs
    assert "uploaded" in reviewed.pipeline("upload_dataset").stdout
    assert "nothing is stored of 'user-1'" in reviewed.refuses("erase", "--subject", "user-1")


def test_a_prediction_is_erased(reviewed: Project) -> None:
    with reviewed.database("inference-deployer") as database:
        prediction = str(UUID(str(database.value("SELECT prediction_id FROM {schema}.label_status LIMIT 1"))))
    assert "1 predictions, 1 labels" in reviewed.pipeline("erase", "--prediction", prediction).stdout
    assert "nothing is stored of the prediction" in reviewed.refuses("erase", "--prediction", prediction)
    assert "the id of a prediction is a UUID" in reviewed.refuses("erase", "--prediction", "1")
    assert "give one of both" in reviewed.refuses("erase")


def left_of(project: Project, subject: str) -> int:
    """Return how many rows of both databases name a subject."""
    count = "SELECT count(*) FROM {schema}."
    named = " AS t WHERE t::text LIKE %s"
    with project.database("inference-deployer") as inference, project.database("training-deployer") as training:
        places = [
            (inference, "prediction_log"), (inference, "prediction_label"),
            (training, "labelled_row"), (training, "dataset_labelled_row"),
        ]  # fmt: skip
        return sum(database.value(count + table + named, (f"%{subject}%",)) for database, table in places)
