"""Searches, learning curves and training in memory: what they decide without a server, and what they refuse."""

import hashlib
import itertools
import json
import struct

import numpy as np
import pytest

from local import sql_bodies
from pipeline import mlproject, settings, training_db
from pipeline.databases import query
from pipeline.errors import StepError
from pipeline.steps import learning_curve, search, train_model
from pipeline.steps.learning_curve import Point, Share
from pipeline.training import hopping, in_memory, search_space
from pipeline.training.candidates import Candidate, Division, merged_fitted, merged_scores
from pipeline.training.run import Training
from pipeline.training_db import Fitted, StoredArchitecture, TrainingData, model_config


def hop(starts: list[int], sessions: int, epochs: int, lengths) -> tuple[list, list]:
    """Let trainings hop; return visits (begin, end, training, task, session, number), and their count per training."""
    schedule = [hopping.epoch_visits(first, sessions) * epochs for first in starts]
    visit_counts, visits, now = [0] * len(starts), [], 0
    waiting, running = list(range(len(starts))), {}
    while waiting or running:
        wanted = [
            (number, schedule[training][visit_counts[training]].session) for number, training in enumerate(waiting)
        ]
        free = set(range(sessions)) - {session for _, session in running.values()}
        for number, session in sorted(hopping.next_visits(wanted, free), reverse=True):
            training = waiting.pop(number)
            running[training] = now + lengths(training, session), session
        now = min(end for end, _ in running.values())
        for training in [number for number, (end, _) in running.items() if end == now]:
            _, session = running.pop(training)
            task = schedule[training][visit_counts[training]].task
            visits.append((now - lengths(training, session), now, training, task, session, visit_counts[training]))
            visit_counts[training] += 1
            if visit_counts[training] < len(schedule[training]):
                waiting.append(training)
    return visits, visit_counts


def uneven(training: int, session: int) -> int:
    """Visits of unlike length."""
    return 1 + (7 * training + 3 * session) % 4


@pytest.mark.parametrize("lengths", [lambda *_: 1, uneven])
@pytest.mark.parametrize(("trainings", "sessions"), [(1, 1), (1, 4), (3, 3), (2, 5), (7, 3), (16, 16)])
def test_every_training_meets_every_row_once_an_epoch(trainings, sessions, lengths) -> None:
    epochs = 3
    starts = [hopping.first_session(hashlib.sha256(str(training).encode()).hexdigest(), sessions)
              for training in range(trainings)]  # fmt: skip
    visits, _ = hop(starts, sessions, epochs, lengths)
    for training in range(trainings):
        own = sorted(visit for visit in visits if visit[2] == training)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own)), "in two places at once"
        for epoch in range(epochs):
            of_epoch = [visit[3:5] for visit in own[epoch * 2 * sessions : (epoch + 1) * 2 * sessions]]
            assert sorted(of_epoch) == sorted(
                (task, session) for task in ("fit", "evaluate") for session in range(sessions)
            )
            assert [task for task, _ in of_epoch] == ["fit"] * sessions + ["evaluate"] * sessions
    for session in range(sessions):
        there = sorted(visit for visit in visits if visit[4] == session)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(there)), "two in one session"


@pytest.mark.parametrize("starts", [[0, 1, 2, 3], [0, 0, 0, 0], [2, 2, 1, 0]])
def test_as_many_trainings_as_sessions_keep_all_busy(starts) -> None:
    sessions, epochs = len(starts), 5
    visits, _ = hop(starts, sessions, epochs, lambda *_: 1)
    busy = [sum(begin == moment for begin, *_ in visits) for moment in range(max(end for _, end, *_ in visits))]
    wait = len(busy) - 2 * sessions * epochs
    assert wait == (0 if len(set(starts)) == sessions else wait)
    assert wait < sessions
    # After the trainings have spread out, and before the first ends, no session waits.
    assert set(busy[sessions - 1 : 2 * sessions * epochs - 1]) == {sessions}


def test_the_order_of_a_training_is_its_own() -> None:
    """Whatever else is trained, a run begins in the same session and goes the same way round."""
    alone, _ = hop([2], 3, 1, uneven)
    among, _ = hop([2, 0, 2, 1], 3, 1, uneven)
    order = [visit[3:5] for visit in sorted(alone)]
    assert order == [visit[3:5] for visit in sorted(among) if visit[2] == 0]
    assert hopping.first_session("0000000bff", 4) == 3


def test_who_waits_longest_goes_first_and_nobody_to_a_session_that_is_taken() -> None:
    assert hopping.next_visits([(5, 1), (6, 1), (7, 0), (8, 2)], {0, 1}) == [(5, 1), (7, 0)]
    assert hopping.next_visits([(5, 1)], set()) == []


