"""The step rollback: the model while it is served, with and without MLflow; then the code of the databases."""

import math
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .conftest import commit_all
from .project import Project
from .servers import tags, wait_until

IMAGE = bytes(range(64))
TASK = "SELECT {schema}.run_inference_task(%s, 'rolled_back', 'staging')"
PREDICT = "SELECT {schema}.predict(%s, 'rolled_back', 'staging')"
VERSION = "SELECT version FROM {schema}.model_alias WHERE alias = 'staging'"
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
def away() -> Iterator[dict[str, str]]:
    """The variable with which a command finds no MLflow: nobody listens on the port, nor can anybody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{taken.getsockname()[1]}"}


def state(project: Project) -> tuple[int | None, str | None]:
    """Return the version that holds staging in the database, and in MLflow's registry."""
    with project.database("inference-deployer") as database:
        rows = database.query(VERSION)
    return (rows[0][0] if rows else None), project.servers.tracking.alias(project.schema, "staging")


def history(project: Project) -> list[int | None]:
    """Return the versions that staging had in the database."""
    with project.database("inference-deployer") as database:
        found = database.query("SELECT version FROM {schema}.model_alias_history WHERE alias = 'staging' ORDER BY id")
    return [version for (version,) in found]


def marks(project: Project, version: int) -> set[str]:
    """Return the names of a registered version's tags that rollbacks and promotions by hand set."""
    found = project.servers.tracking.get("model-versions/get", name=project.schema, version=str(version))
    return {tag["key"] for tag in found["model_version"].get("tags", []) if tag["key"].endswith(".staging")}


def logged(project: Project) -> list[dict[str, str]]:
    """Return the parameters of the step's runs in MLflow, newest first."""
    runs = project.servers.tracking.runs(project.schema, "tags.step = 'rollback'")
    assert all("mlflow.parentRunId" in tags(run) for run in runs)
    return [
        {entry["key"].removeprefix("rolled_back_"): entry["value"] for entry in run["data"].get("params", [])}
        for run in runs
    ]


class Call(NamedTuple):
    """One answer: when it was asked for, when it was there, and the probabilities and version, as far as told."""

    started: float
    ended: float
    probabilities: list[float]
    version: int | None


class Caller(threading.Thread):
    """Asks in one session of the app, again and again, until it is told to stop."""

    def __init__(self, project: Project, statement: str, stop: threading.Event) -> None:
        super().__init__()
        self.project, self.statement, self.stop = project, statement, stop
        self.calls: list[Call] = []

    def run(self) -> None:
        """Ask and note."""
        with self.project.database("inference-app") as app:
            while not self.stop.is_set():
                started = time.monotonic()
                answer = app.value(self.statement, (IMAGE,))
                ended = time.monotonic()
                told = (answer["probabilities"], answer["version"]) if isinstance(answer, dict) else (answer, None)
                self.calls.append(Call(started, ended, *told))


class Watcher(threading.Thread):
    """Finds out when the alias moved: after `not_before`, and by `committed`."""

    def __init__(self, project: Project, version: int) -> None:
        super().__init__()
        self.project, self.version = project, version
        self.not_before = self.committed = 0.0

    def run(self) -> None:
        """Look as often as possible."""
        with self.project.database("inference-deployer") as database:
            deadline = time.monotonic() + 120
            while not self.committed and time.monotonic() < deadline:
                started = time.monotonic()
                if database.value(VERSION) == self.version:
                    self.committed = time.monotonic()
                else:
                    self.not_before = started


class Served(NamedTuple):
    """What the sessions were answered around a rollback, when it was committed, and what each version answers."""

    callers: list[Caller]
    watcher: Watcher
    probabilities: dict[int, list[float]]
    output: str

    def version(self, call: Call) -> int | None:
        """Return the version that gave an answer, by its probabilities."""
        for version, expected in self.probabilities.items():
            if all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(call.probabilities, expected, strict=True)):
                return version
        return None


@pytest.fixture(scope="module")
def served(project: Project) -> Served:
    """Roll back from version 2 to version 1 while sessions of the app ask."""
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
    told = [call for caller in callers for call in caller.calls if call.version]
    probabilities = {call.version: call.probabilities for call in told if call.version}
    return Served(callers, watcher, probabilities, output)


