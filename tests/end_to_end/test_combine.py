"""The combine function, which only Greenplum calls in production, called by PostgreSQL's parallel workers."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from .project import Project
from .servers import Database

HEADER = struct.Struct("<8s16sqdq")
SETTINGS = {
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "parallel_leader_participation": "off",
    "max_parallel_workers_per_gather": "2",
}
# Copies of the project's aggregates; only these are marked as safe for parallel plans.
AGGREGATES = """
ALTER FUNCTION scratch.model_transition(bytea, bytea, bytea, int, bytea, text) PARALLEL SAFE;
ALTER FUNCTION scratch.model_combine(bytea, bytea) PARALLEL SAFE;
CREATE AGGREGATE scratch.fit(bytea, bytea, int, bytea, text) (
    SFUNC = scratch.model_transition, STYPE = bytea, COMBINEFUNC = scratch.model_combine, INITCOND = 'fit',
    PARALLEL = SAFE
);
CREATE AGGREGATE scratch.evaluate(bytea, bytea, int, bytea, text) (
    SFUNC = scratch.model_transition, STYPE = bytea, COMBINEFUNC = scratch.model_combine, INITCOND = 'evaluate',
    PARALLEL = SAFE
);
-- The padding makes a row fill a page, so that each of the two workers scans one page.
CREATE TABLE scratch.block (
    part int, row_count int, features bytea, labels bytea, padding text DEFAULT repeat('x', 5000)
);
ALTER TABLE scratch.block ALTER COLUMN padding SET STORAGE PLAIN;
ALTER TABLE scratch.block SET (parallel_workers = 2);
"""
STATEMENT = (
    "SELECT scratch.fit(features, labels, row_count, %(weights)s, %(config)s), "
    "scratch.evaluate(features, labels, row_count, %(weights)s, %(config)s) FROM scratch.block"
)
PARTS = {1: 40, 2: 100}


@pytest.fixture(scope="module")
def parallel(trained: Project) -> Iterator[Database]:
    """A superuser's session with parallel plans, and the copied aggregates in a schema."""
    with trained.database("training-deployer") as database:
        database.query("CREATE SCHEMA scratch")
        for name in ("model_transition", "model_combine"):
            text = database.value("SELECT pg_get_functiondef('{schema}.{name}'::regproc)".replace("{name}", name))
            database.query(text.replace(f"{database.schema}.{name}", f"scratch.{name}"))
        database.query(AGGREGATES)
        fill(database)
        for setting, value in SETTINGS.items():
            database.query(f"SET {setting} = {value}")
        yield database
        database.query("DROP SCHEMA scratch CASCADE")


def fill(database: Database) -> None:
    """Insert two blocks of different length from the training split, one per page."""
    database.query(
        "INSERT INTO scratch.block (part, row_count, features, labels) "
        "SELECT part, size, substr(features, 1 + 64 * first, 64 * size), substr(labels, 1 + 4 * first, 4 * size) "
        "FROM {schema}.dataset_batch, (VALUES (1, 0, 40), (2, 40, 100)) AS cut (part, first, size) "
        "WHERE split = 'train' AND batch_id = 0 ORDER BY part"
    )
    assert database.value("SELECT count(DISTINCT (ctid::text::point)[0]) FROM scratch.block") == 2


@pytest.fixture(scope="module")
def arguments(trained: Project) -> dict[str, Any]:
    """The trained weights and a configuration that continues the training."""
    with trained.database("trainer") as database:
        architecture, optimizer, weights = database.query(
            "SELECT architecture, optimizer, weights FROM {schema}.model_architecture, {schema}.training_run "
            "JOIN {schema}.training_epoch USING (run_hash) WHERE epoch = best_epoch LIMIT 1"
        )[0]
    config = {
        "architecture": json.loads(architecture),
        "optimizer": json.loads(optimizer),
        "shape": [8, 8, 1],
        "dtype": "uint8",
        "classes": 10,
        "batch_size": 16,
        "seed": 1,
        "epoch": 1,
        "threads": 1,
    }
    return {"weights": bytes(weights), "config": json.dumps(config)}


@pytest.fixture(scope="module")
def by_workers(parallel: Database, arguments: dict[str, Any]) -> tuple[bytes, bytes]:
    """The states of both aggregates, computed by two workers and the combine function."""
    return both(parallel, STATEMENT, arguments)


