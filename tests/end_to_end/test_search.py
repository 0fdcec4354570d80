"""Searches and learning curves on real servers: killed, resumed, hopping; and training in memory."""

import json
import os
import re
import signal
import time
from typing import Any, NamedTuple

import psycopg2
import pytest
import yaml

from .project import Project
from .servers import Database, Servers, metrics, tags, wait_until

# The third configuration diverges at once.
SPACE = {
    "method": "grid",
    "number": 3,
    "seed": 1,
    "parameters": {"batch_size": [32], "epochs": [4], "learning_rate": [0.0005, 0.002, 1e9]},
}
GOOD = (0.0005, 0.002)
EPOCHS = 4
FINISHED = ("finished", None)
SEARCH = ("search", "--sessions", "2")
CURVE = ("--epochs", "1", "--batch_size", "64", "--run", "9")
# Backends that train now, for how many seconds, the committed epochs of the search, and its finished trainings, in
# one query.
FITTING = """
SELECT pid, extract(epoch FROM clock_timestamp() - query_start)::float8,
       (SELECT count(*) FROM {schema}.training_epoch JOIN {schema}.training_run USING (run_hash)
        WHERE parameters::json ->> 'run' = '1'),
       (SELECT count(*) FROM {schema}.training_run
        WHERE parameters::json ->> 'run' = '1' AND NOT parameters::jsonb ? 'where' AND status = 'finished')
FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT "long_epochs".fit(%'
"""
INSIDE = 0.2
# Hopping needs segments: here the number of a block stands for its segment. Then this process repeats each epoch, one
# part after the other, from the same state.
HOP = """
import json
from pipeline import training_db
from pipeline.databases import session
from pipeline.steps import search
from pipeline.training import checkpoints, hopping, in_memory
from pipeline.training import run as training_run
from pipeline.training.candidates import Division, merged_fitted, merged_scores

chosen = [
    {"epochs": 2, "batch_size": 64, "learning_rate": rate, "seed": 1, "patience": 5, "run": 3}
    for rate in (0.0005, 0.002)
]
division = Division.hopping("batch_id % 2", [0, 1])
print(search.search(chosen, division))
connection = session("trainer")
results = []
for parameters in chosen:
    training = training_run.current_training({**parameters, **division.parameters})
    with connection:
        parts = {
            split: [in_memory.export(connection, training.data.dataset, split)[part::2] for part in range(2)]
            for split in ("train", "validation")
        }
        stored = training_db.epoch_rows(connection, training.run_hash)
    state, alone = b"", []
    for epoch in (1, 2):
        config, fitted, scores = training.config(epoch, 0), [], []
        for task, part in hopping.epoch_visits(hopping.first_session(training.run_hash, 2), 2):
            if task == "fit":
                last = in_memory.aggregate(b"fit", parts["train"][part], state, config)
                fitted.append(training_db.fitted(last, training.architecture.weight_count))
                state = fitted[-1].weights + fitted[-1].optimizer_slots
            elif parts["validation"][part]:
                last = in_memory.aggregate(b"evaluate", parts["validation"][part], fitted[-1].weights, config)
                scores.append(json.loads(in_memory.scores(last)))
        alone.append(checkpoints.epoch_row(epoch, merged_fitted(fitted), merged_scores(scores)))
    results.append({"stored": stored, "alone": alone})
print(json.dumps(results))
"""
# As in a session that trains beside another, so that sums are added in the same order.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@pytest.fixture(scope="module")
def searching(long_data: Project) -> Project:
    """The project with long epochs and a search of three configurations, before any training."""
    write_space(long_data, SPACE)
    return long_data


def write_space(project: Project, section: dict[str, Any]) -> None:
    """Replace the section `search` of project.yaml."""
    file = project.folder / "project.yaml"
    answers = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**answers, "search": section}), encoding="utf-8")


def in_mid_epoch(database: Database, minimum: int) -> list[int]:
    """Wait until all unfinished configurations train after `minimum` committed epochs; return their backends.

    On a busy machine one configuration may finish before the other starts.
    """

    def look() -> list[int] | None:
        rows = database.query(FITTING)
        inside = [backend for backend, seconds, committed, _ in rows if committed >= minimum and seconds > INSIDE]
        unfinished = {len(GOOD) - finished for *_, finished in rows}
        return inside if inside and unfinished == {len(inside)} else None

    return wait_until(look, 120, f"the trainings after {minimum} epochs")