def test_no_answer_of_another_version_after_the_commit(served: Served, record_property: Any) -> None:
    """Every call that started after the commit is answered by the version that was rolled back to, in every session."""
    assert set(served.probabilities) == {1, 2}
    assert served.watcher.committed
    firsts = []
    for caller in served.callers:
        before = [call for call in caller.calls if call.ended < served.watcher.not_before]
        after = [call for call in caller.calls if call.started > served.watcher.committed]
        assert {served.version(call) for call in before} == {2}
        assert {served.version(call) for call in after} == {1}
        assert {call.version for call in caller.calls} == ({1, 2} if caller.statement == TASK else {None})
        firsts.append(min(call.ended for call in caller.calls if served.version(call) == 1))
    at_most = [1000 * (first - served.watcher.not_before) for first in firsts]
    record_property("calls", sum(len(caller.calls) for caller in served.callers))
    record_property("milliseconds_from_commit_to_first_answer", round(min(at_most), 1))
    record_property("milliseconds_from_commit_to_first_answer_in_every_session", round(max(at_most), 1))


def test_rollback_is_everywhere(project: Project, served: Served) -> None:
    """The answer says what happened; the history, MLflow's registry and a run of the step say it too."""
    assert re.search(r"^rollback: version 1 now holds staging, which version 2 held; ", served.output, re.MULTILINE)
    assert state(project) == (1, "1")
    assert history(project) == [1, 2, 1]
    assert marks(project, 2) == {"rolled_back_from.staging"}
    assert logged(project) == [{"from": "2", "to": "1", "stage": "staging"}]


def test_rollback_again_changes_nothing(project: Project, served: Served) -> None:
    """A second time the step says that nothing was to be done, and does nothing."""
    tables: dict[str, set[str]] = {"model_alias": set(), "model_alias_history": set()}
    with project.database("inference-deployer") as database:
        before = database.fingerprints(tables)
        done = project.pipeline("rollback", "--to_version", "1")
        assert database.fingerprints(tables) == before
    assert "rollback: version 1 holds staging already" in done.stdout
    assert done.stderr == ""
    assert len(logged(project)) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--to_version", "7"), "no version 7 of rolled_back; it holds 1, 2"),
        (("--to_version", "99999999999"), "no version 99999999999 of rolled_back; it holds 1, 2"),
        (("--to_version", "1", "--stage", "production"), "no version of rolled_back holds production"),
        (("--to_tag", "no-such-tag"), "no tag 'no-such-tag'; its tags, newest first, are"),
        ((), "no target was given; name exactly one of --to_version N"),
    ],
)
def test_mistakes(project: Project, served: Served, options: tuple[str, ...], told: str) -> None:
    """What is not there is refused with one sentence that says what is."""
    assert told in project.refuses("rollback", *options)
    assert state(project) == (1, "1")


@pytest.fixture(scope="module")
def not_again(project: Project, served: Served) -> str:
    """What promote_model says to the version that was rolled back from; then a person promotes it."""
    output = project.pipeline("promote_model", "deploy_inference_db").stdout
    assert state(project) == (1, "1")
    project.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    return output


def test_no_promotion_of_what_was_rolled_back(project: Project, not_again: str) -> None:
    """The next run of the pipeline does not undo a rollback, though the version is the better one; a person may."""
    assert re.search(r"version 2 is not promoted: it was rolled back from staging at \S+; ", not_again)
    assert "`promote_model --version 2 --stage staging` promotes it all the same" in not_again
    assert "deploy_inference_db: skipped" in not_again
    assert state(project) == (2, "2")
    assert marks(project, 2) == {"promoted.staging"}


@pytest.fixture(scope="module")
def without_mlflow(project: Project, not_again: str, away: dict[str, str]) -> list[str]:
    """A rollback while MLflow is away: what it printed on stderr, and what deploy_inference_db says afterwards."""
    done = project.pipeline("rollback", "--to_version", "1", **away)
    assert "version 1 now holds staging, which version 2 held" in done.stdout
    assert state(project) == (1, "2")
    return [done.stderr, project.pipeline("deploy_inference_db").stdout]


def test_rollback_without_mlflow(project: Project, without_mlflow: list[str]) -> None:
    """The database goes back at once and the registry is told later, whatever it said before."""
    (sentence,) = without_mlflow[0].strip().splitlines()
    assert re.match(r"rollback: MLflow's registry does not know yet: http\S+ does not answer .*will tell it$", sentence)
    told = "staging stays version 1 after a rollback; MLflow's registry, which said version 2, now says so too"
    assert told in without_mlflow[1]
    assert state(project) == (1, "1")
    assert marks(project, 2) == {"rolled_back_from.staging", "promoted.staging"}


