"""One-row predictions on an open connection, with the round trip, against simpler calls."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from pipeline.databases import connect, in_schema, query, session
from pipeline.settings import settings
from pipeline.user_code import load_dataset

from benchmarks.figures import Figure, interleave, quantile, seconds
from benchmarks.libpq import Libpq

CALLS = 500
SLOW_CALLS = 20
P50, P95 = 0.10, 0.20
PREDICT = "SELECT {schema}.predict(%s, '{model}', '{stage}')"
TASK = "SELECT {schema}.run_inference_task(%s, '{model}', '{stage}')"
# The way without a cache: every call opens the stored bytes.
OPENS_EACH_TIME = """
CREATE FUNCTION pg_temp.opens_each_time(features bytea, model text) RETURNS real[] LANGUAGE plpython3u AS $python$
import numpy as np
import onnxruntime as ort

rows = plpy.execute(plpy.prepare('SELECT onnx FROM {schema}.model_version WHERE model = $1', ["text"]), [model])
opened = ort.InferenceSession(rows[0]["onnx"], providers=["CPUExecutionProvider"])
images = opened.get_inputs()[0]
return opened.run(None, {images.name: np.frombuffer(features, "u1").reshape(1, *images.shape[1:])})[0][0].tolist()
$python$
"""


class Call(NamedTuple):
    """One way to ask: its name in the results, its function, and its calls per round."""

    name: str
    run: Callable[[], object]
    calls: int = CALLS
    has_goal: bool = False


def measure(rounds: int) -> list[Figure]:
    """Return p50 and p95 in milliseconds of every way to get one prediction of the served model."""
    image = load_dataset().features[0]
    ways = [
        Call("`SELECT 1`, psycopg2", _asking("SELECT 1")),
        Call("`SELECT 1`, libpq", _libpq("SELECT 1", None)),
        Call("`predict`, psycopg2", _asking(PREDICT, image.tobytes()), has_goal=True),
        Call("`predict`, psycopg2, prepared", _prepared(PREDICT, image.tobytes()), has_goal=True),
        Call("`predict`, libpq, prepared and binary", _libpq(PREDICT, image.tobytes()), has_goal=True),
        Call("`predict` without the round trip (called 500 times by one statement)", _inside(image.tobytes()), 1),
        Call("`run_inference_task` (writes prediction_log), psycopg2", _asking(TASK, image.tobytes())),
        Call("model opened at each call, psycopg2", _opening(image.tobytes()), SLOW_CALLS),
        Call("ONNX Runtime alone, in this process", _onnx_alone(image)),
    ]
    for way in ways:
        way.run()
    rows = interleave(rounds, {way.name: lambda way=way: [seconds(way.run) for _ in range(way.calls)] for way in ways})
    return [_figure(way, rows[way.name]) for way in ways]


def _figure(way: Call, durations: list[list[float]]) -> Figure:
    single = CALLS if way.calls == 1 else 1
    calls = [1000 * call / single for calls in durations for call in calls]
    p50, p95 = statistics.median(calls), quantile(calls, 0.95)
    medians = [1000 * statistics.median(calls) / single for calls in durations]
    reached = "yes" if p50 <= P50 and p95 <= P95 else "no"
    return Figure(
        f"One row: {way.name}",
        f"{p50:.3f} / {p95:.3f} ms" if single == 1 else f"{p50:.3f} ms",
        goal=f"≤ {P50:.2f} / {P95:.2f} ms" if way.has_goal else "",
        reached=reached if way.has_goal else "",
        rounds=len(durations),
        detail=f"p50 of single rounds {min(medians):.3f} to {max(medians):.3f} ms; {way.calls} calls per round",
    )


def _sql(statement: str) -> str:
    """Return the statement with the schema, model and stage of the app."""
    named = statement.replace("{model}", settings().model).replace("{stage}", settings().promotion_stage)
    return in_schema(named)


def _cursor(name: str = "inference-app") -> Any:
    """Return a cursor on a new session in autocommit mode."""
    connection = connect(name)
    connection.autocommit = True
    return connection.cursor()


def _asking(statement: str, *parameters: bytes) -> Callable[[], object]:
    cursor, statement = _cursor(), _sql(statement)

    def run() -> None:
        cursor.execute(statement, parameters or None)
        cursor.fetchone()

    return run


def _prepared(statement: str, image: bytes) -> Callable[[], object]:
    cursor = _cursor()
    cursor.execute("PREPARE asked (bytea) AS " + _sql(statement).replace("%s", "$1"))

    def run() -> None:
        cursor.execute("EXECUTE asked (%s)", (image,))
        cursor.fetchone()

    return run


def _libpq(statement: str, image: bytes | None) -> Callable[[], object]:
    client = Libpq("inference-app")
    client.prepare(_sql(statement).replace("%s", "$1"), 0 if image is None else 1)
    return lambda: client.call(image)


def _inside(image: bytes) -> Callable[[], object]:
    """Return the run of one statement that calls `predict` 500 times."""
    loop = (
        "DO $$ DECLARE answer real[]; image bytea := decode('{image}', 'hex'); BEGIN "
        "FOR number IN 1..{calls} LOOP answer := {schema}.predict(image, '{model}', '{stage}'); END LOOP; END $$"
    )
    cursor, statement = _cursor(), _sql(loop.replace("{image}", image.hex()).replace("{calls}", str(CALLS)))
    return lambda: cursor.execute(statement)


def _opening(image: bytes) -> Callable[[], object]:
    cursor = _cursor("inference-deployer")
    cursor.execute(in_schema(OPENS_EACH_TIME))

    def run() -> None:
        cursor.execute("SELECT pg_temp.opens_each_time(%s, %s)", (image, settings().model))
        cursor.fetchone()

    return run


def _onnx_alone(image: np.ndarray) -> Callable[[], object]:
    """Return the run of ONNX Runtime alone, with one thread as in the database."""
    import onnxruntime

    deployer = session("inference-deployer")
    with deployer:
        [(onnx,)] = query(deployer, "SELECT onnx FROM {schema}.model_version WHERE model = %s", (settings().model,))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    opened = onnxruntime.InferenceSession(bytes(onnx), options, providers=["CPUExecutionProvider"])
    packed = image.tobytes()
    return lambda: opened.run(None, {"images": np.frombuffer(packed, image.dtype).reshape(1, *image.shape)})[0].tolist()