def is_lost(database: Database) -> bool:
    """Return whether the session has ended."""
    try:
        database.query("SELECT 1")
    except psycopg2.Error:
        return True
    return False


def epochs(project: Project, **parameters: object) -> dict[float, list[tuple[Any, ...]]]:
    """Return number, date and metrics of the epochs with these parameters, by learning rate."""
    by_rate: dict[float, list[tuple[Any, ...]]] = {}
    with project.database("trainer") as database:
        rows = database.query(
            "SELECT (parameters::json ->> 'learning_rate')::float8, epoch, committed_at, train_loss, train_accuracy, "
            "val_loss, val_accuracy FROM {schema}.training_epoch JOIN {schema}.training_run USING (run_hash) "
            "WHERE parameters::jsonb @> %s AND (parameters::jsonb ? 'where') = %s ORDER BY epoch",
            (json.dumps(parameters), "where" in parameters),
        )
    for rate, *row in rows:
        by_rate.setdefault(rate, []).append(tuple(row))
    return by_rate


def candidate(project: Project) -> float | None:
    """Return the learning rate of the run that evaluate_model would evaluate."""
    with project.database("trainer") as database:
        rows = database.query(
            "SELECT (parameters::json ->> 'learning_rate')::float8 FROM {schema}.training_run "
            "WHERE status = 'finished' AND selected_at > '-infinity' ORDER BY selected_at DESC LIMIT 1"
        )
    return rows[0][0] if rows else None


def statuses(project: Project) -> dict[float, tuple[str, str | None]]:
    """Return status and error of each configuration of the search."""
    with project.database("trainer") as database:
        rows = database.query(
            "SELECT (parameters::json ->> 'learning_rate')::float8, status, error FROM {schema}.training_run "
            "WHERE parameters::json ->> 'run' = '1' AND NOT parameters::jsonb ? 'where'"
        )
    return {rate: (status, error) for rate, status, error in rows}


def artifacts(servers: Servers, run: dict[str, Any]) -> set[str]:
    """Return the paths of the artifacts of a run."""
    return {file["path"] for file in servers.tracking.get("artifacts/list", run_id=run["info"]["run_id"])["files"]}


def test_a_learning_curve_has_no_candidate(searching: Project) -> None:
    """Growing shares are trained, printed and plotted; none can be evaluated, and none is trained twice."""
    curve = ("learning_curve", "--shares", "0.25,1", *CURVE)
    completed = searching.pipeline(*curve, "evaluate_model", status=1)
    assert "no training run has finished" in completed.stderr
    output = completed.stdout
    sentence = re.search(
        r"^learning_curve: (more data helps:|a larger model may help,|neither) .*", output, re.MULTILINE
    )
    assert sentence, output
    (run,) = searching.servers.tracking.runs(searching.schema, "tags.step = 'learning_curve'")
    assert tags(run)["sentence"] in sentence[0]
    assert "learning_curve.png" in artifacts(searching.servers, run)
    with searching.database("trainer") as database:
        total = json.loads(database.value("SELECT split_rows FROM {schema}.dataset"))["train"]
    shown = [int(rows.replace(",", "")) for rows in re.findall(r"^ *([\d,]+) rows ", output, re.MULTILINE)]
    assert shown[1] == total
    assert 0.25 * total <= shown[0] < 0.25 * total + 512
    assert candidate(searching) is None
    # The whole split with the same parameters is the same training as train_model's, which a person may choose.
    repeated = searching.pipeline(*curve, "train_model", *CURVE).stdout
    assert len(re.findall("was trained before", repeated)) == 3
    assert "epoch " not in re.sub("best epoch", "", repeated)
    assert candidate(searching) == 0.002


class Disturbed(NamedTuple):
    """The results of a search after each of three disturbances, and its last output."""

    reconnected: tuple[list[int], str]
    interrupted: tuple[float, int, str, dict[float, tuple[str, str | None]]]
    before: dict[float, list[tuple[Any, ...]]]
    statuses: dict[float, tuple[str, str | None]]
    candidates: tuple[float | None, float | None]
    output: str