def test_a_session_sees_its_own_rows() -> None:
    division = Division.hopping("batch_id % 3", [0, 1, 2])
    assert division.blocks(2) == ("(batch_id %% 3) = %s", (2,))
    assert (division.sessions, division.parameters) == (3, {"partitions": 3})
    assert Division(2).blocks(1) == ("TRUE", ())
    assert Division(2).parameters == {}


def test_the_parts_of_an_epoch_are_joined_by_rows() -> None:
    joined = merged_fitted([Fitted(1.0, 0.5, b"a", b"b", 30), Fitted(2.0, 1.0, b"c", b"d", 10)])
    assert joined == Fitted(1.25, 0.625, b"c", b"d", 40)
    parts = [{"rows": 1, "loss": 4.0, "accuracy": 0.0}, {"rows": 3, "loss": 0.0, "accuracy": 1.0}]
    assert merged_scores(parts) == {"loss": 1.0, "accuracy": 0.75}


# The configurations of a search

GRID = {"method": "grid", "number": 8, "seed": 1, "parameters": {"batch_size": [16, 64], "learning_rate": [0.001, 1]}}
RANGES = {"batch_size": {"from": 8, "to": 256}, "learning_rate": {"from": 0.0001, "to": 0.1}, "seed": [1, 2]}
RANDOM = {"method": "random", "number": 20, "seed": 7, "parameters": RANGES}


@pytest.fixture(name="train")
def _train():
    mlproject.steps.cache_clear()
    return mlproject.steps()["train_model"]


def test_a_grid_is_every_combination(train) -> None:
    configurations = search_space.configurations(GRID, train)
    assert [(configuration["batch_size"], configuration["learning_rate"]) for configuration in configurations] == [
        (16, 0.001),
        (16, 1),
        (64, 0.001),
        (64, 1),
    ]
    rest = {"epochs", "seed", "patience"}
    assert all(
        {name: configuration[name] for name in rest} == {name: train.defaults[name] for name in rest}
        for configuration in configurations
    )


def test_random_configurations_are_drawn_from_ranges_the_same_again(train) -> None:
    configurations = search_space.configurations(RANDOM, train)
    assert configurations == search_space.configurations(RANDOM, train)
    assert len({json.dumps(configuration) for configuration in configurations}) == 20
    assert all(
        8 <= configuration["batch_size"] <= 256 and isinstance(configuration["batch_size"], int)
        for configuration in configurations
    )
    assert all(0.0001 <= configuration["learning_rate"] <= 0.1 for configuration in configurations)
    # By the logarithm: a third of the draws a power of ten.
    assert 3 <= sum(configuration["learning_rate"] < 0.001 for configuration in configurations) <= 12
    assert {configuration["seed"] for configuration in configurations} == {1, 2}
    assert search_space.configurations({**RANDOM, "number": 5}, train) == configurations[:5]
    assert search_space.configurations({**RANDOM, "seed": 8}, train) != configurations


def test_there_may_be_fewer_random_configurations_than_asked_for(train) -> None:
    section = {**RANDOM, "parameters": {"batch_size": [1, 2, 2]}}
    assert sorted(configuration["batch_size"] for configuration in search_space.configurations(section, train)) == [
        1,
        2,
    ]