@pytest.fixture(scope="module")
def by_part(parallel: Database, arguments: dict[str, Any]) -> dict[int, tuple[bytes, bytes]]:
    """The states per part, computed by this session alone."""
    with_part = {part: {**arguments, "part": part} for part in PARTS}
    parallel.query("SET max_parallel_workers_per_gather = 0")
    try:
        return {
            part: both(parallel, f"{STATEMENT} WHERE part = %(part)s", values) for part, values in with_part.items()
        }
    finally:
        parallel.query("SET max_parallel_workers_per_gather = 2")


def both(database: Database, statement: str, arguments: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return the states of `fit` and `evaluate`."""
    ((fitted, evaluated),) = database.query(statement, arguments)
    return bytes(fitted), bytes(evaluated)


def numbers(state: bytes) -> tuple[int, float, int]:
    """Return rows, sum of losses and correct predictions of a state."""
    return HEADER.unpack_from(state)[2:]


def body(state: bytes, kind: str) -> np.ndarray:
    """Return a state's weights or matrix."""
    return np.frombuffer(state, kind, offset=HEADER.size)


def test_plan_is_parallel(parallel: Database, arguments: dict[str, Any]) -> None:
    """PostgreSQL plans a partial aggregate in two workers and combines the states above Gather."""
    plan = [line for (line,) in parallel.query(f"EXPLAIN (VERBOSE, COSTS OFF) {STATEMENT}", arguments)]
    shape = [line.strip().removeprefix("->  ") for line in plan]
    order = ["Finalize Aggregate", "Gather", "Partial Aggregate", "Parallel Seq Scan on scratch.block"]
    assert [line for line in shape if line in order] == order
    assert "Workers Planned: 2" in shape


def test_weights_are_averaged_by_rows(by_workers: tuple[bytes, bytes], by_part: dict[int, tuple[bytes, bytes]]) -> None:
    """Weights and optimizer slots are the averages of the parts, weighted by rows, as numpy computes them."""
    parts = {part: body(states[0], "<f4").astype(float) for part, states in by_part.items()}
    expected = sum(PARTS[part] * values for part, values in parts.items()) / sum(PARTS.values())
    averaged = body(by_workers[0], "<f4")
    np.testing.assert_allclose(averaged, expected, rtol=1e-4, atol=1e-6)
    # One worker alone, or an average without weights, would differ.
    for wrong in (*parts.values(), sum(parts.values()) / 2):
        assert np.abs(averaged - wrong).max() > 1e-4


def test_counts_are_added(by_workers: tuple[bytes, bytes], by_part: dict[int, tuple[bytes, bytes]]) -> None:
    """Rows, losses and correct predictions of both aggregates are the sums of the parts."""
    for aggregate in (0, 1):
        parts = [numbers(states[aggregate]) for states in by_part.values()]
        assert [rows for rows, _, _ in parts] == list(PARTS.values())
        totals = numbers(by_workers[aggregate])
        assert totals == pytest.approx(tuple(map(sum, zip(*parts, strict=True))), rel=1e-5)


def test_confusion_matrices_are_added(by_workers: tuple[bytes, bytes], by_part: dict[int, tuple[bytes, bytes]]) -> None:
    """The confusion matrix of two workers is the sum of the parts' and counts every row."""
    expected = sum(body(states[1], "<i8") for states in by_part.values())
    np.testing.assert_array_equal(body(by_workers[1], "<i8"), expected)
    assert expected.sum() == sum(PARTS.values())


def test_combine_accepts_states_without_rows(parallel: Database, by_part: dict[int, tuple[bytes, bytes]]) -> None:
    """A state without rows changes nothing, as either argument."""
    state = by_part[1][0]
    for pair in ((state, b"fit"), (b"fit", state), (state, None), (None, state)):
        assert bytes(parallel.value("SELECT scratch.model_combine(%s, %s)", pair)) == state


def test_the_projects_functions_stay_parallel_unsafe(trained: Project) -> None:
    """A parallel worker would import TensorFlow in every query, so production has no parallel plans."""
    with trained.database("training-deployer") as database:
        safety = database.query(
            "SELECT DISTINCT proparallel FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace"
        )
    assert safety == [("u",)]