@pytest.fixture(scope="module")
def disturbed(searching: Project) -> Disturbed:
    """The first run loses a backend and is stopped by Ctrl-C, the second loses its client, and the third finishes."""
    chosen = candidate(searching)
    with searching.started(*SEARCH) as process:
        with searching.database("training-deployer") as database:
            os.kill(in_mid_epoch(database, 1)[0], signal.SIGKILL)
            wait_until(lambda: is_lost(database), 60, "the server's restart")
        first = [len(rows) for rows in epochs(searching, run=1).values()]
        with searching.database("training-deployer") as database:
            in_mid_epoch(database, 2)
            process.send_signal(signal.SIGINT)
            interrupted_at = time.monotonic()
            code, stdout, stderr = searching.end_of(process, 30)
            interrupted = (time.monotonic() - interrupted_at, code, stderr, statuses(searching))
            assert database.query(FITTING) == []
    with searching.started(*SEARCH) as process, searching.database("training-deployer") as database:
        backends = in_mid_epoch(database, 3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        no_backend = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY(%s)"
        wait_until(lambda: database.value(no_backend, (backends,)), 20, "the end of the killed client's statements")
    before, before_resuming, candidates = epochs(searching, run=1), statuses(searching), (chosen, candidate(searching))
    output = searching.pipeline(*SEARCH).stdout
    return Disturbed((first, stdout + stderr), interrupted, before, before_resuming, candidates, output)


def test_killed_backend(disturbed: Disturbed) -> None:
    """`kill -9` of one backend ends all sessions of PostgreSQL: the command reconnects and continues."""
    committed, output = disturbed.reconnected
    assert output.count("search: the training database went away") == 1
    assert [int(epoch) for epoch in re.findall(r"resuming after epoch (\d)", output)] == committed


def test_ctrl_c(disturbed: Disturbed) -> None:
    """Ctrl-C stops all sessions of a search at once, with a one-line message and the reason in the database."""
    seconds, code, stderr, by_rate = disturbed.interrupted
    assert seconds < 15
    assert code not in (0, -signal.SIGINT)
    assert stderr.strip().splitlines()[-1] == "stopped; the same command goes on where it stopped"
    assert "Traceback" not in stderr
    assert {by_rate[rate] for rate in GOOD} - {FINISHED} == {("failed", "stopped by a person")}


def test_killed_client(searching: Project, disturbed: Disturbed) -> None:
    """After `kill -9` of the client, the same command continues each configuration after its last epoch."""
    # An unfinished search has no candidate.
    assert disturbed.candidates[0] == disturbed.candidates[1]
    assert {disturbed.statuses[rate] for rate in GOOD} - {FINISHED} == {("running", None)}
    committed = {rate: len(rows) for rate, rows in disturbed.before.items()}
    assert 3 <= sum(committed.values()) < 2 * EPOCHS
    resumed = [int(epoch) for epoch in re.findall(r"resuming after epoch (\d)", disturbed.output)]
    assert sorted(resumed) == sorted(count for rate, count in committed.items() if disturbed.statuses[rate] != FINISHED)
    after = epochs(searching, run=1)
    assert all(after[rate][: len(rows)] == rows for rate, rows in disturbed.before.items())
    assert {rate: [row[0] for row in rows] for rate, rows in after.items()} == {
        rate: list(range(1, EPOCHS + 1)) for rate in GOOD
    }


def test_a_configuration_that_fails_is_a_result(searching: Project, disturbed: Disturbed) -> None:
    """One diverges: the others finish, and the table and the database have the reason."""
    by_rate = statuses(searching)
    status, error = by_rate.pop(1e9)
    assert by_rate == dict.fromkeys(GOOD, ("finished", None))
    assert status == "failed"
    assert error is not None
    assert "lower learning_rate" in error
    assert re.search(r"^ +3 +1000000000\.0 +0 +failed: .*lower learning_rate$", disturbed.output, re.MULTILINE)


def test_mlflow_shows_the_candidates(searching: Project, disturbed: Disturbed) -> None:
    """Despite the disturbances there is one parent run with one child per configuration, metrics and a plot."""
    tracking = searching.servers.tracking
    (parent,) = tracking.runs(searching.schema, "tags.step = 'search'")
    children = tracking.runs(searching.schema, f"tags.mlflow.parentRunId = '{parent['info']['run_id']}'")
    by_rate = {
        float(parameter["value"]): child
        for child in children
        for parameter in child["data"]["params"]
        if parameter["key"] == "learning_rate"
    }
    assert len(children) == len(by_rate) == 3
    for rate, rows in epochs(searching, run=1).items():
        assert tracking.history(by_rate[rate], "val_loss") == pytest.approx([row[4] for row in rows])
    assert [by_rate[rate]["info"]["status"] for rate in (*GOOD, 1e9)] == ["FINISHED", "FINISHED", "FAILED"]
    assert parent["info"]["status"] == "FINISHED"
    assert "candidates.png" in artifacts(searching.servers, parent)
    assert metrics(parent)["failed"] == 1


def test_the_best_becomes_the_candidate(searching: Project, disturbed: Disturbed) -> None:
    """The configuration with the lowest validation loss is printed, marked in the table, and the candidate."""
    rows = epochs(searching, run=1)
    lowest = {rate: min(row[4] for row in rows[rate]) for rate in GOOD}
    best = min(lowest, key=lambda rate: lowest[rate])
    number = GOOD.index(best) + 1
    assert f"best is {number} (learning_rate {best:g}): validation loss {lowest[best]:.4f}" in disturbed.output
    assert re.findall(r"^\* +(\d) +(\S+)", disturbed.output, re.MULTILINE) == [(str(number), f"{best:g}")]
    assert candidate(searching) == best


def test_training_in_memory_is_the_same_training(searching: Project, disturbed: Disturbed) -> None:
    """Without disturbance, in memory, the same parameters give the metrics of the search, so resuming lost nothing.

    It is a separate run, which the next steps use, and it is not trained twice.
    """
    parameters = ("--epochs", str(EPOCHS), "--batch_size", "32", "--learning_rate", "0.0005")
    in_memory = ("train_model", *parameters, "--where", "memory")
    output = searching.pipeline(
        *in_memory, "evaluate_model", *in_memory, "train_model", *parameters, **ONE_THREAD
    ).stdout
    assert output.count("was trained before") == 2
    inside = epochs(searching, run=1)[0.0005]
    outside = epochs(searching, run=1, where="memory")[0.0005]
    assert [row[0] for row in outside] == [row[0] for row in inside] == list(range(1, EPOCHS + 1))
    for row_inside, row_outside in zip(inside, outside, strict=True):
        assert row_inside[2:] == pytest.approx(row_outside[2:], rel=1e-3)
    accuracy = re.search(r"evaluate_model: validation: accuracy ([\d.]+)", output)
    assert accuracy
    assert float(accuracy[1]) == pytest.approx(min(outside, key=lambda row: row[4])[5], abs=1e-4)


def test_configurations_hop_over_partitions(searching: Project) -> None:
    """Each configuration trains on every part in turn and carries weights and slots along.

    Its epochs equal those of a training that visits the parts alone. Block numbers stand for Greenplum's segments.
    """
    stdout = searching.run("python", "-c", HOP, **ONE_THREAD).stdout
    assert "2 configurations; best is " in stdout
    trainings = json.loads(stdout.splitlines()[-1])
    assert len(trainings) == 2
    for training in trainings:
        assert len(training["stored"]) == 2
        for stored, alone in zip(training["stored"], training["alone"], strict=True):
            assert stored == pytest.approx(alone, rel=1e-3)


def test_an_impossible_search_is_refused(searching: Project) -> None:
    """The message is one line, and no run is recorded."""
    count = "SELECT count(*) FROM {schema}.training_run"
    with searching.database("trainer") as database:
        before = database.value(count)
        write_space(searching, {**SPACE, "number": 2})
        try:
            assert "project.yaml: search: the grid has 3 configurations" in searching.refuses("search")
        finally:
            write_space(searching, SPACE)
        assert database.value(count) == before
