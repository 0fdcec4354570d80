"""Searches and learning curves on real servers: killed, resumed, hopping; and training outside the database."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .conftest import LONG_EPOCHS
from .project import Project
from .servers import Database, Servers, metrics, tags, wait_until

SCHEMA = "candidates"
# The third goes astray at once.
SPACE = {
    "method": "grid",
    "number": 3,
    "seed": 1,
    "parameters": {"batch_size": [16], "epochs": [3], "learning_rate": [0.0005, 0.002, 1e9]},
}
GOOD = (0.0005, 0.002)
# Backends that train right now, how long, and how many epochs of the search are committed: one look, one answer.
FITTING = """
SELECT pid, extract(epoch FROM clock_timestamp() - query_start)::float8,
       (SELECT count(*) FROM {schema}.training_epoch JOIN {schema}.training_run USING (run_hash)
        WHERE parameters::json ->> 'run' = %s)
FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT "candidates".fit(%%'
"""
INSIDE = 0.2
# Hopping needs segments: here a block's number stands in for where it lies. Then each epoch is made again in this
# process, one part after the other, from the same start.
HOP = """
import json, sys
from pipeline import memory, schedule, search, train_model, training_runs
from pipeline.databases import query, session
from pipeline.experiments import Division, merged_fitted, merged_scores

chosen = [
    {"epochs": 2, "batch_size": 32, "learning_rate": rate, "seed": 1, "patience": 5, "run": 3}
    for rate in (0.0005, 0.002)
]
division = Division.hopping("batch_id % 3", [0, 1, 2])
print(search.search(chosen, division))
connection = session("trainer")
found = []
for parameters in chosen:
    training = train_model.choose({**parameters, **division.parameters})
    with connection:
        parts = {
            split: [memory.export(connection, training.data.dataset, split)[part::3] for part in range(3)]
            for split in ("train", "validation")
        }
        kept = training_runs.epoch_rows(connection, training.run_hash)
    state, alone = b"", []
    for epoch in (1, 2):
        config, fitted, scores = training.config(epoch, 1), [], []
        for task, part in schedule.itinerary(schedule.first_station(training.run_hash, 3), 3):
            if task == "fit":
                last = memory.aggregate(b"fit", parts["train"][part], state, config)
                fitted.append(training_runs.fitted(last, training.architecture.weight_count))
                state = fitted[-1].weights + fitted[-1].optimizer_slots
            elif parts["validation"][part]:
                last = memory.aggregate(b"evaluate", parts["validation"][part], fitted[-1].weights, config)
                scores.append(json.loads(memory.function("evaluate_final")(last)))
        alone.append(train_model.epoch_row(epoch, merged_fitted(fitted), merged_scores(scores)))
    found.append({"kept": kept, "alone": alone})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def searching(default_project: Project, work: Any) -> Project:
    """A project whose epochs take a moment, with a section `search` of three configurations; nothing is trained yet."""
    project = Project.generate(work, default_project.servers, projectName=SCHEMA)
    (project.folder / "dataset.py").write_text(LONG_EPOCHS, encoding="utf-8")
    write_space(project, SPACE)
    project.pipeline("deploy_training_db", "upload_dataset")
    return project


def write_space(project: Project, section: dict[str, Any]) -> None:
    """Replace the section `search` of project.yaml."""
    file = project.folder / "project.yaml"
    answers = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**answers, "search": section}), encoding="utf-8")


def search(run: int) -> tuple[str, ...]:
    """Return the command of the search with this number."""
    return ("search", "--sessions", "2", "--run", str(run))


def in_mid_epoch(database: Database, run: int) -> list[int]:
    """Wait until two backends train for the run after its first committed epoch; return them."""

    def look() -> list[int] | None:
        rows = database.query(FITTING, (str(run),))
        inside = [backend for backend, seconds, committed in rows if committed and seconds > INSIDE]
        return inside if len(inside) == 2 else None

    return wait_until(look, 120, f"two epochs of search {run} at the same time")


def epochs(project: Project, run: int) -> dict[float, list[tuple[Any, ...]]]:
    """Return the committed epochs of each configuration of a run by its learning rate: number, date, metrics."""
    found: dict[float, list[tuple[Any, ...]]] = {}
    with project.database("trainer") as database:
        rows = database.query(
            "SELECT (parameters::json ->> 'learning_rate')::float8, epoch, committed_at, train_loss, train_accuracy, "
            "val_loss, val_accuracy FROM {schema}.training_epoch JOIN {schema}.training_run USING (run_hash) "
            "WHERE parameters::json ->> 'run' = %s ORDER BY epoch",
            (str(run),),
        )
    for rate, *row in rows:
        found.setdefault(rate, []).append(tuple(row))
    return found


