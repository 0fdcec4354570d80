"""Changes to a project: which of them start a run."""

from pathlib import Path

import pytest
from conftest import change
from tools.manifests import VALUES, deployed, of_kind, training_inputs

# Each test renders manifests.
pytestmark = pytest.mark.slow


CHANGES_TO_THE_MODEL = {
    "epochs": ("MLproject", "epochs: {type: int, default: 10}", "epochs: {type: int, default: 15}"),
    "the model": ("model.py", "\n", "\n# another\n"),
    "the data": ("dataset.py", "\n", "\n# another\n"),
    "an answer": ("project.yaml", "minimumAccuracy: 0.5", "minimumAccuracy: 0.6"),
    "a step": ("pipeline/steps/train_model.py", "\n", "\n# another\n"),
    "SQL": ("database/training/002-dataset.sql", "\n", "\n-- another\n"),
    "a changelog": ("database/inference/changelog.yaml", "\n", "\n# another\n"),
    "a lock file": ("requirements/training-db.txt", "\n", "\n# another\n"),
    "the stage": (VALUES, "stage: 'staging'", "stage: 'production'"),
    "a database": (VALUES, "database: null", "database: null\n      port: 6432"),
}
OTHER_CHANGES = {
    "README": ("README.md", "\n", "\nanother\n"),
    "the app": ("app/api.py", "\n", "\n# another\n"),
    "the app's lock file": ("requirements/app.txt", "\n", "\n# another\n"),
    "a test": ("tests/test_settings.py", "\n", "\n# another\n"),
    "hosts": (VALUES, "host: 'image-classifier.example.com'", "host: 'other.example.com'"),
    "a manifest": ("deploy/config/pipeline.yaml", "\n", "\n#! another\n"),
}


@pytest.mark.parametrize("case", CHANGES_TO_THE_MODEL)
def test_a_change_to_the_inputs_of_training_starts_a_run(project: Path, copied: Path, case: str) -> None:
    name, old, new = CHANGES_TO_THE_MODEL[case]
    change(copied / name, old, new)
    before, after = deployed(project), deployed(copied)
    assert training_inputs(before) != training_inputs(after)


@pytest.mark.parametrize("case", OTHER_CHANGES)
def test_no_other_change_starts_a_run(project: Path, copied: Path, case: str) -> None:
    name, old, new = OTHER_CHANGES[case]
    change(copied / name, old, new)
    before, after = of_kind(deployed(project), "Workflow"), of_kind(deployed(copied), "Workflow")
    assert before == after


def test_a_module_beside_the_model_starts_a_run(project: Path, copied: Path) -> None:
    (copied / "layers.py").write_text("SIZE = 3\n")
    assert training_inputs(deployed(project)) != training_inputs(deployed(copied))


def test_a_moved_file_starts_a_run(project: Path, copied: Path) -> None:
    (copied / "pipeline" / "errors.py").rename(copied / "pipeline" / "mistakes.py")
    assert training_inputs(deployed(project)) != training_inputs(deployed(copied))
