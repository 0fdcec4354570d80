"""The step rollback: a served model, with and without MLflow; then the code of the databases."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .app_sessions import PREDICT, TASK, VERSION, Caller, Served, Watcher
from .conftest import commit_all, head
from .project import Project
from .servers import tags, wait_until

SESSIONS = (TASK, TASK, TASK, PREDICT, PREDICT)


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Project:
    """A project with two versions; the second is better and holds staging."""
    project = Project.generate(
        work, default_project.servers, projectName="rolled-back", epochs="1", minimumAccuracy="0"
    )
    commit_all(project.folder)
    project.pipeline("all")
    project.pipeline("train_model", "--epochs", "5", "--run", "2", "promote_model", "deploy_inference_db")
    assert state(project) == (2, "2")
    return project


@pytest.fixture(scope="module")
def no_mlflow() -> Iterator[dict[str, str]]:
    """The variable with which a command cannot reach MLflow: the port is occupied, and no process listens."""
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{occupied.getsockname()[1]}"}


def state(project: Project) -> tuple[int | None, str | None]:
    """Return the version with staging in the database, and in MLflow's registry."""
    with project.database("inference-deployer") as database:
        rows = database.query(VERSION)
    return (rows[0][0] if rows else None), project.servers.tracking.alias(project.schema, "staging")


def history(project: Project) -> list[int | None]:
    """Return the versions that held staging in the database, in order."""
    with project.database("inference-deployer") as database:
        rows = database.query("SELECT version FROM {schema}.model_alias_history WHERE alias = 'staging' ORDER BY id")
    return [version for (version,) in rows]


def stage_tags(project: Project, version: int) -> set[str]:
    """Return the tags of a registered version that rollbacks and manual promotions set."""
    response = project.servers.tracking.get("model-versions/get", name=project.schema, version=str(version))
    return {tag["key"] for tag in response["model_version"].get("tags", []) if tag["key"].endswith(".staging")}


def logged_parameters(project: Project) -> list[dict[str, str]]:
    """Return the parameters of the runs of rollback in MLflow, newest first."""
    runs = project.servers.tracking.runs(project.schema, "tags.step = 'rollback'")
    assert all("mlflow.parentRunId" in tags(run) for run in runs)
    return [
        {entry["key"].removeprefix("rolled_back_"): entry["value"] for entry in run["data"].get("params", [])}
        for run in runs
    ]


@pytest.fixture(scope="module")
def served(project: Project) -> Served:
    """Roll back from version 2 to version 1 while sessions of the app call the functions."""
    stop = threading.Event()
    callers = [Caller(project, statement, stop) for statement in SESSIONS]
    watcher = Watcher(project, 1)
    try:
        for thread in (*callers, watcher):
            thread.start()
        wait_until(lambda: all(len(caller.calls) > 20 for caller in callers), 60, "the first answers")
        output = project.pipeline("rollback", "--to-version", "1").stdout
        watcher.join()
        counts = [len(caller.calls) for caller in callers]
        wait_until(
            lambda: all(len(caller.calls) > count + 20 for caller, count in zip(callers, counts, strict=True)),
            60,
            "answers after the rollback",
        )
    finally:
        stop.set()
        for thread in callers:
            thread.join()
    with_version = [call for caller in callers for call in caller.calls if call.version]
    probabilities = {call.version: call.probabilities for call in with_version if call.version}
    return Served(callers, watcher, probabilities, output)


def test_no_answer_of_another_version_after_the_commit(served: Served, record_property: Any) -> None:
    """In every session, each call that starts after the commit gets the answer of version 1."""
    assert set(served.probabilities) == {1, 2}
    assert served.watcher.committed
    first_ends = []
    for caller in served.callers:
        before = [call for call in caller.calls if call.end < served.watcher.not_before]
        after = [call for call in caller.calls if call.start > served.watcher.committed]
        assert {served.version(call) for call in before} == {2}
        assert {served.version(call) for call in after} == {1}
        assert {call.version for call in caller.calls} == ({1, 2} if caller.statement == TASK else {None})
        first_ends.append(min(call.end for call in caller.calls if served.version(call) == 1))
    delays = [1000 * (first - served.watcher.not_before) for first in first_ends]
    record_property("calls", sum(len(caller.calls) for caller in served.callers))
    record_property("milliseconds_from_commit_to_first_answer", round(min(delays), 1))
    record_property("milliseconds_from_commit_to_first_answer_in_every_session", round(max(delays), 1))


