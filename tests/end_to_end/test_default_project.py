"""The project with the default answers, from the first step to a prediction, and a second run."""

import json
import re
from collections.abc import Iterator

import psycopg2
import pytest
import yaml

from .project import Project, chain, entry_points, step_lines
from .servers import metrics, tags

SAFE_SEARCH_PATH = "SET search_path = pg_catalog, pg_temp"
# Columns that may change in a second run: the times of the last selection.
TRAINING_TABLES: dict[str, set[str]] = {
    "dataset": {"selected_at"},
    "dataset_batch": set(),
    "model_architecture": {"deployed_at"},
    "training_run": {"selected_at"},
    "training_epoch": set(),
    "databasechangelog": set(),
}
INFERENCE_TABLES: dict[str, set[str]] = {
    "model_version": set(),
    "model_alias": set(),
    "model_alias_history": set(),
    "databasechangelog": set(),
}


def fingerprints(project: Project) -> dict[str, tuple[int, str]]:
    """Return row count and hash of every table in both databases."""
    with project.database("training-deployer") as training:
        of_training = training.fingerprints(TRAINING_TABLES)
    with project.database("inference-deployer") as inference:
        of_inference = inference.fingerprints(INFERENCE_TABLES)
    return {**of_training, **{f"inference {table}": value for table, value in of_inference.items()}}


def objects(project: Project) -> list[set[str]]:
    """Return the objects in the project's schema of both databases."""
    names = []
    for binding in ("training-deployer", "inference-deployer"):
        with project.database(binding) as database:
            names.append(database.objects())
    return names


def versions(project: Project) -> list[str]:
    """Return the versions that MLflow has registered."""
    response = project.servers.tracking.get("model-versions/search", filter=f"name = '{project.schema}'")
    return [version["version"] for version in response.get("model_versions", [])]


def test_every_step_answers_in_order(trained: Project, first_run: str) -> None:
    """`all` prints one answer per step, in the order of MLproject, and runs no other step."""
    assert len(chain(trained)) == 7
    assert step_lines(first_run, entry_points(trained)) == chain(trained)


def test_accuracy_on_the_holdout(trained: Project) -> None:
    """The app's role reads that version 1 holds staging, with an accuracy of at least 0.97."""
    with trained.database("inference-app") as database:
        ((alias, version, metric_values),) = database.query("SELECT alias, version, metrics FROM {schema}.model_info")
    assert (alias, version) == ("staging", 1)
    assert metric_values["accuracy_score"] >= 0.97
    assert metric_values["rows"] > 100


def test_demo_prints_three_lines(trained: Project) -> None:
    """The demo prints the accuracy, the served version, and the correct label of an image."""
    accuracy, served, answer = trained.run("python", "-m", "pipeline", "demo").stdout.splitlines()
    assert re.fullmatch(r"accuracy 0\.9[789]\d\d on \d+ held-out rows", accuracy)
    assert served == "model image_classifier, version 1, stage staging"
    labels = re.fullmatch(r"an image it had never seen: predicted (\d), true (\d)", answer)
    assert labels
    assert labels[1] == labels[2]


def test_mlflow_has_one_child_run_per_step(trained: Project) -> None:
    """The pipeline run is a parent run with one finished child run per step."""
    parent, children = trained.servers.tracking.children(trained.schema, "first")
    assert sorted(tags(run)["step"] for run in children) == sorted(chain(trained))
    assert {run["info"]["status"] for run in [parent, *children]} == {"FINISHED"}


def test_mlflow_tags_give_the_provenance(trained: Project) -> None:
    """Each run has owner and commit; runs with data have its hash, runs of Liquibase its tag."""
    commit = trained.run("git", "rev-parse", "HEAD").stdout.strip()
    parent, children = trained.servers.tracking.children(trained.schema, "first")
    for run in [parent, *children]:
        assert tags(run)["owner"] == "ml-team"
        assert tags(run)["git_commit"] == commit
    by_step = {tags(run)["step"]: tags(run) for run in children}
    for step in ("deploy_training_db", "deploy_inference_db"):
        assert by_step[step]["liquibase_tag"] == commit
    with trained.database("trainer") as database:
        data_hash = database.value("SELECT data_hash FROM {schema}.dataset")
    for step in ("upload_dataset", "train_model", "evaluate_model", "promote_model"):
        assert by_step[step]["data_hash"] == data_hash


