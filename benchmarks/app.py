"""The API: the time it adds to the database's for one image, and its throughput under load."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import yaml
from local.processes import free_port, wait_until
from local.serve import Service, end
from PIL import Image
from pipeline.databases import connect, in_schema, query
from pipeline.settings import settings
from pipeline.tracking import load_mlflow
from pipeline.user_code import load_dataset

from benchmarks.figures import Figure, interleave, quantile, seconds

CALLS = 300
# Milliseconds that the API may add to the database's time for one image.
GOAL = 5.0
CLIENTS = (8, 50)
# They include the start of Locust, which takes nearly a second.
SECONDS, WARM_UP_SECONDS = 4, 2
# Each round of the load starts Locust once per way and number of clients.
LOAD_ROUNDS = 3
SECONDS_TO_START = 60
TASK = "SELECT {schema}.run_inference_task(%s, %s, %s, 'benchmark')"
# The original is slower than this peer: each call loaded a TensorFlow model from the tracking server.
PEER = (
    "the same API on a `run_inference_task` that differs in one thing: at each call the ONNX model is downloaded from "
    "the MLflow server (one GET) and opened with ONNX Runtime"
)

# The peer's schema: copies of the objects that a prediction needs, and another `answer_row`.
OTHER = "opens_each_time"
TABLES = ("model_version", "model_alias", "setting")
COPIED_FUNCTIONS = (
    "run_inference_task(bytea, text, text)",
    "run_inference_task(bytea, text, text, text)",
    "row_statistics(bytea, text)",
)
SCHEMA = """
DROP SCHEMA IF EXISTS {other} CASCADE;
CREATE SCHEMA {other};
GRANT USAGE ON SCHEMA {other} TO "{project}_app";
CREATE TABLE {other}.prediction_log (LIKE {schema}.prediction_log INCLUDING ALL) PARTITION BY RANGE (predicted_at);
CREATE TABLE {other}.prediction_log_default PARTITION OF {other}.prediction_log DEFAULT;
"""
TABLE = """
CREATE TABLE {other}.{table} (LIKE {schema}.{table} INCLUDING ALL);
INSERT INTO {other}.{table} TABLE {schema}.{table};
"""
# The app requests a model with the name of its schema.
NAMES = """
UPDATE {other}.model_version SET model = '{other}';
UPDATE {other}.model_alias SET model = '{other}';
GRANT SELECT ON {other}.model_info TO "{project}_app";
"""
ANSWER_ROW = """
CREATE FUNCTION {other}.answer_row(features bytea, sha256 text) RETURNS real[] LANGUAGE plpython3u AS $python$
import urllib.request

import numpy as np
import onnxruntime as ort

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with direct.open("{address}", timeout=5) as answer:
    content = answer.read()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
opened = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
images = opened.get_inputs()[0]
dtype = {"tensor(uint8)": "u1", "tensor(float)": "<f4"}[images.type]
return opened.run(None, {images.name: np.frombuffer(features, dtype).reshape(1, *images.shape[1:])})[0][0].tolist()
$python$
"""


class Load(NamedTuple):
    """The counts of Locust in one round: seconds from the first answer to the last, times in milliseconds."""

    requests: int
    failures: int
    seconds: float
    times: list[float]

    @property
    def rate(self) -> float:
        """Successful requests per second; the first answer starts the clock and does not count."""
        return (self.requests - 1) / self.seconds * (1 - self.failures / self.requests)


def measure(rounds: int) -> list[Figure]:
    """Return milliseconds per image with and without the API, and requests/s against the peer."""
    picture = load_dataset().features[0]
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as cleanup:
        folder = pathlib.Path(place)
        image = folder / "image.png"
        Image.fromarray(picture.squeeze()).save(image)
        cleanup.enter_context(_other_schema())
        ours = cleanup.enter_context(_api(folder, settings().project_name))
        theirs = cleanup.enter_context(_api(folder, OTHER))
        _require_same(_Client(ours, image).ask(), _Client(theirs, image).ask())
        return _one_image(rounds, ours, image, picture.tobytes()) + _under_load(
            min(rounds, LOAD_ROUNDS), ours, theirs, image
        )


class _Client:
    """One persistent connection to the API; the form is encoded once."""

    def __init__(self, api: Service, image: pathlib.Path) -> None:
        form = httpx.Request("POST", api.address, files={"image": (image.name, image.read_bytes(), "image/png")})
        self._body, self._headers = form.read(), {"Content-Type": form.headers["Content-Type"]}
        self._connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)

    def ask(self) -> dict[str, Any]:
        """Return the answer. Raises RuntimeError if its status is not 200."""
        self._connection.request("POST", "/predictions", self._body, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"the API answered {response.status}: {content.decode(errors='replace')}")
        return json.loads(content)


def _require_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise RuntimeError if the two ways give different answers, apart from model name and id."""
    expected = {**ours, "model": OTHER, "prediction_id": theirs["prediction_id"]}
    if ours["model"] != settings().model or theirs != expected:
        raise RuntimeError(f"the two ways do not answer alike: {ours} and {theirs}")