def test_the_section_of_the_project_is_good(train) -> None:
    assert len(search_space.configurations(settings.section("search"), train)) > 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (None, "search is None; it must have method, number, seed, parameters"),
        ({"method": "gird"}, "search.method is 'gird'; allowed is grid or random"),
        ({"numbers": 3}, r"search.numbers is unknown; did you mean number\?"),
        ({"x": 3}, "search.x is unknown; allowed are method, number, seed, parameters"),
        ({"number": 0}, "search.number is 0; it must be a whole number from 1 to 1000"),
        ({"number": True}, "search.number is True; it must be a whole number"),
        ({"seed": -1}, "search.seed is -1; it must be a whole number from 0"),
        ({"number": 3}, "the grid has 4 configurations; its number allows 3"),
        ({"parameters": {}}, "search.parameters is {}; it must name at least one of epochs, batch_size"),
        ({"parameters": {"lr": [1]}}, "search.parameters.lr cannot be searched; allowed are epochs, batch_size"),
        ({"parameters": {"run": [1]}}, "search.parameters.run cannot be searched"),
        ({"parameters": {"where": ["memory"]}}, "search.parameters.where cannot be searched"),
        ({"parameters": {"batch_size": 16}}, "batch_size is 16; it must be a list of values, or a range"),
        ({"parameters": {"batch_size": []}}, r"batch_size is \[\]; it must be a list of values, or a range"),
        ({"parameters": {"batch_size": [1.5]}}, "batch_size holds 1.5; every value must be a whole number"),
        ({"parameters": {"batch_size": [0]}}, "search.parameters: batch_size is 0; allowed is 1 or more"),
        ({"parameters": {"learning_rate": ["1e-3"]}}, "holds '1e-3'; every value must be a number .YAML takes"),
        ({"parameters": {"learning_rate": [float("nan")]}}, "learning_rate holds nan; every value must be a number"),
        ({"parameters": {"learning_rate": [-1]}}, "learning_rate is -1.0; allowed is any number above 0"),
        ({"parameters": {"batch_size": {"from": 1, "to": 2}}}, "batch_size is a range; a grid needs a list"),
        ({"method": "random", "parameters": {"epochs": {"from": 1}}}, "a range is written {from: …, to: …}"),
        ({"method": "random", "parameters": {"epochs": {"from": 2, "to": 1}}}, "from 2 to 1; a range goes from"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_refused_with_one_sentence(train, changed, message) -> None:
    section = None if changed is None else {**GRID, **changed}
    with pytest.raises(StepError, match=message) as refused:
        search_space.configurations(section, train)
    assert "\n" not in str(refused.value)


# A search's answer

DATA = TrainingData("d", "h", (2,), "uint8", ["a", "b"], {"train": 10, "validation": 4, "holdout": 4}, {})
ARCHITECTURE = StoredArchitecture("a", "{}", (2,), 2, 6)
CHOSEN = {"epochs": 2, "batch_size": 8, "learning_rate": 0.002, "seed": 1, "patience": 1, "run": 1}


def candidate(number: int, losses: list[float], error: str = "", **parameters) -> Candidate:
    rows = [
        {"epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": loss, "val_accuracy": 1 - loss}
        for epoch, loss in enumerate(losses, 1)
    ]
    return Candidate(number, Training(DATA, ARCHITECTURE, {}, {**CHOSEN, **parameters}), rows, error)


def test_the_table_shows_what_differs_and_what_failed() -> None:
    candidates = [
        candidate(1, [0.5, 0.25], batch_size=8),
        candidate(2, [0.125], batch_size=128),
        candidate(3, [], "it diverged", batch_size=16),
    ]
    named = search.differing_parameters(candidates)
    assert named == ["batch_size"]
    assert search.table(candidates, candidates[1], named).splitlines() == [
        "   #  batch_size  trained  best  val_loss  val_accuracy",
        "   1           8        2     2    0.2500        0.7500",
        "*  2         128        1     1    0.1250        0.8750",
        "   3          16        0  failed: it diverged",
    ]
    assert search.label(candidates[1], named) == "batch_size 128"


@pytest.mark.parametrize(
    ("losses", "complete"),
    [([], False), ([0.5], False), ([0.5, 0.6], True), ([0.5, 0.4], True), ([0.5, 0.4, 0.3], True)],
)
def test_a_candidate_is_complete_with_its_last_epoch_or_its_patience(losses, complete) -> None:
    assert candidate(1, losses, epochs=3 if losses == [0.5, 0.6] else 2).is_complete is complete


# Learning curves


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be numbers with commas between them"),
        ("a,1", "must be numbers with commas between them"),
        ("1", "two or more different numbers above 0, the last of them 1"),
        ("1,1.0", "two or more different numbers"),
        ("0,1", "two or more different numbers above 0"),
        ("0.5,0.8", "the last of them 1"),
        ("0.5,2", "the last of them 1"),
        ("nan,1", "two or more different numbers"),
    ],
)
def test_wrong_shares_are_refused(text, message) -> None:
    with pytest.raises(StepError, match=message):
        learning_curve.parsed_shares(text)


def test_shares_are_cut_between_blocks() -> None:
    # Batch ids have gaps on Greenplum, where they are chosen to spread over the segments.
    blocks = [(3, 100), (4, 100), (9, 100), (17, 50)]
    assert learning_curve.parsed_shares("1, 0.3,0.25") == [0.25, 0.3, 1]
    assert learning_curve.cut(blocks, [0.1, 0.25, 0.5, 1]) == [
        Share(0.1, 4, 100), Share(0.5, 9, 200), Share(1, None, 350),
    ]  # fmt: skip
    assert learning_curve.cut(blocks, [2 / 7, 1]) == [Share(2 / 7, 4, 100), Share(1, None, 350)]
    with pytest.raises(StepError, match=r"packed in 1 block, .* run `\./run upload_dataset --rows_per_block NUMBER`"):
        learning_curve.cut(blocks[:1], [0.5, 1])