def candidate(project: Project) -> str | None:
    """Return the hash of the run that evaluate_model takes next."""
    with project.database("trainer") as database:
        found = database.query(
            "SELECT run_hash FROM {schema}.training_run WHERE status = 'finished' AND selected_at > '-infinity' "
            "ORDER BY selected_at DESC LIMIT 1"
        )
    return found[0][0] if found else None


def statuses(project: Project, run: int) -> dict[float, tuple[str, str | None]]:
    """Return status and error of each configuration of a run."""
    with project.database("trainer") as database:
        rows = database.query(
            "SELECT (parameters::json ->> 'learning_rate')::float8, status, error FROM {schema}.training_run "
            "WHERE parameters::json ->> 'run' = %s",
            (str(run),),
        )
    return {rate: (status, error) for rate, status, error in rows}


def assert_finished(project: Project, run: int) -> None:
    """Two configurations have all their epochs, the third failed and left none."""
    found = statuses(project, run)
    assert {rate: found[rate] for rate in GOOD} == dict.fromkeys(GOOD, ("finished", None))
    status, error = found[1e9]
    assert status == "failed"
    assert error is not None
    assert "lower learning_rate" in error
    committed = {rate: [row[0] for row in rows] for rate, rows in epochs(project, run).items()}
    assert committed == {rate: [1, 2, 3] for rate in GOOD}


def artifacts(servers: Servers, run: dict[str, Any]) -> set[str]:
    """Return the names of the files that a run logged."""
    return {file["path"] for file in servers.tracking.get("artifacts/list", run_id=run["info"]["run_id"])["files"]}


CURVE = ("learning_curve", "--shares", "0.25,1", "--epochs", "1", "--batch_size", "64", "--run", "9")


def test_a_learning_curve_is_nobodys_candidate(searching: Project) -> None:
    """Growing shares are trained, told and drawn; nothing of it can be evaluated or promoted, and nothing is done
    twice."""
    told = searching.pipeline(*CURVE).stdout
    sentence = re.search(r"^learning_curve: (more data helps:|a larger model may help,|neither) .*", told, re.MULTILINE)
    assert sentence, told
    assert "no training run has finished" in searching.refuses("evaluate_model")
    (run,) = searching.servers.tracking.runs(SCHEMA, "tags.step = 'learning_curve'")
    assert tags(run)["sentence"] in sentence[0]
    assert "learning_curve.png" in artifacts(searching.servers, run)
    with searching.database("trainer") as database:
        total = json.loads(database.value("SELECT split_rows FROM {schema}.dataset"))["train"]
    shown = [int(rows.replace(",", "")) for rows in re.findall(r"^ *([\d,]+) rows ", told, re.MULTILINE)]
    assert shown[1] == total
    assert 0.25 * total <= shown[0] < 0.25 * total + 512
    again = searching.pipeline(*CURVE).stdout
    assert len(re.findall("was trained before", again)) == 2
    assert "epoch " not in again
    assert candidate(searching) is None
    # The whole split with the same parameters is train_model's own training: a person may choose it.
    options = [option for option in CURVE[1:] if option not in ("--shares", "0.25,1")]
    assert "was trained before" in searching.pipeline("train_model", *options).stdout
    assert candidate(searching) is not None


@pytest.fixture(scope="module")
def killed(searching: Project) -> Iterator[tuple[Project, dict[str, Any]]]:
    """Search 1, whose client was killed while two configurations were trained, and what the same command said then."""
    before: dict[str, Any] = {"candidate": candidate(searching)}
    with searching.database("training-deployer") as database:
        with searching.started(*search(1)) as process:
            backends = in_mid_epoch(database, 1)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY(%s)"
        wait_until(lambda: database.value(gone, (backends,)), 20, "the end of the killed client's statements")
    before["epochs"], before["statuses"] = epochs(searching, 1), statuses(searching, 1)
    before["candidate then"] = candidate(searching)
    before["told"] = searching.pipeline(*search(1)).stdout
    yield searching, before


