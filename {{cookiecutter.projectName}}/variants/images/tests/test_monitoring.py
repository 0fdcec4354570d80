"""The decision about the served model, and the measurements of the database behind it."""

import numpy as np
import psycopg2
import pytest

from app import images
from pipeline.data import mini_batches
from pipeline.databases import query
from pipeline.errors import StepError
from pipeline.settings import Monitoring, settings
from pipeline.steps.monitor_model import Drift, Observed, decide, observe
from pipeline.user_code import load_dataset

LIMITS = Monitoring(
    window=100, minimum_labels=10, minimum_predictions=50, accuracy_floor=0.8, maximum_psi=0.25, retention_days=1,
    labels="reviewed", maximum_label_share=0.2, maximum_label_share_per_subject=0.05,
)  # fmt: skip


@pytest.mark.parametrize(
    ("predictions", "labelled", "accuracy", "psi", "outcome", "message"),
    [
        (0, 0, None, {}, "too-little-data", "0 labelled predictions, 10 are needed"),
        (50, 9, 0.1, {"class": 9.0}, "too-little-data", "drift 9.00 (class) above 0.25"),
        (50, 10, 0.8, {"class": 0.25}, "fine", "accuracy 0.8000 not below 0.8 on 10 labelled"),
        (50, 10, 0.79, {"class": 0.0}, "retrain", "accuracy 0.7900 below 0.8"),
        (50, 10, 1.0, {"class": 0.1, "mean": 0.26}, "retrain", "drift 0.26 (mean) above 0.25 over 50 predictions"),
        (49, 10, 1.0, {"class": 9.0}, "fine", "drift is not judged with 49 of 50 predictions"),
    ],
)
def test_the_limits_decide(predictions, labelled, accuracy, psi, outcome, message) -> None:
    drift = {name: Drift(predictions, value) for name, value in psi.items()}
    decision = decide(Observed(3, labelled, accuracy, drift), LIMITS)
    assert decision.outcome == outcome
    assert message in decision.reason
    assert "version 3" in decision.reason


def test_a_statistic_of_few_predictions_is_not_judged() -> None:
    """What was not logged from the beginning has fewer predictions than the classes."""
    observed = Observed(3, 10, 1.0, {"class": Drift(100, 0.1), "mean": Drift(3, 9.0)})
    assert decide(observed, LIMITS).outcome == "fine"


@pytest.fixture(name="log")
def _log(deployer):
    """A deployer's session with an empty log that keeps everything; what a test writes is forgotten afterwards."""
    deployer.autocommit = False
    query(deployer, "UPDATE {schema}.setting SET log_statistics = true, store_inputs = true, window_size = 500")
    query(deployer, "DELETE FROM {schema}.prediction_label")
    query(deployer, "DELETE FROM {schema}.prediction_log")
    yield deployer
    deployer.rollback()


def predict(log, rows: np.ndarray) -> list[dict]:
    """Ask run_inference_task for each row."""
    ask = "SELECT {schema}.run_inference_task(%s, %s, %s)"
    stage = settings().promotion_stage
    return [query(log, ask, (row.tobytes(), settings().model, stage))[0][0] for row in rows]


def label(log, answer: dict, name: str) -> dict:
    return query(log, "SELECT {schema}.record_label(%s, %s)", (answer["prediction_id"], name))[0][0]


@pytest.mark.servers
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_database_measures_a_row_as_the_pipeline_does(log, dtype) -> None:
    rows = np.random.default_rng(1).normal(100, 50, (5, 3, 7)).clip(0, 255).astype(dtype)
    for row, expected in zip(rows, images.row_statistics(rows)):
        measured = query(log, "SELECT {schema}.row_statistics(%s, %s)", (row.tobytes(), dtype))[0][0]
        assert np.array(measured, np.float32).tolist() == expected.tolist()


@pytest.mark.servers
def test_the_rows_it_was_trained_on_do_not_drift(log) -> None:
    data = load_dataset()
    train = mini_batches.split_rows(mini_batches.row_digests(data.features))["train"]
    predict(log, data.features[np.random.default_rng(2).permutation(train)[:400]])
    drift = observe(log, settings().promotion_stage).drift
    assert set(drift) >= {"class", "mean", "standard_deviation", "part_1"}
    assert {measured.predictions for measured in drift.values()} == {400}
    assert max(measured.psi for name, measured in drift.items() if name != "class") < 0.1


@pytest.mark.servers
def test_drift_is_the_population_stability_index(log) -> None:
    data = load_dataset()
    rows = data.features[:60] // 2
    answers = predict(log, rows)
    statistics = mini_batches.training_statistics(mini_batches.pack(data, 1, 512))
    measured = {name: drift.psi for name, drift in observe(log, settings().promotion_stage).drift.items()}

    def psi(expected: np.ndarray, actual: np.ndarray) -> float:
        shares = [(counts + 0.5) / (counts + 0.5).sum() for counts in (expected, actual)]
        return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())

    classes = [data.classes.index(answer["label"]) for answer in answers]
    expected = {"class": psi(np.array(statistics["class_counts"]), np.bincount(classes, minlength=len(data.classes)))}
    for entry, values in zip(statistics["inputs"], images.row_statistics(rows).T):
        bins = np.searchsorted(np.array(entry["edges"], np.float32), values, side="right")
        expected[entry["statistic"]] = psi(np.array(entry["counts"]), np.bincount(bins, minlength=len(entry["counts"])))
    assert measured == pytest.approx(expected)