def test_mlflow_has_the_metrics_of_every_epoch(trained: Project) -> None:
    """The run of train_model has losses and accuracy per epoch, equal to the database's."""
    _, children = trained.servers.tracking.children(trained.schema, "first")
    (run,) = (run for run in children if tags(run)["step"] == "train_model")
    epochs = trained.epochs(1)
    assert len(epochs) == 10
    for column, metric in ((1, "train_loss"), (3, "val_loss"), (4, "val_accuracy")):
        history = trained.servers.tracking.history(run, metric)
        assert history == pytest.approx([row[column] for row in epochs])


def test_mlflow_names_the_data(trained: Project) -> None:
    """The run of train_model has the data set as input, with its hash as digest."""
    (run,) = trained.servers.tracking.runs(
        trained.schema, "tags.step = 'train_model' AND attributes.status = 'FINISHED'"
    )
    ((dataset),) = (entry["dataset"] for entry in run["inputs"]["dataset_inputs"])
    assert dataset["name"] == trained.schema
    assert tags(run)["data_hash"].startswith(dataset["digest"])
    assert len(dataset["digest"]) == 32


def test_the_parent_run_shows_the_training(trained: Project) -> None:
    """It has parameters, scores and data set, so that MLflow compares trainings without their steps."""
    parent, children = trained.servers.tracking.children(trained.schema, "first")
    by_step = {tags(run)["step"]: run for run in children}
    shown = [(param["key"], param["value"]) for param in parent["data"]["params"]]
    assert ("learning_rate", "0.002") in shown
    assert sorted(shown) == sorted((param["key"], param["value"]) for param in by_step["train_model"]["data"]["params"])
    promoted = metrics(by_step["promote_model"])
    assert {name: metrics(parent)[name] for name in promoted} == promoted
    best = min(trained.epochs(1), key=lambda row: row[3])
    assert metrics(parent)["val_loss"] == pytest.approx(best[3])
    assert metrics(parent)["val_accuracy"] == pytest.approx(best[4])
    assert parent["inputs"] == by_step["train_model"]["inputs"]
    assert parent["info"]["run_name"] == f"{tags(parent)['data_hash'][:6]}-{tags(parent)['run_hash'][:6]}"


def test_the_version_names_the_parent_run(trained: Project) -> None:
    """The source run of the version is the row of the training, and the description has its accuracy."""
    parent, _ = trained.servers.tracking.children(trained.schema, "first")
    version = trained.servers.tracking.get("model-versions/get", name=trained.schema, version="1")["model_version"]
    assert version["run_id"] == parent["info"]["run_id"]
    accuracy = f"Accuracy {metrics(parent)['accuracy_score']:.4f} on "
    assert re.fullmatch(rf"{accuracy}\d+ held-out rows; trained on data \w+ with .*\.", version["description"])


@pytest.mark.parametrize(("minimum", "is_found"), [("0.5", True), ("0.9999", False)])
def test_search_finds_the_candidate(trained: Project, minimum: str, is_found: bool) -> None:
    """A search by `metrics.accuracy_score` finds the promoted run, and none above its accuracy."""
    runs = trained.servers.tracking.runs(
        trained.schema, f"metrics.accuracy_score > {minimum} AND tags.step = 'promote_model'"
    )
    assert bool(runs) == is_found
    for run in runs:
        assert {"accuracy_score", "f1_score", "loss"} <= set(metrics(run))


def test_registered_model_has_the_alias(trained: Project) -> None:
    """In the registry version 1 holds the alias staging."""
    assert trained.servers.tracking.alias(trained.schema, "staging") == "1"
    assert trained.servers.tracking.alias(trained.schema, "production") is None
    assert "1" in versions(trained)


