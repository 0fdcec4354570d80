"""The servers that the first project starts, as a test sees them: databases, MLflow, processes."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2

PROC = Path("/proc")


def wait_until(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true answer of `look`; fail when there is none before the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Database:
    """A session of its own; `{schema}` in a statement stands for the project's quoted schema."""

    def __init__(self, connection: Any, schema: str) -> None:
        self.connection = connection
        self.schema = schema

    def query(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, none where it has none."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement.replace("{schema}", f'"{self.schema}"'), parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, parameters: Any = None) -> Any:
        """Return the first column of the first row."""
        return self.query(statement, parameters)[0][0]

    def fingerprints(self, tables: dict[str, set[str]]) -> dict[str, tuple[int, str]]:
        """Return rows and hash of each table over all columns but the named ones."""
        return {table: self._fingerprint(table, without) for table, without in tables.items()}

    def _fingerprint(self, table: str, without: set[str]) -> tuple[int, str]:
        columns = self.query(
            "SELECT quote_ident(column_name) FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s AND column_name <> ALL(%s) ORDER BY ordinal_position",
            (self.schema, table, list(without)),
        )
        assert columns, f"there is no table {table}"
        row = "SELECT md5(ROW({columns})::text) AS hash FROM {schema}.{table}"
        row = row.replace("{columns}", ", ".join(name for (name,) in columns)).replace("{table}", table)
        return self.query(f"SELECT count(*), md5(string_agg(hash, '' ORDER BY hash)) FROM ({row}) AS t")[0]  # noqa: S608

    def objects(self) -> set[str]:
        """Return the tables, views, sequences and functions that lie in the schema."""
        rows = self.query(
            "SELECT relname FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'v', 'S') "
            "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace",
            {"schema": f'"{self.schema}"'},
        )
        return {name for (name,) in rows}


class Tracking:
    """MLflow's REST API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **fields: Any) -> dict[str, Any]:
        """Ask for something."""
        return self._call("GET", f"{path}?{urllib.parse.urlencode(fields)}")

    def send(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        """Change or search something."""
        return self._call(method, path, json.dumps(fields))

    def _call(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        # http.client asks the server directly, whatever proxies are set.
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.address).netloc, timeout=60)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request(method, f"/api/2.0/mlflow/{path}", body, headers)
            answer = connection.getresponse()
            told = answer.read().decode()
        if answer.status != http.client.OK:
            raise LookupError(told)
        return json.loads(told or "{}")

    def runs(self, experiment: str, wanted: str = "") -> list[dict[str, Any]]:
        """Return an experiment's runs that fit MLflow's own search expression."""
        found = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]
        search = {"experiment_ids": [found["experiment_id"]], "filter": wanted, "max_results": 1000}
        return self.send("POST", "runs/search", **search).get("runs", [])

    def children(self, experiment: str, pipeline_run: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the one parent run of a pipeline run, and its children."""
        (parent,) = self.runs(experiment, f"tags.pipeline_run = '{pipeline_run}'")
        return parent, self.runs(experiment, f"tags.mlflow.parentRunId = '{parent['info']['run_id']}'")

    def alias(self, model: str, alias: str) -> str | None:
        """Return the version that holds an alias, None when none does."""
        try:
            found = self.get("registered-models/alias", name=model, alias=alias)
        except LookupError:
            return None
        return found["model_version"]["version"]

    def history(self, run: dict[str, Any], metric: str) -> list[float]:
        """Return a metric's values by step."""
        found = self.get("metrics/get-history", run_id=run["info"]["run_id"], metric_key=metric)
        return [point["value"] for point in sorted(found.get("metrics", []), key=lambda point: point["step"])]


def tags(run: dict[str, Any]) -> dict[str, str]:
    """Return a run's tags."""
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}


def metrics(run: dict[str, Any]) -> dict[str, float]:
    """Return a run's metrics."""
    return {metric["key"]: metric["value"] for metric in run["data"].get("metrics", [])}


class Servers:
    """The state folder of the running servers, and everything that commands printed."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.outputs: list[str] = []
        self.mlflow = ""

    @property
    def bindings(self) -> Path:
        """The folder of service bindings."""
        return self.state / "bindings"

    @property
    def tracking(self) -> Tracking:
        """The MLflow server."""
        return Tracking(self.mlflow)

    def binding(self, name: str) -> dict[str, str]:
        """Return a binding's keys and values."""
        return {path.name: path.read_text().strip() for path in (self.bindings / name).iterdir()}

    def passwords(self) -> list[str]:
        """Return every binding's password."""
        return [path.read_text().strip() for path in self.bindings.glob("*/password")]

    def connect(self, name: str, seconds: float = 60) -> Any:
        """Open a session with a binding; a server that recovers from a crash is waited for."""
        keys = self.binding(name)

        def look() -> Any:
            with contextlib.suppress(psycopg2.OperationalError):
                return psycopg2.connect(
                    host=keys["host"],
                    port=keys["port"],
                    dbname=keys["database"],
                    user=keys["username"],
                    password=keys["password"],
                    sslmode=keys["sslmode"],
                    sslrootcert=str(self.bindings / name / "ca.crt"),
                )

        connection = wait_until(look, seconds, f"an answer to {name}")
        connection.autocommit = True
        return connection


class CommandLines:
    """Notes every command line that any process of this machine has while it is watched."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "CommandLines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.seen.update(line for _, line in processes("cmdline"))


def processes(entry: str) -> Iterator[tuple[int, bytes]]:
    """Yield each process's id and one of its files in /proc, as far as it may be read."""
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(folder.name), (folder / entry).read_bytes()


def end_leftovers(folder: Path) -> list[int]:
    """Kill the processes that were started for a folder, and return them: nothing of a run may outlive it."""
    mark = bytes(folder)
    found = {
        process
        for entry in ("environ", "cmdline")
        for process, content in processes(entry)
        if mark in content and process != os.getpid()
    }
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return sorted(found)