@pytest.mark.servers
def test_accuracy_is_that_of_the_last_labelled_predictions(log) -> None:
    data = load_dataset()
    query(log, "UPDATE {schema}.setting SET window_size = 4")
    other = {name: data.classes[(number + 1) % len(data.classes)] for number, name in enumerate(data.classes)}
    answers = predict(log, data.features[:6])
    for answer, right in zip(answers, (False, False, True, True, False, True)):
        label(log, answer, answer["label"] if right else other[answer["label"]])
    window = query(log, "SELECT labelled, accuracy FROM {schema}.accuracy_window ORDER BY labelled_at")
    assert window == [(1, 0), (2, 0), (3, pytest.approx(1 / 3)), (4, 0.5), (4, 0.5), (4, 0.75)]
    label(log, answers[4], answers[4]["label"])
    assert observe(log, settings().promotion_stage)[1:3] == (4, 1.0)


@pytest.mark.servers
def test_a_label_is_answered_with_what_was_predicted(log) -> None:
    data = load_dataset()
    answer = predict(log, data.features[:1])[0]
    assert label(log, answer, data.classes[1]) == {
        "prediction_id": answer["prediction_id"],
        "label": data.classes[1],
        "predicted_label": answer["label"],
        "model": settings().model,
        "version": answer["version"],
    }


@pytest.mark.servers
@pytest.mark.parametrize(
    ("prediction", "name", "code", "message"),
    [
        (None, "no class", "22023", 'the label "no class" is none of the classes; allowed is one of '),
        (None, None, "22023", "allowed is one of "),
        ("00000000-0000-4000-8000-000000000000", "x", "P0002", "there is no prediction 00000000-0000"),
    ],
)
def test_a_wrong_label_is_refused_with_a_sentence(log, prediction, name, code, message) -> None:
    answer = predict(log, load_dataset().features[:1])[0]
    with pytest.raises(psycopg2.Error, match=message) as raised:
        label(log, {"prediction_id": prediction or answer["prediction_id"]}, name)
    assert raised.value.pgcode == code


@pytest.mark.servers
@pytest.mark.parametrize(("log_statistics", "store_inputs"), [(True, True), (True, False), (False, False)])
def test_only_what_the_settings_say_is_kept(log, log_statistics, store_inputs) -> None:
    query(log, "UPDATE {schema}.setting SET log_statistics = %s, store_inputs = %s", (log_statistics, store_inputs))
    row = load_dataset().features[0]
    predict(log, row[None])
    ((statistics, stored),) = query(log, "SELECT statistics, input FROM {schema}.prediction_log")
    assert (statistics is not None) == log_statistics
    assert (bytes(stored) if stored else None) == (row.tobytes() if store_inputs else None)


@pytest.mark.servers
def test_predictions_past_their_retention_go_with_their_labels(log) -> None:
    data = load_dataset()
    old, young = predict(log, data.features[:2])
    for answer in (old, young):
        label(log, answer, data.classes[0])
    days = settings().monitoring.retention_days + 1
    query(
        log,
        "UPDATE {schema}.prediction_log SET predicted_at = now() - make_interval(days => %s) WHERE prediction_id = %s",
        (days, old["prediction_id"]),
    )
    assert query(log, "SELECT {schema}.purge_predictions()") == [(1,)]
    for table in ("prediction_log", "prediction_label"):
        left = query(log, "SELECT prediction_id::text FROM {schema}." + table)
        assert left == [(young["prediction_id"],)]
    assert query(log, "SELECT {schema}.purge_predictions()") == [(0,)]


@pytest.mark.servers
def test_the_log_takes_partitions(log) -> None:
    """An administrator adds a month; rows of that month go there, a row of another to the default partition."""
    query(
        log,
        "CREATE TABLE {schema}.prediction_log_2001_01 PARTITION OF {schema}.prediction_log "
        "FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')",
    )
    query(
        log,
        "INSERT INTO {schema}.prediction_log (predicted_at, model, version, label, probabilities) "
        "VALUES ('2001-01-15', 'm', 1, 'x', '{1}'), ('2002-01-15', 'm', 1, 'x', '{1}')",
    )
    assert query(log, "SELECT count(*) FROM {schema}.prediction_log_2001_01") == [(1,)]


@pytest.mark.servers
def test_nothing_is_served_is_a_sentence(log) -> None:
    query(log, "DELETE FROM {schema}.model_alias")
    with pytest.raises(StepError, match="promote one first"):
        observe(log, settings().promotion_stage)
