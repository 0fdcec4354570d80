"""A project whose MLflow server keeps runs in PostgreSQL and artifacts in an S3 store."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from .object_store import ObjectStore
from .project import Project


@dataclass
class Backed:
    """A project whose tracking server uses both stores, and the output of its `make pipeline`."""

    project: Project
    store: ObjectStore
    printed: str = ""

    @property
    def state(self) -> Path:
        """The servers' state folder."""
        return self.project.servers.state

    @property
    def environment(self) -> Path:
        """The Python environment of the tracking server."""
        return Path(self.project.local("path", "mlflow-server").stdout.strip())

    def passwords(self) -> dict[str, str]:
        """Return the passwords of the local servers by name."""
        passwords: dict[str, str] = json.loads((self.state / "state.json").read_text(encoding="utf-8"))["passwords"]
        return passwords

    def secrets(self) -> list[str]:
        """Return the secrets that only the servers may have."""
        return [*self.passwords().values(), self.store.secret]

    def port(self, server: str) -> int:
        """Return the port of a server."""
        state = json.loads((self.state / "state.json").read_text(encoding="utf-8"))
        return int(state["servers"][server]["port"])

    @contextlib.contextmanager
    def tracking(self, role: str = "mlflow", database: str = "tracking") -> Iterator[Any]:
        """Open a session in the cluster that holds MLflow's database."""
        connection = psycopg2.connect(
            host="localhost", port=self.port("tracking"), dbname=database, user=role, sslmode="verify-full",
            password=self.passwords()[f"tracking-{role}"], sslrootcert=str(self.state / "authority" / "ca.crt"),
        )  # fmt: skip
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor

    def log(self) -> str:
        """Return the log of the tracking server."""
        return (self.state / "mlflow" / "log").read_text(encoding="utf-8", errors="replace")

    def refuses(self, *command: str, **variables: str) -> str:
        """Run a command, expect a failure, and return its one-line message."""
        completed = self.project.local(*command, status=1, **variables)
        assert "Traceback" not in completed.stderr
        # Servers that started are lines of progress.
        (sentence,) = (line for line in completed.stderr.splitlines() if ", started in " not in line)
        assert sentence.startswith("local: ")
        return sentence

    def persistent_state(self) -> tuple[Any, ...]:
        """Return the state that a restart must not change: runs, alias and objects."""
        tracking = self.project.servers.tracking
        runs = sorted(run["info"]["run_id"] for run in tracking.runs(self.project.schema))
        return runs, tracking.alias(self.project.schema, "staging"), self.store.objects(self.environment)