def _one_image(rounds: int, api: Service, image: pathlib.Path, row: bytes) -> list[Figure]:
    """Return the times of one client with the API and with psycopg2 alone, and their difference."""
    connection, client = connect("inference-app"), _Client(api, image)
    connection.autocommit = True
    cursor, statement = connection.cursor(), in_schema(TASK)
    parameters = (row, settings().model, settings().promotion_stage)

    def by_psycopg() -> None:
        cursor.execute(statement, parameters)
        cursor.fetchone()

    ways = {"database": by_psycopg, "app": client.ask}
    for way in ways.values():
        way()
    milliseconds = interleave(
        rounds, {name: lambda way=way: [1000 * seconds(way) for _ in range(CALLS)] for name, way in ways.items()}
    )
    connection.close()
    medians = {
        name: [statistics.median(calls) for calls in calls_per_round] for name, calls_per_round in milliseconds.items()
    }
    differences = [app - database for app, database in zip(medians["app"], medians["database"], strict=True)]
    (p50, p95), (own50, own95) = (_quantiles(milliseconds[name]) for name in ("app", "database"))
    added = p50 - own50
    return [
        Figure(
            "App time of one image (PNG of 8×8 pixels): `POST /predictions` less `run_inference_task`, by medians",
            f"{added:.2f} ms",
            goal=f"≤ {GOAL:g} ms",
            reached="yes" if added <= GOAL else "no",
            rounds=rounds,
            detail=f"p50 / p95 {p50:.2f} / {p95:.2f} ms by HTTP (kept alive, one uvicorn process) against "
            f"{own50:.2f} / {own95:.2f} ms by psycopg2; difference of p95 {p95 - own95:.2f} ms; "
            f"single rounds {min(differences):.2f} to {max(differences):.2f} ms; {CALLS} calls per round",
        )
    ]


def _quantiles(rounds: list[list[float]]) -> tuple[float, float]:
    every = [value for values in rounds for value in values]
    return statistics.median(every), quantile(every, 0.95)


def _under_load(rounds: int, ours: Service, theirs: Service, image: pathlib.Path) -> list[Figure]:
    """Return a figure per number of clients, measured for one way after the other."""
    for api in (theirs, ours):
        _locust(api, max(CLIENTS), WARM_UP_SECONDS, image)
    loads = interleave(
        rounds,
        {
            (api.name, clients): lambda api=api, clients=clients: _locust(api, clients, SECONDS, image)
            for clients in CLIENTS
            for api in (theirs, ours)
        },
    )
    return [_load_figure(clients, loads[ours.name, clients], loads[theirs.name, clients]) for clients in CLIENTS]


def _load_figure(clients: int, ours: list[Load], theirs: list[Load]) -> Figure:
    rates, peers = ([load.rate for load in loads] for loads in (ours, theirs))
    ratios = [rate / peer for rate, peer in zip(rates, peers, strict=True)]
    return Figure(
        f"App under load: requests/s with {clients} clients (PNG of 8×8 pixels)",
        f"{statistics.median(rates) / statistics.median(peers):.2f}×",
        PEER,
        "no failed request",
        "no" if any(load.failures for load in ours) else "yes",
        len(ours),
        f"{_described(ours)} against {_described(theirs)}; "
        f"single rounds {min(ratios):.2f} to {max(ratios):.2f}; "
        f"Locust for {statistics.median(load.seconds for load in ours + theirs):.1f} s per round, on the servers' CPUs",
    )


