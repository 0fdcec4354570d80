"""Rollback of both changelogs to their first tag, with the project's Liquibase and its step, and forward again."""

import pytest

from .app_sessions import VERSION
from .conftest import EMPTIED
from .project import Project

DATABASES = {"training": "training-deployer", "inference": "inference-deployer"}
LIQUIBASE = "import sys; from pipeline import liquibase; print(liquibase.run(*sys.argv[1:]))"
LIQUIBASE_TABLES = {"databasechangelog", "databasechangeloglock"}


@pytest.fixture(scope="module")
def project(named_projects: dict[str, tuple[Project, str]]) -> Project:
    """A project that was deployed and used."""
    return named_projects[EMPTIED][0]


def roles(project: Project, name: str) -> set[str]:
    """Return the project's roles in one server."""
    with project.database(DATABASES[name]) as database:
        rows = database.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE %s", (f"{project.schema}\\_%",))
    return {role for (role,) in rows}


def objects(project: Project, name: str) -> set[str]:
    """Return the objects in the project's schema of one database."""
    with project.database(DATABASES[name]) as database:
        return database.objects()


def liquibase(project: Project, name: str, *command: str) -> None:
    """Run a Liquibase command on one of the databases."""
    project.run("python", "-c", LIQUIBASE, DATABASES[name], f"database/{name}", *command)


def served(project: Project) -> list[tuple[int]]:
    """Return the version with staging in the inference database."""
    with project.database("inference-deployer") as database:
        return database.query(VERSION)


@pytest.fixture(scope="module")
def rolled_back(project: Project) -> dict[str, tuple[set[str], set[str]]]:
    """Roll both databases back to the first tag; return their objects and roles before that."""
    before = {name: (objects(project, name), roles(project, name)) for name in DATABASES}
    assert served(project) == [(1,)]
    liquibase(project, "training", "rollback", "--tag=empty")
    project.pipeline("rollback", "--to_tag", "empty", "--drop_data", "true")
    return before


@pytest.mark.parametrize("name", DATABASES)
def test_rollback_leaves_nothing(
    project: Project, rolled_back: dict[str, tuple[set[str], set[str]]], name: str
) -> None:
    """Only Liquibase's two tables remain: no other table, no view, function or role of the project."""
    before, roles_before = rolled_back[name]
    assert len(before) > 8
    assert len(roles_before) == 2
    assert objects(project, name) == LIQUIBASE_TABLES
    assert roles(project, name) == set()


def test_the_step_knows_an_empty_database(project: Project, rolled_back: dict[str, tuple[set[str], set[str]]]) -> None:
    """There is nothing left to roll back, neither code nor a version."""
    assert "is at tag empty already" in project.pipeline("rollback", "--to_tag", "empty").stdout
    assert "holds no model" in project.refuses("rollback", "--to_version", "1")


def test_forward_again(project: Project, rolled_back: dict[str, tuple[set[str], set[str]]]) -> None:
    """After the rollback, `all` restores the same objects and roles, models and aliases, and the demo predicts."""
    output = project.pipeline("all").stdout
    assert "deploy_inference_db: postgresql" in output
    assert {name: (objects(project, name), roles(project, name)) for name in DATABASES} == rolled_back
    assert served(project) == [(int(project.servers.tracking.alias(project.schema, "staging")),)]
    assert "predicted" in project.run("python", "-m", "pipeline", "demo").stdout
