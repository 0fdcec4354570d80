"""Promotion: the gate, promotion by hand, and aliases that are moved in MLflow."""

import re
from pathlib import Path

import pytest

from .conftest import RESERVED_WORD
from .project import Project
from .servers import Database

pytestmark = pytest.mark.security


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


def register(project: Project, change: str, tagged: str = "tagged") -> int:
    """Register a copy of version 2 behind the project's back, with a change; return its number."""
    script = str(Path(__file__).with_name("registration.py"))
    completed = project.run("python", "-c", Path(script).read_text(encoding="utf-8"), "2", change, tagged)
    return int(completed.stdout.split()[-1])


@pytest.fixture(scope="module")
def planted(moved: Project) -> Project:
    """An attacker registers version 3, a copy of version 2 with other weights, and gives it the alias staging."""
    assert register(moved, "weights") == 3
    moved.servers.tracking.send("POST", "registered-models/alias", name=moved.schema, alias="staging", version="3")
    return moved


UNKNOWN = "the training database does not know version 3, or its files in MLflow were changed since"


def test_a_planted_version_is_not_served(planted: Project) -> None:
    """Whoever can write to MLflow does not decide what the inference database loads."""
    assert UNKNOWN in planted.refuses("deploy_inference_db")
    assert aliases(planted) == {"staging": 2}


def test_a_planted_version_is_not_promoted(planted: Project) -> None:
    """It is promoted neither by number nor by comparison with a candidate."""
    assert UNKNOWN in planted.refuses("promote_model", "--version", "3")
    training = ("train_model", "--epochs", "1", "--run", "3")
    output = planted.pipeline(*training, "promote_model").stdout
    assert re.search(r"version 4 is not promoted: it cannot be compared with version 3, which keeps staging", output)
    assert "`./run adopt_model --version 3`" in output


def test_a_changed_version_is_not_adopted(planted: Project) -> None:
    """A version that names a training of this database must give its classes and its answers."""
    weights = planted.refuses("adopt_model", "--version", "3")
    assert "version 3 is not the model of the training that its tag run_hash names" in weights
    version = register(planted, "classes")
    assert f'version {version} has ["9", ' in planted.refuses("adopt_model", "--version", str(version))
    assert "version is 0; name a registered version" in planted.refuses("adopt_model")
    assert aliases(planted) == {"staging": 2}


def test_an_adopted_version_is_served(planted: Project) -> None:
    """A copy of a training's model, and a model from elsewhere, are served once a person has adopted them."""
    for number, (change, tagged, origin) in enumerate(
        [("nothing", "tagged", "a training of this database"), ("weights", "untagged", "elsewhere")]
    ):
        version = register(planted, change, tagged)
        adopted = planted.pipeline("adopt_model", "--version", str(version)).stdout
        assert f"version {version}, which comes from {origin}, was checked and adopted by " in adopted
        planted.pipeline("promote_model", "--version", str(version), "deploy_inference_db")
        assert aliases(planted) == {"staging": version}
        with planted.database("training-deployer") as database:
            rows = database.query(
                "SELECT adopted_by, run_hash IS NULL FROM {schema}.registered_version WHERE version = %s", (version,)
            )
        assert len(rows) == 1
        assert "@" in rows[0][0]
        assert rows[0][1] == (number == 1)
    training = ("train_model", "--epochs", "1", "--run", "4")
    output = planted.pipeline(*training, "promote_model").stdout
    assert "adopted it from elsewhere; `./run promote_model --version NUMBER --stage staging` replaces it" in output


def test_an_exchanged_file_is_not_served(planted: Project) -> None:
    """An ONNX file that is exchanged in MLflow's store after its registration is refused."""
    version = register(planted, "nothing")
    planted.pipeline("adopt_model", "--version", str(version), "promote_model", "--version", str(version))
    before = aliases(planted)
    (newest,) = sorted(planted.servers.state.rglob("model.onnx"), key=lambda path: path.stat().st_mtime)[-1:]
    content = newest.read_bytes()
    newest.write_bytes(content.replace(b"images", b"imagez"))
    assert f"does not know version {version}, or its files in MLflow were changed" in planted.refuses(
        "deploy_inference_db"
    )
    assert aliases(planted) == before
    newest.write_bytes(content)
    planted.pipeline("deploy_inference_db")
    assert aliases(planted) == {"staging": version}


def test_a_registry_that_counts_anew_gets_new_numbers(planted: Project) -> None:
    """The inference database holds version 1 already; a new registry's version 1 would be taken for it."""
    with planted.database("training-deployer") as database:
        known = {number for (number,) in database.query("SELECT version FROM {schema}.registered_version")}
    unknown = min(set(range(1, len(known) + 2)) - known)
    planted.servers.tracking.send("DELETE", "registered-models/delete", name=planted.schema)
    output = planted.pipeline("promote_model", "deploy_inference_db").stdout
    assert f"version {unknown} now holds staging" in output
    assert aliases(planted) == {"staging": unknown}
    with planted.database("inference-deployer") as inference, planted.database("training-deployer") as training:
        served = inference.value("SELECT sha256 FROM {schema}.model_version WHERE version = %s", (unknown,))
        statement = "SELECT onnx_sha256 FROM {schema}.registered_version WHERE version = %s"
        assert training.query(statement, (unknown,)) == [(served,)]
