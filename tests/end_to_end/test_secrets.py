"""Passwords, looked for in all that the other tests left behind; it runs last."""

from pathlib import Path

import pytest

from .project import Project
from .servers import CommandLines

# Where passwords are kept: readable by their owner alone.
KEPT = ("bindings", "state.json")


@pytest.fixture(scope="module")
def passwords(trained: Project) -> list[str]:
    """The password of every binding."""
    found = trained.servers.passwords()
    assert len(set(found)) == 4
    assert min(len(password) for password in found) >= 16
    return found


def files(state: Path) -> list[Path]:
    """Return every file below the state folder but the two places where passwords belong."""
    return [
        path for path in sorted(state.rglob("*")) if path.is_file() and path.relative_to(state).parts[0] not in KEPT
    ]


def test_no_password_on_a_command_line(trained: Project, passwords: list[str], command_lines: CommandLines) -> None:
    """No process of the session, Liquibase's Java among them, had a password among its arguments."""
    seen = command_lines.seen
    assert any(b"liquibase" in line and b"java" in line for line in seen)
    assert any(b"rollback" in line or b"update" in line for line in seen)
    for password in passwords:
        assert not [line for line in seen if password.encode() in line]


def test_no_password_in_logs_and_data(trained: Project, passwords: list[str]) -> None:
    """No password lies in the servers' logs, in the databases' files, or in what MLflow keeps."""
    found = files(trained.servers.state)
    names = {path.relative_to(trained.servers.state).parts[:2] for path in found}
    assert {("training", "log"), ("inference", "log"), ("mlflow", "log"), ("mlflow", "data")} <= names
    for path in found:
        content = path.read_bytes()
        assert not any(password.encode() in content for password in passwords), path


def test_no_password_is_printed(trained: Project, passwords: list[str]) -> None:
    """No command of the session printed a password."""
    assert trained.servers.outputs
    for output in trained.servers.outputs:
        assert not any(password in output for password in passwords)


def test_passwords_are_kept_for_their_owner(trained: Project) -> None:
    """Nobody else may read the files that hold passwords."""
    state = trained.servers.state
    for path in [state / "state.json", *(state / "bindings").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
