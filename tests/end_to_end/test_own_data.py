"""A person's own pictures and models: the API answers files as the training database answers the rows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import change

from . import own_code
from .conftest import commit_all
from .project import Project
from .servers import fact

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "template" / "docs" / "reference" / "layers.md"
# Name of the project: dataset.py, model.py, lines of project.yaml, epochs, least accuracy.
CASES: dict[str, tuple[str, str, str, str, float]] = {
    "own-shapes": (own_code.SHAPES, own_code.AUGMENTED, "labelSmoothing: 0.05\n", "6", 0.95),
    "own-grey": (own_code.GREY_FROM_MINUS_1, own_code.FROZEN_BASE, "classWeights: balanced\n", "6", 0.85),
    "own-large": (own_code.LARGE_SHAPES, own_code.RESIDUAL, "", "12", 0.8),
    "own-wide": (own_code.GREY_FROM_MINUS_1, own_code.TWENTY_MILLION_WEIGHTS, "", "1", 0.6),
    "own-colours": (own_code.HUNDRED_CLASSES, own_code.DEPTHWISE, "channelOrder: BGR\n", "6", 0.6),
}
Generate = Callable[..., Project]
# Lines of app/images.py and dataset.py, which a test replaces.
SCALING_LINE = "return _scaled(np.asarray(picture), dtype, pixels or BYTES)"
LOADING_LINE = "return np.stack([draw(kind, rng) for kind in labels])"


@pytest.fixture(scope="module")
def own(default_project: Project, work: Path) -> Generate:
    """A function that generates a project with a person's own code."""

    def generate(name: str, folder: str = "whole") -> Project:
        dataset, model, lines, epochs, _ = CASES[name]
        project = Project.generate(
            work / folder, default_project.servers, projectName=name, epochs=epochs, minimumAccuracy="0.5"
        )
        (project.folder / "dataset.py").write_text(dataset, encoding="utf-8")
        (project.folder / "model.py").write_text(own_code.MODEL + model, encoding="utf-8")
        with (project.folder / "project.yaml").open("a", encoding="utf-8") as file:
            file.write(lines)
        commit_all(project.folder)
        return project

    return generate


@pytest.mark.parametrize("name", CASES)
def test_files_are_answered_as_the_rows_were(own: Generate, name: str) -> None:
    """The accuracy on held-out pictures sent as files is that of promote_model, within half a percent."""
    project = own(name)
    project.pipeline("all")
    with project.database("inference-app") as app:
        metrics, classes, pixels = app.query("SELECT metrics, classes, pixels FROM {schema}.model_info")[0]
    assert metrics["accuracy_score"] >= CASES[name][-1]
    asked = json.loads(project.run("python", str(HERE / "holdout_as_files.py")).stdout)
    assert asked["rows"] == metrics["rows"]
    assert asked["accuracy"] == pytest.approx(metrics["accuracy_score"], abs=0.005)
    assert set(asked["answer"]["probabilities"]) == set(classes)
    order = "BGR" if "channelOrder: BGR" in CASES[name][2] else "RGB"
    expected = {own_code.SHAPES: (0, 1, order), own_code.GREY_FROM_MINUS_1: (-1, 1, order)}
    assert (pixels["minimum"], pixels["maximum"], pixels["channels"]) == expected.get(CASES[name][0], (0, 255, order))
    report = project.servers.tracking.report(project.schema)
    # The report shows every misclassified row, at most 20.
    errors = round(fact(report, "validation rows") * (1 - fact(report, "validation accuracy")))
    assert report.count("<figure><img ") == min(errors, 20)
    assert 0 <= fact(report, "expected calibration error") <= 1


def test_a_model_that_the_app_would_feed_otherwise_is_not_promoted(own: Generate) -> None:
    """An app that ignores the range of the values answers differently from the database."""
    project = own("own-shapes", "unscaled")
    change(project.folder / "app" / "images.py", SCALING_LINE, "return np.asarray(picture, DTYPES[dtype])")
    project.pipeline("deploy_training_db", "upload_dataset")
    project.pipeline("train_model", "--epochs", "3", "--run", "2")
    assert "comes back with values that differ by" in project.refuses("promote_model")


def test_the_page_about_layers_is_true(default_project: Project) -> None:
    """Every public layer of Keras is trained and exported; `python tests/tools/layers.py` writes the page."""
    completed = default_project.run("python", str(HERE.parent / "tools" / "layers.py"), str(default_project.folder))
    assert completed.stdout == PAGE.read_text(encoding="utf-8"), completed.stderr


@pytest.mark.parametrize(
    ("change_data", "sentence"),
    [
        ("images * 4", "which is none of 0 to 255, 0 to 1 and -1 to 1; declare"),
        ("np.moveaxis(images, -1, 1)", "move the channels with np.moveaxis(features, 1, -1)"),
    ],
)
def test_pictures_that_cannot_be_served_are_refused_first(own: Generate, change_data: str, sentence: str) -> None:
    """The first step reports it in one sentence."""
    project = own("own-shapes", sentence.split()[0])
    change(
        project.folder / "dataset.py",
        LOADING_LINE,
        f"{LOADING_LINE.replace('return', 'images =')}\n    return {change_data}",
    )
    assert sentence in project.refuses("deploy_training_code")
