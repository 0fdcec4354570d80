"""The servers of a project: databases, MLflow and processes."""

import contextlib
import http.client
import json
import os
import re
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2

PROC = Path("/proc")


def wait_until(look: Callable[[], Any], seconds: float, description: str) -> Any:
    """Call `look` until it returns a true value, and return that; fail after the time limit."""
    deadline = time.monotonic() + seconds
    while True:
        result = look()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {seconds} s for {description}"
        time.sleep(0.02)


class Database:
    """A database session; `{schema}` in a statement stands for the project's quoted schema."""

    def __init__(self, connection: Any, schema: str) -> None:
        self.connection = connection
        self.schema = schema

    def query(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, none if it returns no rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement.replace("{schema}", f'"{self.schema}"'), parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, parameters: Any = None) -> Any:
        """Return the first column of the first row."""
        return self.query(statement, parameters)[0][0]

    def fingerprints(self, tables: dict[str, set[str]]) -> dict[str, tuple[int, str]]:
        """Return row count and hash per table, without the named columns."""
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
        """Return the tables, views, sequences and functions of the schema."""
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
        """Send a GET and return the answer."""
        return self._call("GET", f"api/2.0/mlflow/{path}?{urllib.parse.urlencode(fields)}")

    def send(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        """Send a request with a body and return the answer."""
        return self._call(method, f"api/2.0/mlflow/{path}", json.dumps(fields))

    def _call(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        return json.loads(self._content(method, path, body) or "{}")

    def _content(self, method: str, path: str, body: str | None = None) -> str:
        # http.client ignores proxies.
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.address).netloc, timeout=60)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request(method, f"/{path}", body, headers)
            answer = connection.getresponse()
            content = answer.read().decode()
        if answer.status != http.client.OK:
            raise LookupError(content)
        return content

    def report(self, experiment: str) -> str:
        """Return the report of the last evaluate_model of an experiment, HTML."""
        run = self.runs(experiment, "tags.step = 'evaluate_model'")[0]["info"]["run_id"]
        return self._content("GET", f"get-artifact?{urllib.parse.urlencode({'run_uuid': run, 'path': 'report.html'})}")

    def runs(self, experiment: str, expression: str = "") -> list[dict[str, Any]]:
        """Return the runs of an experiment that match a search expression of MLflow."""
        entity = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]
        search = {"experiment_ids": [entity["experiment_id"]], "filter": expression, "max_results": 1000}
        return self.send("POST", "runs/search", **search).get("runs", [])

    def children(self, experiment: str, pipeline_run: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the parent run of a pipeline run, and its children."""
        (parent,) = self.runs(experiment, f"tags.pipeline_run = '{pipeline_run}'")
        return parent, self.runs(experiment, f"tags.mlflow.parentRunId = '{parent['info']['run_id']}'")

    def alias(self, model: str, alias: str) -> str | None:
        """Return the version with an alias, None if no version has it."""
        try:
            response = self.get("registered-models/alias", name=model, alias=alias)
        except LookupError:
            return None
        return response["model_version"]["version"]

    def history(self, run: dict[str, Any], metric: str) -> list[float]:
        """Return a metric's values by step."""
        response = self.get("metrics/get-history", run_id=run["info"]["run_id"], metric_key=metric)
        return [point["value"] for point in sorted(response.get("metrics", []), key=lambda point: point["step"])]


def tags(run: dict[str, Any]) -> dict[str, str]:
    """Return a run's tags."""
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}


def metrics(run: dict[str, Any]) -> dict[str, float]:
    """Return a run's metrics."""
    return {metric["key"]: metric["value"] for metric in run["data"].get("metrics", [])}


def fact(report: str, name: str) -> float:
    """Return a number from the table of facts of evaluate_model's report."""
    match = re.search(rf"<th>{name}</th><td>([\d.]+)</td>", report)
    assert match, (name, report)
    return float(match[1])


class Servers:
    """The state folder of the running servers, and the output of all commands."""

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
        """Open a session with a binding; wait for a server that recovers from a crash."""
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
    """Records the command lines of all processes of this machine."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "CommandLines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.seen.update(line for _, line in processes("cmdline"))


def processes(entry: str) -> Iterator[tuple[int, bytes]]:
    """Yield the id of each process and one of its files in /proc, if the file is readable."""
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(folder.name), (folder / entry).read_bytes()


def end_leftovers(folder: Path) -> list[int]:
    """Kill the processes that were started for a folder and still run, and return their ids."""
    mark = bytes(folder)
    leftovers = {
        process
        for entry in ("environ", "cmdline")
        for process, content in processes(entry)
        if mark in content and process != os.getpid()
    }
    for process in leftovers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return sorted(leftovers)