def test_killed_client(killed: tuple[Project, dict[str, Any]]) -> None:
    """`kill -9` of the client: the same command goes on at each configuration after its last epoch."""
    project, before = killed
    assert before["candidate then"] == before["candidate"]
    assert "running" in {status for status, _ in before["statuses"].values()}
    assert 1 <= sum(len(rows) for rows in before["epochs"].values()) < 6
    resumed = [int(epoch) for epoch in re.findall(r"resuming after epoch (\d)", before["told"])]
    assert sorted(resumed) == sorted(len(rows) for rows in before["epochs"].values() if len(rows) < 3)
    after = epochs(project, 1)
    assert all(after[rate][: len(rows)] == rows for rate, rows in before["epochs"].items())
    assert_finished(project, 1)


def test_the_best_becomes_the_candidate(killed: tuple[Project, dict[str, Any]]) -> None:
    """The lowest validation loss is told, marked in the table, and is what evaluate_model takes next."""
    project, before = killed
    lowest = {rate: min(row[4] for row in rows) for rate, rows in epochs(project, 1).items()}
    best = min(lowest, key=lambda rate: lowest[rate])
    assert (
        f"best is {GOOD.index(best) + 1} (learning_rate {best:g}): validation loss {lowest[best]:.4f}" in before["told"]
    )
    (marked,) = re.findall(r"^\* +(\d) +(\S+)", before["told"], re.MULTILINE)
    assert marked == (str(GOOD.index(best) + 1), f"{best:g}")
    assert re.search(r"^ +3 +1e\+09 +0 +failed: .*lower learning_rate$", before["told"], re.MULTILINE)
    project.pipeline("evaluate_model")
    runs = project.servers.tracking.runs(SCHEMA, "tags.step = 'evaluate_model' AND attributes.status = 'FINISHED'")
    with project.database("trainer") as database:
        chosen = database.value(
            "SELECT (parameters::json ->> 'learning_rate')::float8 FROM {schema}.training_run WHERE run_hash = %s",
            (tags(runs[0])["run_hash"],),
        )
    assert chosen == best


def test_mlflow_shows_the_candidates(killed: tuple[Project, dict[str, Any]]) -> None:
    """One parent run with one child a configuration, though it was killed in between: parameters, metrics, picture."""
    project, _ = killed
    tracking = project.servers.tracking
    (parent,) = tracking.runs(SCHEMA, "tags.step = 'search'")
    children = tracking.runs(SCHEMA, f"tags.mlflow.parentRunId = '{parent['info']['run_id']}'")
    by_rate = {
        float(parameter["value"]): child
        for child in children
        for parameter in child["data"]["params"]
        if parameter["key"] == "learning_rate"
    }
    assert len(children) == len(by_rate) == 3
    for rate, rows in epochs(project, 1).items():
        assert tracking.history(by_rate[rate], "val_loss") == pytest.approx([row[4] for row in rows])
    assert [by_rate[rate]["info"]["status"] for rate in (*GOOD, 1e9)] == ["FINISHED", "FINISHED", "FAILED"]
    assert parent["info"]["status"] == "FINISHED"
    assert {"candidates.png"} <= artifacts(project.servers, parent)
    assert metrics(parent)["failed"] == 1


def test_a_searched_configuration_is_a_training_like_any_other(killed: tuple[Project, dict[str, Any]]) -> None:
    """train_model knows it again; and an undisturbed training has the metrics of the one that was killed."""
    project, _ = killed
    options = ("train_model", "--epochs", "3", "--batch_size", "16", "--learning_rate", "0.002", "--run")
    assert "was trained before" in project.pipeline(*options, "1").stdout
    project.pipeline(*options, "4")
    undisturbed = epochs(project, 4)[0.002]
    for row, expected in zip(epochs(project, 1)[0.002], undisturbed, strict=True):
        assert row[2:] == pytest.approx(expected[2:], rel=0.02)


def test_killed_backend(killed: tuple[Project, dict[str, Any]]) -> None:
    """`kill -9` of one backend ends every session of PostgreSQL: the command reconnects by itself and goes on."""
    project, _ = killed
    with project.started(*search(2)) as process:
        with project.database("training-deployer") as database:
            os.kill(in_mid_epoch(database, 2)[0], signal.SIGKILL)
        before = epochs(project, 2)
        code, stdout, stderr = project.end_of(process)
    assert code == 0, stderr
    assert "search: the training database went away" in stderr
    assert "resuming after epoch" in stdout
    after = epochs(project, 2)
    assert all(after[rate][: len(rows)] == rows for rate, rows in before.items())
    assert_finished(project, 2)
    for rate in GOOD:
        assert after[rate][-1][2:] == pytest.approx(epochs(project, 1)[rate][-1][2:], rel=0.02)