# Functions and operators in the schema public that match names of PostgreSQL's own with other types, and raise.
OVERLOADS = """DO $do$
DECLARE
    own record;
BEGIN
    FOR own IN
        SELECT DISTINCT proname AS name, rtrim(repeat('text, ', pronargs), ', ') AS arguments FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND pronargs BETWEEN 1 AND 5
    LOOP
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS '
            '$f$ BEGIN RAISE EXCEPTION ''hostile %s''; END $f$', own.name, own.arguments, own.name);
    END LOOP;
    CREATE FUNCTION public.compare(varchar, text) RETURNS boolean LANGUAGE plpgsql AS
        $f$ BEGIN RAISE EXCEPTION 'hostile operator'; END $f$;
    FOR own IN SELECT DISTINCT oprname AS name FROM pg_operator WHERE oprkind = 'b' AND oprname <> '=>' LOOP
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = varchar, RIGHTARG = text, FUNCTION = public.compare)',
            own.name);
    END LOOP;
END
$do$"""
NO_OVERLOADS = """DO $do$
DECLARE
    hostile text;
BEGIN
    FOR hostile IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prosrc LIKE '%hostile%'
    LOOP
        EXECUTE 'DROP FUNCTION ' || hostile || ' CASCADE';
    END LOOP;
END
$do$"""


@pytest.fixture
def hostile_public(trained: Project) -> Iterator[None]:
    """Overloads of PostgreSQL's functions and operators in `public` of both databases, which any role may use."""
    roles = ("training-deployer", "inference-deployer")
    try:
        for role in roles:
            with trained.database(role) as database:
                database.query(SAFE_SEARCH_PATH)
                database.query(OVERLOADS)
        with trained.database("trainer") as database, pytest.raises(psycopg2.errors.RaiseException, match="hostile"):
            database.query("SELECT pg_has_role('trainer', 'trainer', 'member')")
        yield
    finally:
        for role in roles:
            with trained.database(role) as database:
                database.query(SAFE_SEARCH_PATH)
                database.query(NO_OVERLOADS)


@pytest.mark.security
@pytest.mark.usefixtures("hostile_public")
def test_second_run_changes_nothing(trained: Project) -> None:
    """Every step is idempotent: a second `all` trains nothing; only times of selection change.

    No step calls a function or an operator that somebody else put into the schema public.
    """
    before, registered = (fingerprints(trained), objects(trained)), versions(trained)
    answer = trained.pipeline("all").stdout
    assert "was trained before" in answer
    assert "was there already" in answer
    assert "version 1 holds staging already" in answer
    assert (fingerprints(trained), objects(trained)) == before
    assert versions(trained) == registered == ["1"]


def test_help_lists_the_entry_points(trained: Project) -> None:
    """`python -m pipeline --help` offers exactly MLproject's entry points, in their order, and the other commands."""
    listed = trained.pipeline("--help").stdout.partition("Commands:")[2]
    other_commands = ["all", "retrain", "check", "demo", "doctor", "psql"]
    assert re.findall(r"^  (\w+)", listed, re.MULTILINE) == [*entry_points(trained), *other_commands]


def test_entry_point_by_mlflow(trained: Project) -> None:
    """`mlflow run -e <step>` needs no further arguments, and the step's run is a child of its pipeline run."""
    trained.run("mlflow", "run", ".", "-e", "evaluate_model", "--env-manager", "local", PIPELINE_RUN="by-mlflow")
    _, children = trained.servers.tracking.children(trained.schema, "by-mlflow")
    (run,) = children
    assert tags(run)["step"] == "evaluate_model"
    assert run["info"]["status"] == "FINISHED"
    assert metrics(run)["accuracy_score"] > 0.9


def test_provenance_is_in_the_inference_database(trained: Project) -> None:
    """The stored version has commit, data hash, classes and shape, so a prediction can be traced."""
    commit = trained.run("git", "rev-parse", "HEAD").stdout.strip()
    columns = "git_commit, data_hash, classes, input_shape, training_statistics"
    with trained.database("inference-deployer") as database:
        ((git_commit, data_hash, classes, shape, statistics),) = database.query(
            "SELECT {columns} FROM {schema}.model_version".replace("{columns}", columns)
        )
    with trained.database("trainer") as database:
        stored = database.query("SELECT data_hash, classes, training_statistics FROM {schema}.dataset")
    assert git_commit == commit
    assert (data_hash, classes, statistics) == (stored[0][0], json.loads(stored[0][1]), json.loads(stored[0][2]))
    assert shape == [8, 8, 1]


def test_answers_reach_mlproject(trained: Project) -> None:
    """The answer `epochs` is the default of train_model and the number of trained epochs."""
    steps = yaml.safe_load((trained.folder / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    assert steps["train_model"]["parameters"]["epochs"]["default"] == len(trained.epochs(1))