def test_told_once(project: Project, without_mlflow: list[str]) -> None:
    """Once the registry knows, it decides again: a version that a person gives the alias to is followed."""
    assert "staging is version 1;" in project.pipeline("deploy_inference_db").stdout.replace("\n", ";").replace(
        " (", ";"
    )
    project.servers.tracking.send("POST", "registered-models/alias", name=project.schema, alias="staging", version="2")
    output = project.pipeline("deploy_inference_db").stdout
    assert "staging is now version 2" in output
    assert "rollback" not in output


@pytest.fixture(scope="module")
def third(project: Project, without_mlflow: list[str]) -> Project:
    """The project with staging at version 2 again, and a third version that is registered and not promoted."""
    project.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    project.pipeline("train_model", "--epochs", "1", "--learning_rate", "1e-6", "--run", "3", "promote_model")
    assert state(project) == (2, "2")
    return project


def test_registry_moved_meanwhile(third: Project, away: dict[str, str]) -> None:
    """A version that got the alias in the registry after a rollback that it does not know is followed, and said so."""
    third.pipeline("rollback", "--to_version", "1", **away)
    third.servers.tracking.send("POST", "registered-models/alias", name=third.schema, alias="staging", version="3")
    output = third.pipeline("deploy_inference_db").stdout
    assert "staging is now version 3 (the alias was moved in MLflow's registry" in output
    assert "the rollback to version 1 ended" in output
    assert state(third) == (3, "3")
    assert "rolled_back_from.staging" in marks(third, 2)


def test_promoted_again_meanwhile(third: Project, away: dict[str, str]) -> None:
    """A person who promotes again what was rolled back from, before the registry knows, has the last word."""
    third.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    third.pipeline("rollback", "--to_version", "1", **away)
    assert state(third) == (1, "2")
    output = third.pipeline("promote_model", "--version", "2", "deploy_inference_db").stdout
    assert "staging is now version 2 (the alias was moved" in output
    assert state(third) == (2, "2")
    assert marks(third, 2) == {"promoted.staging"}


def test_two_rollbacks_without_mlflow(third: Project, away: dict[str, str]) -> None:
    """The registry is told of both versions that were rolled back from, and of the last version alone."""
    third.pipeline("rollback", "--to_version", "3", **away)
    third.pipeline("rollback", "--to_version", "1", **away)
    assert state(third) == (1, "2")
    third.pipeline("rollback", "--to_version", "1")
    assert state(third) == (1, "1")
    assert "rolled_back_from.staging" in marks(third, 2)
    assert "rolled_back_from.staging" in marks(third, 3)
    assert marks(third, 1) == set()


def test_version_that_the_registry_lost(third: Project) -> None:
    """A version that MLflow no longer has is served all the same; the registry keeps what it had, and that is said."""
    third.pipeline("promote_model", "--version", "2", "deploy_inference_db")
    third.servers.tracking.send("DELETE", "model-versions/delete", name=third.schema, version="1")
    done = third.pipeline("rollback", "--to_version", "1")
    assert done.stderr == "rollback: MLflow's registry has no version 1; staging stays version 2 there\n"
    output = third.pipeline("deploy_inference_db").stdout
    assert "staging stays version 1 after a rollback; MLflow's registry has no version 1 and still says 2" in output
    assert state(third) == (1, "2")


def test_alias_taken_away_meanwhile(third: Project) -> None:
    """A stage that lost its version in the registry loses it in the database; there is nothing to roll back then."""
    third.servers.tracking.send("DELETE", "registered-models/alias", name=third.schema, alias="staging")
    output = third.pipeline("deploy_inference_db").stdout
    assert "staging no longer has a version" in output
    assert "the rollback to version 1 ended" in output
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


def head(project: Project) -> str:
    """Return the commit that is checked out."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True).stdout.strip()


def commit(project: Project) -> str:
    """Commit everything; return the commit."""
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    for command in (["add", "--all"], [*settings, "commit", "--quiet", "--message=more"]):
        subprocess.run(["git", *command], cwd=project.folder, check=True, capture_output=True)
    return head(project)


class Tags(NamedTuple):
    """The tags before and after a commit that adds a table, and the objects that the database then holds."""

    first: str
    second: str
    objects: tuple[set[str], set[str]]


def objects(project: Project) -> set[str]:
    """Return what lies in the project's schema of the inference database."""
    with project.database("inference-deployer") as database:
        return database.objects()


