"""Rollback to a version or a tag: refusals, the registry that lags behind, and the rows that would be lost."""

import contextlib
from types import SimpleNamespace

import pytest
from conftest import run_pipeline

from pipeline import liquibase
from pipeline.databases import query
from pipeline.errors import StepError
from pipeline.registry import aliases
from pipeline.settings import settings
from pipeline.steps import rollback

DEFAULTS = {"to_version": 0, "to_tag": "", "stage": "", "database": "inference", "drop_data": "false"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no target was given; name exactly one of --to_version N .* or --to_tag T"),
        ({"stage": "staging"}, "no target was given"),
        ({"to_version": 1, "to_tag": "x"}, "both --to_version and --to_tag were given; name exactly one of"),
        ({"to_version": -1}, "to_version is -1; allowed is the number of a version, from 1"),
        ({"to_version": -1, "to_tag": "x"}, "to_version is -1"),
        ({"to_version": 1, "stage": "archive"}, "stage is 'archive'; allowed is staging or production"),
        ({"to_tag": "x", "database": "both"}, "database is 'both'; allowed is inference or training"),
        ({"to_tag": "x", "drop_data": "yes"}, "drop_data is 'yes'; allowed is true or false"),
        ({"to_tag": "x", "stage": "staging"}, "--stage belongs to --to_version"),
        ({"to_version": 1, "database": "training"}, "--database and --drop_data belong to --to_tag"),
        ({"to_version": 1, "drop_data": "true"}, "--database and --drop_data belong to --to_tag"),
    ],
)
def test_mistakes_are_refused_before_a_connection(arguments, message) -> None:
    with pytest.raises(StepError, match=message):
        rollback.run(**{**DEFAULTS, **arguments})


BEFORE, ROLLED_BACK, AFTER = (f"2026-01-01T0{hour}:00:00.5+00:00" for hour in (1, 2, 3))


@pytest.mark.parametrize(
    ("alias", "registry", "promoted", "lags"),
    [
        # in line, or behind the registry: it decides
        ((1, 1, {}), 1, None, False),
        ((1, 1, {}), 2, None, False),
        ((1, 1, {}), None, None, False),
        # rolled back from 2 to 1
        ((1, 2, {"2": ROLLED_BACK}), 2, None, True),
        ((1, 2, {"2": ROLLED_BACK}), 2, BEFORE, True),
        ((1, 2, {"2": ROLLED_BACK}), 2, AFTER, False),
        ((1, 2, {"2": ROLLED_BACK}), 1, None, False),
        ((1, 2, {"2": ROLLED_BACK}), 3, None, False),
        ((1, 2, {"2": ROLLED_BACK}), None, None, False),
        # from 2 to 3, to 1; and from 2 to 1, to 2
        ((1, 2, {"2": ROLLED_BACK, "3": AFTER}), 2, None, True),
        ((1, 2, {"2": ROLLED_BACK, "3": AFTER}), 3, None, False),
        ((2, 2, {"1": ROLLED_BACK}), 2, None, False),
        # the registry held none when the alias was set by hand
        ((1, None, {"2": ROLLED_BACK}), None, None, True),
    ],
)
def test_the_registry_lags_only_behind_a_rollback(alias, registry, promoted, lags) -> None:
    registered = registry and SimpleNamespace(
        version=str(registry), tags={"promoted.staging": promoted} if promoted else {"promoted.production": AFTER}
    )
    assert aliases.Alias(*alias).registry_lags(registered, "staging") is lags


PLAN = """
-- Rolling Back ChangeSet: 5.sql::five::project
-- DROP TABLE "s".commented_out;
DROP TABLE IF EXISTS "s".one, two CASCADE;
DROP TRIGGER one ON "s".three;
DROP VIEW "s".three;
-- Rolling Back ChangeSet: 4.sql::four and more::project
drop table "s"."a, b";
DO $$ BEGIN EXECUTE 1; DROP TABLE four; END $$;
ALTER TABLE "s".five DROP COLUMN IF EXISTS "six", DROP CONSTRAINT seven,
    DROP COLUMN eight;
ALTER TABLE nine ADD COLUMN ten int;
DROP TABLE nobody;
"""


def test_every_loss_in_a_plan_is_listed(monkeypatch) -> None:
    rows = {"nobody": 0}
    monkeypatch.setattr(rollback, "query", lambda *_: [])
    monkeypatch.setattr(rollback, "_count", lambda _, table, column: rows.get(table, 3))
    assert rollback._lost(contextlib.nullcontext(), PLAN) == [
        "table one (rows: 3)",
        "table two (rows: 3)",
        "table a, b (rows: 3)",
        "table four (rows: 3)",
        "column six of table five (values: 3)",
        "column eight of table five (values: 3)",
    ]


def test_a_change_that_is_not_checked_out_cannot_be_undone() -> None:
    rollback._require_all(["5.sql::five::project", "4.sql::four and more::project"], PLAN, "training")
    with pytest.raises(StepError, match=r"database/training does not hold the deployed change 3\.sql::three::project"):
        rollback._require_all(["5.sql::five::project", "3.sql::three::project"], PLAN, "training")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "Running Changeset: 1.sql::x::project\nRunning Changeset: 1.sql::y::project\nliquibase.exception: long\n"
            "ERROR: Exception Details\nERROR: Exception Primary Class:  PSQLException\n"
            'ERROR: Exception Primary Reason:  ERROR: type "a" does not exist\n  Position: 38\nCaused by: more\n',
            'type "a" does not exist (change 1.sql::y::project)',
        ),
        (
            "ERROR: Exception Details\nERROR: Exception Primary Reason:  Could not find tag 'x' in the database\n",
            "Could not find tag 'x' in the database",
        ),
        ("Starting\nERROR: no driver\nReason: none\nERROR: more", "ERROR: no driver Reason: none"),
        ("", "no reason given"),
    ],
)
def test_liquibases_reason_is_one_sentence(output, message) -> None:
    assert liquibase._reason(output) == message


@pytest.fixture(name="undone")
def _undone(deployer):
    """A deployer's session with a second version; its changes are rolled back."""
    deployer.autocommit = False
    query(
        deployer,
        "INSERT INTO {schema}.model_version SELECT (jsonb_populate_record(v, '{\"version\": 77}')).* "
        "FROM {schema}.model_version AS v WHERE model = %s AND version = 1",
        (settings().model,),
    )
    yield deployer
    deployer.rollback()


@pytest.mark.servers
def test_the_alias_remembers_the_registrys_version(undone) -> None:
    stage = settings().promotion_stage
    assert aliases.lock(undone, stage) == (1, 1, {})
    aliases.roll_back(undone, stage, 77)
    alias = aliases.lock(undone, stage)
    assert (alias.version, alias.registry_version, list(alias.rolled_back_from)) == (77, 1, ["1"])
    aliases.roll_back(undone, stage, 1)
    alias = aliases.lock(undone, stage)
    assert (alias.version, alias.registry_version, list(alias.rolled_back_from)) == (1, 1, ["77"])
    aliases.follow_registry(undone, stage, 1)
    assert aliases.lock(undone, stage) == (1, 1, {})
    history = query(undone, "SELECT version FROM {schema}.model_alias_history WHERE alias = %s ORDER BY id", (stage,))
    assert history[-2:] == [(77,), (1,)]


@pytest.mark.servers
def test_a_rollback_to_the_served_version_changes_nothing(deployed) -> None:
    assert "holds" in run_pipeline("rollback", "--to-version", "1")
    assert "already" in run_pipeline("rollback", "--to-version", "1")