def test_rollback_is_recorded_everywhere(project: Project, served: Served) -> None:
    """The output, the history, MLflow's registry and a run of the step record it."""
    assert re.search(r"^rollback: version 1 now holds staging, which version 2 held; ", served.output, re.MULTILINE)
    assert state(project) == (1, "1")
    assert history(project) == [1, 2, 1]
    assert stage_tags(project, 2) == {"rolled_back_from.staging"}
    assert logged_parameters(project) == [{"from": "2", "to": "1", "stage": "staging"}]


def test_rollback_again_changes_nothing(project: Project, served: Served) -> None:
    """A second rollback reports that it has nothing to do, and changes nothing."""
    tables: dict[str, set[str]] = {"model_alias": set(), "model_alias_history": set()}
    with project.database("inference-deployer") as database:
        before = database.fingerprints(tables)
        completed = project.pipeline("rollback", "--to_version", "1")
        assert database.fingerprints(tables) == before
    assert "rollback: version 1 holds staging already" in completed.stdout
    assert completed.stderr == ""
    assert len(logged_parameters(project)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to_version", "7"), "no version 7 of rolled_back; it holds 1, 2"),
        (("--to_version", "99999999999"), "no version 99999999999 of rolled_back; it holds 1, 2"),
        (("--to_version", "1", "--stage", "production"), "no version of rolled_back holds production"),
    ],
)
def test_mistakes_are_refused(project: Project, served: Served, options: tuple[str, ...], message: str) -> None:
    """An unknown version or stage is refused with a message that lists the known ones.

    A tag is below; the project's test_rollback.py has the mistakes for which no database is asked.
    """
    assert message in project.refuses("rollback", *options)
    assert state(project) == (1, "1")


@pytest.fixture(scope="module")
def next_promotion(project: Project, served: Served) -> str:
    """The output of promote_model after the rollback; then a person promotes version 2."""
    output = project.pipeline("promote_model", "deploy_inference_db").stdout
    assert state(project) == (1, "1")
    project.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    return output


def test_a_rolled_back_version_is_promoted_only_by_hand(project: Project, next_promotion: str) -> None:
    """The pipeline does not promote it again, though it is better; a person may."""
    assert re.search(r"version 2 is not promoted: it was rolled back from staging at \S+; ", next_promotion)
    assert "`./run promote_model --version 2 --stage staging` promotes it all the same" in next_promotion
    assert "deploy_inference_db: skipped" in next_promotion
    assert state(project) == (2, "2")
    assert stage_tags(project, 2) == {"promoted.staging"}


@pytest.fixture(scope="module")
def without_mlflow(project: Project, next_promotion: str, no_mlflow: dict[str, str]) -> list[str]:
    """The stderr of a rollback without MLflow, and the output of the next deploy_inference_db."""
    completed = project.pipeline("rollback", "--to_version", "1", **no_mlflow)
    assert "version 1 now holds staging, which version 2 held" in completed.stdout
    assert state(project) == (1, "2")
    return [completed.stderr, project.pipeline("deploy_inference_db").stdout]


def test_rollback_without_mlflow(project: Project, without_mlflow: list[str]) -> None:
    """The database rolls back at once; deploy_inference_db updates the registry later."""
    (sentence,) = without_mlflow[0].strip().splitlines()
    assert re.match(r"rollback: MLflow's registry does not know yet: http\S+ does not answer .*will tell it$", sentence)
    expected = "staging stays version 1 after a rollback; MLflow's registry, which said version 2, now says so too"
    assert expected in without_mlflow[1]
    assert state(project) == (1, "1")
    assert stage_tags(project, 2) == {"rolled_back_from.staging", "promoted.staging"}


def test_the_registry_decides_again_after_its_update(project: Project, without_mlflow: list[str]) -> None:
    """A version that gets the alias in the registry after that is deployed."""
    assert "staging is version 1;" in project.pipeline("deploy_inference_db").stdout.replace("\n", ";").replace(
        " (", ";"
    )
    project.servers.tracking.send("POST", "registered-models/alias", name=project.schema, alias="staging", version="2")
    output = project.pipeline("deploy_inference_db").stdout
    assert "staging is now version 2" in output
    assert "rollback" not in output