@pytest.mark.parametrize(
    ("points", "decision"),
    [
        # 1,000 validation rows at 0.9: differences above 0.019 count.
        ([(100, 1, 0.80), (500, 1, 0.85), (1000, 1, 0.90)], "more-data"),
        ([(100, 1, 0.50), (500, 1, 0.89), (1000, 1, 0.90)], "neither"),
        ([(100, 0.7, 0.50), (500, 0.91, 0.89), (1000, 0.91, 0.90)], "larger-model"),
        ([(100, 1, 0.50), (500, 0.97, 0.89), (1000, 0.95, 0.90)], "neither"),
        # The largest share of at most half; without one, the smallest share.
        ([(100, 1, 0.50), (400, 1, 0.89), (600, 1, 0.7), (1000, 1, 0.90)], "neither"),
        ([(700, 1, 0.80), (900, 1, 0.90), (1000, 1, 0.90)], "more-data"),
        # Nothing is left to gain, and one row more is no gain.
        ([(500, 1, 0.999), (1000, 1, 1.0)], "neither"),
        ([(500, 1, 0.990), (1000, 1, 1.0)], "more-data"),
    ],
)
def test_the_curve_is_judged_by_its_rule(points, decision) -> None:
    verdict = learning_curve.verdict([Point(point[0] / 1000, *point) for point in points], 1000)
    assert verdict.decision == decision
    begins = {"more-data": "more data helps: ", "larger-model": "a larger model may help, ", "neither": "neither "}
    assert verdict.sentence.startswith(begins[decision])


def test_a_block_that_reaches_beyond_the_half_is_of_the_half() -> None:
    points = [Point(0.25, 390, 1, 0.80), Point(0.5, 512, 1, 0.89), Point(1, 1000, 1, 0.90)]
    verdict = learning_curve.verdict(points, 1000)
    assert verdict.decision == "neither"
    assert "from 512 to 1,000 rows" in verdict.sentence


# Training in memory


def test_where_tells_two_runs_apart() -> None:
    plain = Training(DATA, ARCHITECTURE, {}, CHOSEN)
    hashes = {
        plain._replace(parameters={**CHOSEN, **extra}).run_hash
        for extra in ({}, {"where": "memory"}, {"partitions": 2}, {"batch_id_below": 2})
    }
    assert len(hashes) == 4


def test_training_elsewhere_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(StepError, match="where is 'gpu'; allowed is database or memory"):
        train_model.run(1, 1, 0.1, 1, 1, 1, "gpu")


@pytest.mark.servers
@pytest.mark.parametrize(("name", "module"), [("model_transition", "fit"), ("evaluate_final", "scores")])
def test_the_functions_are_those_of_the_database(trainer, name, module) -> None:
    """What runs here is, byte for byte, what the database has."""
    ((deployed,),) = query(
        trainer,
        "SELECT prosrc FROM pg_proc WHERE proname = %s AND pronamespace = %s::regnamespace",
        (name, f'"{settings.settings().schema}"'),
    )
    path = settings.ROOT / "database" / "python" / f"{module}.py"
    assert sql_bodies.body(path.read_text(encoding="utf-8"), path) in deployed


def test_scores_are_computed_by_the_databases_function() -> None:
    header = training_db.STATE_HEADER.pack(b"evaluate", bytes(16), 4, 2.0, 3)
    state = header + np.array([[2, 0], [1, 1]], "<i8").tobytes()
    scores = json.loads(in_memory.scores(state))
    assert (scores["rows"], scores["loss"], scores["accuracy"]) == (4, 0.5, 0.75)
    assert in_memory.scores(b"evaluate") is None


def test_an_error_names_the_line_of_the_file() -> None:
    with pytest.raises(struct.error) as refused:
        in_memory.scores(bytes(9))
    (line,) = (frame.lineno for frame in refused.traceback if frame.path.name == "scores.py")
    text = (settings.ROOT / "database" / "python" / "scores.py").read_text(encoding="utf-8")
    assert "struct.unpack_from" in text.splitlines()[line]


def test_what_the_function_refuses_is_one_sentence() -> None:
    config = model_config('{"class_name": "Evil", "module": "os"}', (4,), 2, "float32")
    with pytest.raises(StepError, match=r"^the training in memory stopped: os\.Evil cannot be trained"):
        in_memory.aggregate(b"fit", [(b"1", b"2222", 1)], b"", config)
