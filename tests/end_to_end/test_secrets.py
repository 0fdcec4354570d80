"""Passwords do not leak: a search of the files and output of all other tests, so it runs last."""

from pathlib import Path

import pytest
from groups import WITH_DEFAULT_PROJECT

from .project import Project
from .servers import CommandLines

pytestmark = pytest.mark.security

# Files with passwords, which only their owner can read.
PASSWORD_FILES = ("bindings", "state.json")


@pytest.fixture(params=WITH_DEFAULT_PROJECT, autouse=True)
def group(request: pytest.FixtureRequest) -> str:
    """The group of tests that ran on the servers: two processes start servers, and each searches its own."""
    return str(request.param)


@pytest.fixture(scope="module")
def passwords(trained: Project) -> list[str]:
    """The password of every binding."""
    of_bindings = trained.servers.passwords()
    assert len(set(of_bindings)) == 4
    assert min(len(password) for password in of_bindings) >= 16
    return of_bindings


def files(state: Path) -> list[Path]:
    """Return every file in the state folder except those with passwords."""
    return [
        path
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.relative_to(state).parts[0] not in PASSWORD_FILES
    ]


def test_no_password_on_a_command_line(trained: Project, passwords: list[str], command_lines: CommandLines) -> None:
    """No process of the session, not even Liquibase's Java, had a password among its arguments."""
    lines = command_lines.seen
    assert any(b"liquibase" in line and b"java" in line for line in lines)
    assert any(b"rollback" in line or b"update" in line for line in lines)
    for password in passwords:
        assert not [line for line in lines if password.encode() in line]


def test_no_password_in_logs_and_data(trained: Project, passwords: list[str]) -> None:
    """No log of a server, file of a database, or file of MLflow contains a password."""
    searched = files(trained.servers.state)
    names = {path.relative_to(trained.servers.state).parts[:2] for path in searched}
    assert {("training", "log"), ("inference", "log"), ("mlflow", "log"), ("mlflow", "data")} <= names
    for path in searched:
        content = path.read_bytes()
        assert not any(password.encode() in content for password in passwords), path


def test_no_password_is_printed(trained: Project, passwords: list[str]) -> None:
    """No command of the session printed a password."""
    assert trained.servers.outputs
    for output in trained.servers.outputs:
        assert not any(password in output for password in passwords)


def test_only_the_owner_can_read_passwords(trained: Project) -> None:
    state = trained.servers.state
    for path in [state / "state.json", *(state / "bindings").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