@pytest.fixture(scope="module")
def third(project: Project, without_mlflow: list[str]) -> Project:
    """The project with version 2 in staging again, and a third version without an alias."""
    project.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    project.pipeline("train_model", "--epochs", "1", "--learning_rate", "1e-6", "--run", "3", "promote_model")
    assert state(project) == (2, "2")
    return project


def test_an_alias_moved_in_the_registry_ends_the_rollback(third: Project, no_mlflow: dict[str, str]) -> None:
    """The registry does not know of the rollback; the version that gets its alias is deployed, with a message."""
    third.pipeline("rollback", "--to_version", "1", **no_mlflow)
    third.servers.tracking.send("POST", "registered-models/alias", name=third.schema, alias="staging", version="3")
    output = third.pipeline("deploy_inference_db").stdout
    assert "staging is now version 3 (the alias was moved in MLflow's registry" in output
    assert "ended the rollback to version 1" in output
    assert state(third) == (3, "3")
    assert "rolled_back_from.staging" in stage_tags(third, 2)


def test_a_promotion_by_hand_ends_the_rollback(third: Project, no_mlflow: dict[str, str]) -> None:
    """A person may promote the version again before the registry knows of the rollback."""
    third.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    third.pipeline("rollback", "--to_version", "1", **no_mlflow)
    assert state(third) == (1, "2")
    output = third.pipeline("promote_model", "--version", "2", "deploy_inference_db").stdout
    assert "staging is now version 2 (the alias was moved" in output
    assert state(third) == (2, "2")
    assert stage_tags(third, 2) == {"promoted.staging"}


def test_two_rollbacks_without_mlflow(third: Project, no_mlflow: dict[str, str]) -> None:
    """The registry gets the tags of both versions that were rolled back from, and the alias of the last target."""
    third.pipeline("rollback", "--to_version", "3", **no_mlflow)
    third.pipeline("rollback", "--to_version", "1", **no_mlflow)
    assert state(third) == (1, "2")
    third.pipeline("rollback", "--to_version", "1")
    assert state(third) == (1, "1")
    assert "rolled_back_from.staging" in stage_tags(third, 2)
    assert "rolled_back_from.staging" in stage_tags(third, 3)
    assert stage_tags(third, 1) == set()


def test_a_version_missing_in_the_registry(third: Project) -> None:
    """A version that MLflow no longer has is served; the registry keeps its alias, with a message."""
    third.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    third.servers.tracking.send("DELETE", "model-versions/delete", name=third.schema, version="1")
    completed = third.pipeline("rollback", "--to_version", "1")
    assert completed.stderr == "rollback: MLflow's registry has no version 1; staging stays version 2 there\n"
    output = third.pipeline("deploy_inference_db").stdout
    assert "staging stays version 1 after a rollback; MLflow's registry has no version 1 and still says 2" in output
    assert state(third) == (1, "2")


def test_an_alias_deleted_in_the_registry(third: Project) -> None:
    """The database deletes it too; then there is nothing to roll back."""
    third.servers.tracking.send("DELETE", "registered-models/alias", name=third.schema, alias="staging")
    output = third.pipeline("deploy_inference_db").stdout
    assert "staging no longer has a version" in output
    assert "ended the rollback to version 1" in output
    assert state(third) == (None, None)
    assert "there is nothing to roll back" in third.refuses("rollback", "--to_version", "2")
    third.pipeline("promote_model", "--version", "2", "deploy_inference_db")


MORE = """--liquibase formatted sql

--changeset project:more
CREATE TABLE "${schema}".more (a int);
--rollback DROP TABLE "${schema}".more;

--changeset project:more_of_more
ALTER TABLE "${schema}".more ADD COLUMN b int;
CREATE VIEW "${schema}".most AS SELECT a, b FROM "${schema}".more;
/* liquibase rollback
DROP VIEW "${schema}".most;
ALTER TABLE "${schema}".more DROP COLUMN b;
*/
"""


class Tags(NamedTuple):
    """The tags before and after a commit that adds a table, and the objects of the database at each."""

    first: str
    second: str
    objects: tuple[set[str], set[str]]


def objects(project: Project) -> set[str]:
    """Return the objects in the project's schema of the inference database."""
    with project.database("inference-deployer") as database:
        return database.objects()


