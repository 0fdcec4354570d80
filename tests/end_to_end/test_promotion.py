"""Promotion: the gate, promotion by hand, and aliases that are moved in MLflow."""

import re
from pathlib import Path

import pytest

from .conftest import RESERVED_WORD
from .project import Project
from .servers import Database


@pytest.fixture(scope="module")
def project(named_projects: dict[str, tuple[Project, str]]) -> Project:
    """A project with one version, which holds staging."""
    return named_projects[RESERVED_WORD][0]


def aliases(project: Project) -> dict[str, int]:
    """Return the version per alias of the inference database."""
    with project.database("inference-deployer") as database:
        return dict(database.query("SELECT alias, version FROM {schema}.model_alias"))


def history(database: Database) -> list[tuple[str, int | None]]:
    """Return the history of aliases in order."""
    return [
        (alias, version)
        for alias, version in database.query("SELECT alias, version FROM {schema}.model_alias_history ORDER BY id")
    ]


def test_minimum_accuracy(project: Project, tmp_path: Path) -> None:
    """A candidate below the minimum is refused with status 0; the next step is skipped, and no alias moves."""
    strict = project.variant("strict")
    answers = strict.folder / "project.yaml"
    answers.write_text(re.sub("minimumAccuracy: .*", "minimumAccuracy: 1", answers.read_text()))
    output = strict.pipeline("promote_model", "deploy_inference_db", STEP_OUTPUTS=str(tmp_path)).stdout
    assert re.search(r"version 1 is not promoted: its accuracy 0\.\d+ .* is below the minimum 1", output)
    assert "deploy_inference_db: skipped, nothing was promoted" in output
    assert (tmp_path / "promoted").read_text() == "false"
    assert project.servers.tracking.alias(project.schema, "staging") == "1"
    assert aliases(project) == {"staging": 1}


@pytest.fixture(scope="module")
def worse(project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Output and outcome of the promotion of a candidate that learned nothing."""
    outputs = tmp_path_factory.mktemp("outputs")
    training = ("train_model", "--epochs", "1", "--learning_rate", "1e-6", "--run", "2")
    completed = project.pipeline(*training, "promote_model", "deploy_inference_db", STEP_OUTPUTS=str(outputs))
    return completed.stdout, (outputs / "promoted").read_text()


def test_worse_candidate(project: Project, worse: tuple[str, str]) -> None:
    """A candidate that is worse than the version with the alias is refused; the message has both accuracies."""
    output, promoted = worse
    comparison = re.search(
        r"version 2 is not promoted: its accuracy (0\.\d+) on \d+ held-out rows is worse than "
        r"(0\.\d+) of version 1, which keeps staging",
        output,
    )
    assert comparison, output
    assert float(comparison[1]) < float(comparison[2])
    assert promoted == "false"
    assert "deploy_inference_db: skipped" in output
    assert project.servers.tracking.alias(project.schema, "staging") == "1"


@pytest.fixture(scope="module")
def by_hand(project: Project, worse: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The outcome when a person promotes the worse version to production."""
    outputs = tmp_path_factory.mktemp("outputs")
    promotion = ("promote_model", "--version", "2", "--stage", "production")
    project.pipeline(*promotion, "deploy_inference_db", STEP_OUTPUTS=str(outputs))
    return (outputs / "promoted").read_text()


def test_promotion_by_hand(project: Project, by_hand: str) -> None:
    """The version gets the alias in MLflow and in the database; the other alias stays."""
    assert by_hand == "true"
    assert project.servers.tracking.alias(project.schema, "production") == "2"
    assert aliases(project) == {"staging": 1, "production": 2}


def test_promotion_of_an_unknown_version(project: Project) -> None:
    """It is refused with a one-line message; the project's test_settings.py has values that no server is asked for."""
    assert f"MLflow has no version 99 of the model {RESERVED_WORD}" in project.refuses(
        "promote_model", "--version", "99"
    )


@pytest.fixture(scope="module")
def moved(project: Project, by_hand: str) -> Project:
    """A person moves one alias and deletes the other in MLflow; then the step runs."""
    tracking = project.servers.tracking
    tracking.send("POST", "registered-models/alias", name=project.schema, alias="staging", version="2")
    tracking.send("DELETE", "registered-models/alias", name=project.schema, alias="production")
    assert aliases(project) == {"staging": 1, "production": 2}
    project.pipeline("deploy_inference_db")
    return project


def test_aliases_follow_mlflow(moved: Project) -> None:
    """The step moves and deletes aliases in the inference database as in MLflow."""
    assert aliases(moved) == {"staging": 2}


def test_history_of_aliases(moved: Project) -> None:
    """The history has every change in order, a deletion without a version, and the role that made it."""
    with moved.database("inference-deployer") as database:
        assert history(database)[:4] == [("staging", 1), ("production", 2), ("staging", 2), ("production", None)]
        assert database.query("SELECT DISTINCT changed_by FROM {schema}.model_alias_history") == [("deployer",)]


def test_an_open_session_sees_a_moved_alias(moved: Project) -> None:
    """An open session of the app answers with the other version right after the alias moves."""
    ask = "SELECT {schema}.run_inference_task(%s, %s, 'staging')"
    move = "UPDATE {schema}.model_alias SET version = %s WHERE alias = 'staging'"
    image = bytes(range(64))
    with moved.database("inference-app") as app, moved.database("inference-deployer") as deployer:
        answers = [app.value(ask, (image, RESERVED_WORD))]
        for version in (1, 2):
            deployer.query(move, (version,))
            answers.append(app.value(ask, (image, RESERVED_WORD)))
    assert [answer["version"] for answer in answers] == [2, 1, 2]
    assert answers[0]["probabilities"] == answers[2]["probabilities"] != answers[1]["probabilities"]
