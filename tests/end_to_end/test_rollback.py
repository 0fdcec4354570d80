"""Rollback of both changelogs to their first tag, and forward again, with the project's Liquibase."""

import pytest

from .project import Project

DATABASES = {"training": "training-deployer", "inference": "inference-deployer"}
LIQUIBASE = "import sys; from pipeline import liquibase; print(liquibase.run(*sys.argv[1:]))"
LIQUIBASE_TABLES = {"databasechangelog", "databasechangeloglock"}


@pytest.fixture(scope="module")
def project(named_projects: dict[str, tuple[Project, str]]) -> Project:
    """A project that was deployed and used."""
    return named_projects["class"][0]


def liquibase(project: Project, name: str, *command: str) -> None:
    """Run a Liquibase command on one of the databases."""
    project.run("python", "-c", LIQUIBASE, DATABASES[name], f"database/{name}", *command)


def roles(project: Project, name: str) -> set[str]:
    """Return the project's roles in one server."""
    with project.database(DATABASES[name]) as database:
        rows = database.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE %s", (f"{project.schema}\\_%",))
    return {role for (role,) in rows}


def objects(project: Project, name: str) -> set[str]:
    """Return the objects in the project's schema of one database."""
    with project.database(DATABASES[name]) as database:
        return database.objects()


@pytest.mark.parametrize("name", DATABASES)
def test_update_again(project: Project, name: str) -> None:
    """A second `update` changes nothing."""
    tables: dict[str, set[str]] = {"databasechangelog": set()}
    with project.database(DATABASES[name]) as database:
        before = database.fingerprints(tables), database.objects()
        liquibase(project, name, "update")
        assert (database.fingerprints(tables), database.objects()) == before


@pytest.fixture(scope="module")
def rolled_back(project: Project) -> dict[str, tuple[set[str], set[str]]]:
    """Roll both databases back to the first tag; return their objects and roles before that."""
    before = {name: (objects(project, name), roles(project, name)) for name in DATABASES}
    for name in DATABASES:
        liquibase(project, name, "rollback", "--tag=empty")
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


def test_forward_again(project: Project, rolled_back: dict[str, tuple[set[str], set[str]]]) -> None:
    """After the rollback, `all` restores the same objects and roles, and the demo predicts."""
    output = project.pipeline("all").stdout
    assert "deploy_inference_db: postgresql" in output
    assert {name: (objects(project, name), roles(project, name)) for name in DATABASES} == rolled_back
    assert "predicted" in project.run("python", "-m", "pipeline", "demo").stdout