@pytest.fixture(scope="module")
def code(third: Project) -> Tags:
    """The project after a deployed commit that adds changes to the inference database."""
    first, before = head(third.folder), objects(third)
    folder = third.folder / "database" / "inference"
    (folder / "900-more.sql").write_text(MORE, encoding="utf-8")
    second = commit_all(third.folder)
    assert f"at tag {second}" in third.pipeline("deploy_inference_db").stdout
    assert objects(third) == before | {"more", "most"}
    return Tags(first, second, (before, objects(third)))


def test_code_back_and_forward(third: Project, code: Tags) -> None:
    """Roll back to a tag, twice, and forward: the objects are those of the commit, and both tags stay usable."""
    output = third.pipeline("rollback", "--to-tag", code.first).stdout
    assert f"is back at tag {code.first} (it was at {code.second}), 2 changes undone; deploy_inference_db" in output
    assert objects(third) == code.objects[0]
    assert logged_parameters(third)[0] == {
        "database": "inference",
        "dropped": "nothing",
        "from": code.second,
        "to": code.first,
    }
    runs = len(logged_parameters(third))
    assert f"is at tag {code.first} already" in third.pipeline("rollback", "--to_tag", code.first).stdout
    assert len(logged_parameters(third)) == runs
    for _ in range(2):
        assert f"at tag {code.second}" in third.pipeline("deploy_inference_db").stdout
        assert objects(third) == code.objects[1]
        third.pipeline("rollback", "--to_tag", code.first)
        assert objects(third) == code.objects[0]
    third.pipeline("deploy_inference_db")


def test_code_without_mlflow(third: Project, code: Tags, no_mlflow: dict[str, str]) -> None:
    """A rollback of code works without MLflow and reports that it was not logged."""
    completed = third.pipeline("rollback", "--to_tag", code.first, **no_mlflow)
    assert re.fullmatch(r"rollback: not logged in MLflow: http\S+ does not answer .*\n", completed.stderr)
    assert objects(third) == code.objects[0]
    third.pipeline("deploy_inference_db")


def test_an_unknown_tag_is_refused(third: Project, code: Tags) -> None:
    """The message lists the known tags, newest first."""
    sentence = third.refuses("rollback", "--to_tag", "v1")
    assert sentence.endswith(f"no tag 'v1'; its tags, newest first, are {code.second}, {code.first}, empty")


def test_rows_are_dropped_only_on_request(third: Project, code: Tags) -> None:
    """A rollback that would drop rows or values is refused before any change, unless --drop_data is true."""
    with third.database("inference-deployer") as database:
        database.query("INSERT INTO {schema}.more (a, b) VALUES (1, 1), (2, NULL)")
        tables: dict[str, set[str]] = {"more": set(), "databasechangelog": set()}
        before = database.fingerprints(tables)
        sentence = third.refuses("rollback", "--to_tag", code.first)
        assert "column b of table more (values: 1)" in sentence
        assert "table more (rows: 2)" in sentence
        assert "--drop_data true" in sentence
        assert database.fingerprints(tables) == before
    third.pipeline("rollback", "--to_tag", code.first, "--drop_data", "true")
    assert objects(third) == code.objects[0]
    assert "table more (rows: 2)" in logged_parameters(third)[0]["dropped"]
    third.pipeline("deploy_inference_db")


def test_every_table_with_rows_is_named(third: Project) -> None:
    """A rollback to the empty database would drop the training data and the models."""
    sentence = third.refuses("rollback", "--to_tag", "empty", "--database", "training")
    for table in ("dataset", "dataset_batch", "training_run", "training_epoch", "model_architecture"):
        assert re.search(rf"table {table} \(rows: [1-9]", sentence)
    assert "table model_version (rows: 3)" in third.refuses("rollback", "--to_tag", "empty")


def test_a_checkout_without_the_deployed_changes_is_refused(third: Project, code: Tags) -> None:
    """Liquibase would report success without undoing the missing changes."""
    more = third.folder / "database" / "inference" / "900-more.sql"
    more.unlink()
    sentence = third.refuses("rollback", "--to_tag", code.first)
    assert "database/inference does not hold the deployed change 900-more.sql::more_of_more::project" in sentence
    assert objects(third) == code.objects[1]
    # The correct order is to roll back, then to revert; a commit without changes keeps the old tag.
    more.write_text(MORE, encoding="utf-8")
    third.pipeline("rollback", "--to_tag", code.first)
    more.unlink()
    commit_all(third.folder)
    assert f"at tag {code.first}" in third.pipeline("deploy_inference_db").stdout
    assert objects(third) == code.objects[0]