@pytest.fixture(scope="module")
def code(third: Project) -> Tags:
    """A commit that adds changes to the inference database, deployed."""
    first, before = head(third), objects(third)
    folder = third.folder / "database" / "inference"
    (folder / "900-more.sql").write_text(MORE, encoding="utf-8")
    second = commit(third)
    assert f"at tag {second}" in third.pipeline("deploy_inference_db").stdout
    assert objects(third) == before | {"more", "most"}
    return Tags(first, second, (before, objects(third)))


def test_code_back_and_forward(third: Project, code: Tags) -> None:
    """Back to a tag, again, and forward: the objects are those of the commit, and both tags stay usable."""
    output = third.pipeline("rollback", "--to-tag", code.first).stdout
    assert f"is back at tag {code.first} (it was at {code.second}), 2 changes undone; deploy_inference_db" in output
    assert objects(third) == code.objects[0]
    assert logged(third)[0] == {"database": "inference", "dropped": "nothing", "from": code.second, "to": code.first}
    runs = len(logged(third))
    assert f"is at tag {code.first} already" in third.pipeline("rollback", "--to_tag", code.first).stdout
    assert len(logged(third)) == runs
    for _ in range(2):
        assert f"at tag {code.second}" in third.pipeline("deploy_inference_db").stdout
        assert objects(third) == code.objects[1]
        third.pipeline("rollback", "--to_tag", code.first)
        assert objects(third) == code.objects[0]
    third.pipeline("deploy_inference_db")


def test_code_without_mlflow(third: Project, code: Tags, away: dict[str, str]) -> None:
    """Code goes back while MLflow is away; that it was not logged is said."""
    done = third.pipeline("rollback", "--to_tag", code.first, **away)
    assert re.fullmatch(r"rollback: not logged in MLflow: http\S+ does not answer .*\n", done.stderr)
    assert objects(third) == code.objects[0]
    third.pipeline("deploy_inference_db")


def test_tags_are_named(third: Project, code: Tags) -> None:
    """An unknown tag is refused; the known ones are named, newest first."""
    sentence = third.refuses("rollback", "--to_tag", "v1")
    assert sentence.endswith(f"no tag 'v1'; its tags, newest first, are {code.second}, {code.first}, empty")


def test_rows_are_not_dropped(third: Project, code: Tags) -> None:
    """A rollback that would drop rows or values is refused before anything changes, and done when it is asked for."""
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
    assert "table more (rows: 2)" in logged(third)[0]["dropped"]
    third.pipeline("deploy_inference_db")


def test_all_that_holds_rows_is_named(third: Project) -> None:
    """Back to the empty database: the training data and the models would go."""
    sentence = third.refuses("rollback", "--to_tag", "empty", "--database", "training")
    for table in ("dataset", "dataset_batch", "training_run", "training_epoch", "model_architecture"):
        assert re.search(rf"table {table} \(rows: [1-9]", sentence)
    assert "table model_version (rows: 3)" in third.refuses("rollback", "--to_tag", "empty")


def test_reverted_too_early(third: Project, code: Tags) -> None:
    """A checkout that no longer holds what was deployed cannot undo it: Liquibase would say that all went well."""
    more = third.folder / "database" / "inference" / "900-more.sql"
    more.unlink()
    sentence = third.refuses("rollback", "--to_tag", code.first)
    assert "database/inference does not hold the deployed change 900-more.sql::more_of_more::project" in sentence
    assert objects(third) == code.objects[1]
    # As it should be: roll back, then revert; the tag of the commit that changes nothing is the old one.
    more.write_text(MORE, encoding="utf-8")
    third.pipeline("rollback", "--to_tag", code.first)
    more.unlink()
    commit(third)
    assert f"at tag {code.first}" in third.pipeline("deploy_inference_db").stdout
    assert objects(third) == code.objects[0]


def test_empty_and_forward(third: Project) -> None:
    """Back to the empty database with all data, twice; the next deployment brings code, models and aliases again."""
    before = objects(third)
    third.pipeline("rollback", "--to_tag", "empty", "--drop_data", "true")
    assert "is at tag empty already" in third.pipeline("rollback", "--to_tag", "empty").stdout
    assert "holds no model" in third.refuses("rollback", "--to_version", "2")
    third.pipeline("deploy_inference_db")
    assert objects(third) == before
    assert state(third) == (2, "2")