def _described(loads: list[Load]) -> str:
    p50, p95 = _quantiles([load.times for load in loads])
    requests, failed = sum(load.requests for load in loads), sum(load.failures for load in loads)
    rate = statistics.median(load.rate for load in loads)
    return f"{rate:.0f} requests/s (p50 / p95 {p50:.0f} / {p95:.0f} ms, {failed} of {requests} failed)"


def _locust(api: Service, clients: int, run_seconds: int, image: pathlib.Path) -> Load:
    """Send requests to the API from this many clients; requests that are open at the end get their answer."""
    file = image.with_name("locust")
    command = [
        os.environ["BENCHMARKS_PYTHON"], "-m", "locust", "--locustfile", pathlib.Path(__file__).with_name("load.py"),
        "--headless", "--host", api.address, "--users", str(clients), "--spawn-rate", str(clients),
        "--run-time", f"{run_seconds}s", "--stop-timeout", "30", "--exit-code-on-error", "0",
        "--only-summary", "--loglevel", "ERROR", "--json-file", file,
    ]  # fmt: skip
    subprocess.run(command, env={**os.environ, "IMAGE": str(image)}, check=True, stdout=subprocess.DEVNULL)
    [counted] = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    return Load(
        counted["num_requests"],
        counted["num_failures"],
        counted["last_request_timestamp"] - counted["start_time"],
        [float(time) for time, number in counted["response_times"].items() for _ in range(number)],
    )


@contextlib.contextmanager
def _api(folder: pathlib.Path, project: str) -> Iterator[Service]:
    """Serve the project's API in one process, for the schema of `project`; stop it afterwards."""
    answers = yaml.safe_load(pathlib.Path("project.yaml").read_text(encoding="utf-8"))
    file, log = folder / f"{project}.yaml", folder / f"{project}.log"
    file.write_text(yaml.safe_dump({**answers, "projectName": project.replace("_", "-")}), encoding="utf-8")
    port = free_port(None)
    command = (sys.executable, "-m", "uvicorn", "app.api:app", "--host", "127.0.0.1", "--port", str(port))
    service = Service(project, port, "/readyz", command)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PROJECT_FILE": str(file), "AUTHENTICATION": "none"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        if not wait_until(service.answers, SECONDS_TO_START, gone=lambda: process.poll() is not None):
            raise RuntimeError(f"the API of {project} does not answer: {log.read_text(errors='replace')[-2000:]}")
        yield service
    finally:
        end([process])


@contextlib.contextmanager
def _other_schema() -> Iterator[None]:
    """Keep the peer's schema, with its logged predictions, in the inference database for a block."""
    deployer = connect("inference-deployer")
    try:
        with deployer:
            _copy(deployer)
        yield
    finally:
        with deployer:
            query(deployer, f"DROP SCHEMA IF EXISTS {OTHER} CASCADE")
        deployer.close()


def _copy(deployer: Any) -> None:
    def run(statement: str, **more: str) -> None:
        for name, value in {"other": OTHER, "project": settings().schema, **more}.items():
            statement = statement.replace(f"{{{name}}}", value)
        query(deployer, statement)

    def copy(definition: str) -> None:
        """Create the object of a definition in the peer's schema instead of the project's."""
        query(deployer, re.sub(rf'"?\b{settings().schema}\b"?\.', f"{OTHER}.", definition))

    run(SCHEMA)
    for table in TABLES:
        run(TABLE, table=table)
    [(view,)] = query(deployer, "SELECT pg_get_viewdef('{schema}.model_info'::regclass)")
    copy(f"CREATE VIEW {OTHER}.model_info AS {view}")
    run(NAMES)
    run(ANSWER_ROW, address=_address())
    for function in COPIED_FUNCTIONS:
        [(definition,)] = query(deployer, f"SELECT pg_get_functiondef('{{schema}}.{function}'::regprocedure)")
        copy(definition)


def _address() -> str:
    """Return the URL of the served model's ONNX file on the MLflow server."""
    client = load_mlflow().MlflowClient()
    version = client.get_model_version_by_alias(settings().model, settings().promotion_stage)
    location = urllib.parse.urlsplit(client.get_model_version_download_uri(version.name, version.version))
    server = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    return f"{server}/api/2.0/mlflow-artifacts/artifacts/{location.path.strip('/')}/model.onnx"