def test_ctrl_c(killed: tuple[Project, dict[str, Any]]) -> None:
    """Ctrl-C ends all sessions of a search at once, with one sentence and its reason in the database."""
    project, _ = killed
    chosen = candidate(project)
    with project.started(*search(5)) as process, project.database("training-deployer") as database:
        in_mid_epoch(database, 5)
        process.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        code, _, stderr = project.end_of(process, 30)
        assert database.query(FITTING, ("5",)) == []
    assert time.monotonic() - interrupted < 15
    assert code not in (0, -signal.SIGINT)
    assert stderr.strip().splitlines() == ["stopped; the same command goes on where it stopped"]
    assert ("failed", "stopped by a person") in statuses(project, 5).values()
    assert candidate(project) == chosen


def test_configurations_hop_over_partitions(searching: Project) -> None:
    """Each configuration trains on every part in turn, with weights and slots carried: its epochs are those of one
    training that goes through the parts alone. Greenplum's segments are stood in for by block numbers."""
    stdout = searching.run("python", "-c", HOP).stdout
    assert "2 configurations; best is " in stdout
    found = json.loads(stdout.splitlines()[-1])
    assert len(found) == 2
    for training in found:
        assert len(training["kept"]) == 2
        for kept, alone in zip(training["kept"], training["alone"], strict=True):
            assert kept == pytest.approx(alone, rel=0.02)
    assert "was trained before" in searching.run("python", "-c", HOP).stdout


def test_training_in_memory_is_the_same_training(searching: Project) -> None:
    """The same code outside the database: equal metrics, a run of its own, checkpoints that everything else takes."""
    options = ("--epochs", "2", "--batch_size", "64", "--run", "6")
    searching.pipeline("train_model", *options)
    told = searching.pipeline("train_model", *options, "--where", "memory", "evaluate_model").stdout
    assert "was trained before" not in told
    with searching.database("trainer") as database:
        rows = database.query(
            "SELECT coalesce(parameters::json ->> 'where', 'database'), epoch, train_loss, train_accuracy, val_loss, "
            "val_accuracy FROM {schema}.training_epoch JOIN {schema}.training_run USING (run_hash) "
            "WHERE parameters::json ->> 'run' = '6' AND status = 'finished' ORDER BY 1, 2"
        )
    inside, outside = rows[:2], rows[2:]
    assert [row[:2] for row in outside] == [("memory", 1), ("memory", 2)]
    for one, other in zip(inside, outside, strict=True):
        assert one[2:] == pytest.approx(other[2:], rel=1e-3)
    accuracy = re.search(r"evaluate_model: validation: accuracy ([\d.]+)", told)
    assert accuracy
    assert float(accuracy[1]) == pytest.approx(min(outside, key=lambda row: row[4])[5], abs=1e-3)
    assert "was trained before" in searching.pipeline("train_model", *options, "--where", "memory").stdout


@pytest.mark.parametrize(
    ("command", "section", "told"),
    [
        (("search", "--sessions", "0"), SPACE, "sessions is 0; allowed is 1 to 64"),
        (("search",), {**SPACE, "number": 2}, "project.yaml: search: the grid has 3 configurations"),
        (("search",), None, "project.yaml: search is None; it must have method, number, seed, parameters"),
        (("learning_curve", "--shares", "0.5"), SPACE, "shares is '0.5'; allowed are two or more"),
        (("train_model", "--where", "elsewhere"), SPACE, "where is 'elsewhere'; allowed is database or memory"),
    ],
)
def test_what_cannot_be_meant_is_refused(searching: Project, command: tuple[str, ...], section: Any, told: str) -> None:
    """One sentence, and no run is recorded."""
    count = "SELECT count(*) FROM {schema}.training_run"
    with searching.database("trainer") as database:
        before = database.value(count)
        write_space(searching, section)
        try:
            assert told in searching.refuses(*command)
        finally:
            write_space(searching, SPACE)
        assert database.value(count) == before
