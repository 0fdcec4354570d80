"""The prediction API of a generated project, as a process over the real inference database."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from .api import START, Api, file, png, sentence, serving
from .project import Project
from .servers import wait_until

HERE = Path(__file__).parent
PIXELS = np.random.default_rng(7).integers(0, 256, (8, 8), dtype=np.uint8)
CLIENTS, LOAD_SECONDS = 50, 30
UNKNOWN = "0b1f7c9e-3d52-4c8a-9a57-0f6f7f1f2c11"
WAITING = "This API is waiting for a model: no version of {model} holds the stage {stage} yet."


@pytest.fixture(scope="module")
def api(trained: Project, work: Path) -> Iterator[Api]:
    """The default project's API, started once."""
    with serving(trained, work / "api.log") as served:
        yield served


def answer_to(api: Api, image: bytes) -> dict[str, Any]:
    """Return the API's prediction for an image."""
    answer = api.predict(image)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_exactly_the_images_pixels_reach_the_model(api: Api, trained: Project) -> None:
    """The API's answer equals the database's prediction for the pixels, and is logged."""
    answer = answer_to(api, png(PIXELS))
    with trained.database("inference-deployer") as database:
        label, probabilities, version, logged = database.query(
            "SELECT label, probabilities, version, input FROM {schema}.prediction_log WHERE prediction_id = %s",
            (answer["prediction_id"],),
        )[0]
        direct = database.value("SELECT {schema}.predict(%s, %s, 'staging')", (PIXELS.tobytes(), trained.schema))
    assert bytes(logged) == PIXELS.tobytes()
    assert list(answer["probabilities"].values()) == probabilities == direct
    assert (answer["label"], answer["version"]) == (label, version)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_enlarged_and_turned_image_is_answered_as_the_original(api: Api, kind: str) -> None:
    """EXIF orientation 6: rotate by 90° clockwise for display."""
    expected = answer_to(api, png(PIXELS))["probabilities"]
    turned = Image.fromarray(np.rot90(PIXELS)).resize((80, 80), Image.Resampling.NEAREST)
    tags = Image.Exif()
    tags[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = turned.convert("RGB")
    assert answer_to(api, file(picture, kind, exif=tags, **options))["probabilities"] == expected
    assert answer_to(api, file(picture, kind, **options))["probabilities"] != expected


def test_a_batch_is_answered_in_its_order(api: Api) -> None:
    """The answers equal those of single requests, and either all or none are logged."""
    images = [png(np.roll(PIXELS, shift)) for shift in range(64)]
    answer = api.post("/predictions/batch", files=[("images", image) for image in images])
    predictions = answer.json()["predictions"]
    assert len({prediction["prediction_id"] for prediction in predictions}) == 64
    for position in (0, 1, 63):
        assert predictions[position]["probabilities"] == answer_to(api, images[position])["probabilities"]
    one_wrong = [("images", images[0]), ("images", b"text")]
    assert "PNG, JPEG or WebP" in sentence(api.post("/predictions/batch", files=one_wrong), 415)
    assert "at most 64" in sentence(api.post("/predictions/batch", files=[("images", images[0])] * 65), 422)


def test_a_label_is_kept_and_counts(api: Api, trained: Project) -> None:
    """Unknown classes are refused by name; the last of several labels counts."""
    answer = answer_to(api, png(PIXELS))
    path = f"/predictions/{answer['prediction_id']}/label"
    other = "7" if answer["label"] != "7" else "3"
    for label in (answer["label"], other):
        recorded = api.post(path, json={"label": label})
        assert recorded.json() == {
            "prediction_id": answer["prediction_id"],
            "label": label,
            "predicted_label": answer["label"],
            "model": trained.schema,
            "version": answer["version"],
        }
    with trained.database("inference-deployer") as database:
        statement = "SELECT label FROM {schema}.labelled_prediction WHERE prediction_id = %s"
        assert database.query(statement, (answer["prediction_id"],)) == [(other,)]
    assert "0, 1, 2" in sentence(api.post(path, json={"label": "'; DROP SCHEMA x; --"}), 422)
    assert UNKNOWN in sentence(api.post(f"/predictions/{UNKNOWN}/label", json={"label": "7"}), 404)


def test_the_model_is_described(api: Api, trained: Project) -> None:
    """The description equals the database's."""
    answer = api.get(f"/models/{trained.schema}").json()
    assert (answer["alias"], answer["input_shape"], answer["input_dtype"]) == ("staging", [8, 8, 1], "uint8")
    assert answer["classes"] == [str(digit) for digit in range(10)]
    with trained.database("inference-app") as database:
        known = database.query("SELECT version, metrics FROM {schema}.model_info WHERE alias = 'staging'")
    assert [(answer["version"], answer["metrics"])] == known
    assert "only image_classifier" in sentence(api.get("/models/another"), 404)


def test_it_is_alive_ready_and_documented(api: Api, trained: Project) -> None:
    """The documentation loads from this server only, and app/openapi.json holds the same description."""
    assert api.get("/healthz").json() == {"status": "alive"}
    assert api.get("/readyz").json() == {
        "status": "ready", "model": trained.schema, "alias": "staging", "version": 1,
    }  # fmt: skip
    described = (trained.folder / "app" / "openapi.json").read_text(encoding="utf-8")
    assert api.get("/openapi.json").json() == json.loads(described)
    page = api.get("/docs")
    assert "swagger-ui-bundle.js" in page.text
    assert "https://" not in page.text
    assert len(api.get("/static-offline-docs/swagger-ui-bundle.js").content) > 1_000_000


def test_what_is_wrong_with_a_request_is_a_problem(api: Api) -> None:
    """Errors of the framework and of the app have the same form."""
    assert sentence(api.get("/nothing"), 404) == "There is nothing at this path."
    assert api.get("/predictions").headers["Allow"] == "POST"
    assert sentence(api.get("/predictions"), 405) == "This path does not take GET."
    assert "10,485,760" in sentence(api.predict(bytes(10 * 2**20 + 1)), 413)
    # The answer arrives before the body is read to its end.
    assert "longer" in sentence(api.predict(bytes(50 * 2**20)), 413)


def test_a_line_a_request_without_what_was_sent(api: Api, trained: Project) -> None:
    """Lines are JSON with the request's id, without an image or a password."""
    answer = api.post("/predictions?token=s3cret", files={"image": png(PIXELS)}, headers={"X-Request-ID": "mine-1"})
    assert answer.headers["X-Request-ID"] == "mine-1"
    line = wait_until(
        lambda: [request for request in api.requests() if request["request_id"] == "mine-1"], 10, "the line"
    )[0]
    assert (
        line.items()
        >= {
            "method": "POST",
            "path": "/predictions",
            "status": 200,
            "prediction_id": answer.json()["prediction_id"],
            "label": answer.json()["label"],
            "version": answer.json()["version"],
        }.items()
    )
    assert line["milliseconds"] > 0
    log = api.log.read_text(encoding="utf-8")
    for secret in ("s3cret", "PNG", *trained.servers.passwords()):
        assert secret not in log


def test_only_the_apps_role_is_used(api: Api, trained: Project) -> None:
    """Its sessions use the binding inference-app, have a time-out, and are at most as many as the pool's size."""
    answer_to(api, png(PIXELS))
    with trained.database("inference-deployer") as database:
        sessions = database.query(
            "SELECT usename, count(*) FROM pg_stat_activity WHERE application_name = 'image-classifier app' GROUP BY 1"
        )
    ((user, count),) = sessions
    assert user == trained.servers.binding("inference-app")["username"]
    assert 1 <= count <= 4
    assert Path(f"/proc/{api.process.pid}/cmdline").read_bytes().count(b"uvicorn") == 1
    environment = Path(f"/proc/{api.process.pid}/environ").read_bytes()
    assert not any(password.encode() in environment for password in trained.servers.passwords())


def test_other_pages_are_let_in_only_by_name(api: Api, trained: Project, work: Path) -> None:
    """CORS is closed by default; one variable opens it, another one chooses the stage."""
    origin = {"Origin": "https://a.example"}
    assert "Access-Control-Allow-Origin" not in api.get("/healthz", headers=origin).headers
    variables = {"CORS_ORIGINS": "https://a.example", "MODEL_STAGE": "production"}
    with serving(trained, work / "open.log", **variables) as opened:
        headers = opened.get("/healthz", headers=origin).headers
        assert headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert sentence(opened.get("/readyz"), 503) == WAITING.format(model=trained.schema, stage="production")


def test_a_mistake_of_who_starts_it_is_one_sentence(trained: Project) -> None:
    """It prints no traceback and does not start."""
    uvicorn = ("run", "--environment", "app", "--", "uvicorn", "app.api:app", "--port", "1")
    for command in (START, uvicorn):
        process = trained.local(*command, status=1, POOL_SIZE="many")
        (line,) = process.stderr.strip().splitlines()
        assert line == "error: POOL_SIZE is 'many'; allowed is a whole number from 1 to 100"


def test_it_waits_for_the_first_model(default_project: Project, work: Path) -> None:
    """It reports a missing deployment and a missing version, and answers as soon as there is one."""
    project = Project.generate(work, default_project.servers, projectName="waiting", epochs="1", minimumAccuracy="0")
    with serving(project, work / "waiting.log") as api:

        def is_waiting() -> None:
            assert sentence(api.get("/readyz"), 503) == WAITING.format(model="waiting", stage="staging")
            for answer in (api.predict(png(PIXELS)), api.get("/models/waiting")):
                assert sentence(answer, 503)
                assert answer.headers["Retry-After"] == "5"

        is_waiting()
        project.pipeline("deploy_inference_db")
        is_waiting()
        project.pipeline("all")
        assert api.get("/readyz").json()["status"] == "ready"
        assert answer_to(api, png(PIXELS))["version"] == 1


def test_the_database_is_restarted_under_load(api: Api, trained: Project) -> None:
    """For half a minute: 503 while the database is away, then answers again, as in production."""
    answers: list[tuple[int, str | None]] = []
    stopped = threading.Event()

    def ask() -> None:
        image = png(PIXELS)
        # Threads must not share a session.
        with requests.Session() as session:
            session.trust_env = False
            while not stopped.is_set():
                answer = session.post(f"{api.address}/predictions", files={"image": image}, timeout=60)
                answers.append((answer.status_code, answer.headers.get("Retry-After")))
                if answer.status_code == http.client.SERVICE_UNAVAILABLE:
                    sentence(answer, 503)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        try:
            asking = [pool.submit(ask) for _ in range(8)]
            for _ in range(2):
                _wait_for(answers, 100, 200)
                with restarted(trained.servers.state / "inference"):
                    _wait_for(answers, 20, 503)
                    assert sentence(api.get("/readyz"), 503) == "The inference database does not answer."
                    assert api.is_alive()
            _wait_for(answers, 100, 200)
        finally:
            stopped.set()
        for future in asking:
            future.result()
    assert Counter(status for status, _ in answers).keys() == {200, 503}
    assert {seconds for status, seconds in answers if status == 503} == {"2"}
    assert api.get("/readyz").json()["status"] == "ready"


def _wait_for(answers: list[tuple[int, str | None]], count: int, status: int) -> None:
    """Wait until `count` more answers have a status."""
    start = len(answers)

    def look() -> bool:
        return sum(status_code == status for status_code, _ in answers[start:]) >= count

    wait_until(look, 120, f"{count} answers {status}")


@contextlib.contextmanager
def restarted(cluster: Path) -> Iterator[None]:
    """Stop a PostgreSQL server in fast mode; after the block start it with the same command."""
    pid = int((cluster / "data" / "postmaster.pid").read_text().splitlines()[0])
    before = Path(f"/proc/{pid}")
    command = before.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
    environment = dict(
        part.split("=", 1) for part in before.joinpath("environ").read_bytes().decode().split("\0") if part
    )
    owner = (cluster / "data").stat()
    os.kill(pid, signal.SIGINT)
    try:
        # The process itself may stay as a zombie: it has no parent here.
        wait_until(lambda: not (cluster / "data" / "postmaster.pid").exists(), 60, "the server's end")
        yield
    finally:
        with (cluster / "log").open("ab") as log:
            subprocess.Popen(
                command, env=environment, cwd=cluster, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **({} if os.geteuid() else _become(owner)),
            )  # fmt: skip


def _become(owner: os.stat_result) -> dict[str, Any]:
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def sent_alone(api: Api, path: str, **options: Any) -> requests.Response:
    """Send a POST in a session of its own, because threads must not share one."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(api.address + path, timeout=60, **options)


def test_a_process_that_is_told_to_end_answers_first(
    trained: Project, work: Path, record_property: Callable[[str, object], None]
) -> None:
    """As in a rolling update: it answers the requests in progress, then ends."""
    large = file(Image.new("RGB", (5000, 5000)))
    with serving(trained, work / "ended.log") as api, concurrent.futures.ThreadPoolExecutor(8) as pool:
        image = {"image": ("large.png", large, "image/png")}
        asking = [pool.submit(sent_alone, api, "/predictions", files=image) for _ in range(8)]
        time.sleep(0.3)
        api.process.send_signal(signal.SIGTERM)
        signalled_at = time.monotonic()
        assert api.process.wait(30) in (0, -signal.SIGTERM)
        assert [upload.result().status_code for upload in asking] == [200] * 8
        record_property("seconds_to_end", round(time.monotonic() - signalled_at, 2))


def test_large_uploads_at_once_do_not_need_more_memory(
    trained: Project, work: Path, record_property: Callable[[str, object], None]
) -> None:
    """It refuses uploads beyond its memory with 503, and still answers probes."""
    random = np.random.default_rng(1)
    noise = file(Image.fromarray(random.integers(0, 256, (1000, 1000, 3), dtype=np.uint8)))
    with serving(trained, work / "large.log", UPLOADS_MIB="64") as api:

        def upload() -> list[int]:
            images = [("images", ("noise.png", noise, "image/png"))] * 10
            return [sent_alone(api, "/predictions/batch", files=images).status_code for _ in range(4)]

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            uploads = [pool.submit(upload) for _ in range(12)]
            while not all(upload.done() for upload in uploads):
                assert api.get("/healthz").elapsed.total_seconds() < 2
                assert api.get("/readyz").status_code == 200
                time.sleep(0.05)
        answered = Counter(status for upload in uploads for status in upload.result())
        assert answered.keys() == {200, 503}
        refused = [line for line in api.requests() if line["status"] == 503]
        assert len(refused) == answered[503]
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{api.process.pid}/status").read_text())[0]) // 1024
        record_property("answers", dict(answered))
        record_property("peak_mib", peak)
        # Twelve uploads of 29 MiB, each copied once, would need far more.
        assert peak < 400


def test_fifty_clients_for_half_a_minute_lose_nothing(
    api: Api, trained: Project, work: Path, record_property: Callable[[str, object], None]
) -> None:
    """For half a minute, because a leak of connections or threads shows only after many requests."""
    image = work / "image.png"
    image.write_bytes(png(PIXELS))
    before = len(api.requests())
    command = [sys.executable, "-m", "locust", "--headless", "--json", "--locustfile", str(HERE / "clients.py")]
    command += ["--users", str(CLIENTS), "--spawn-rate", str(CLIENTS), "--run-time", f"{LOAD_SECONDS}s"]
    command += ["--stop-timeout", "30", "--host", api.address, "--loglevel", "ERROR"]
    process = subprocess.run(
        command, cwd=work, env={**os.environ, "IMAGE": str(image)}, capture_output=True, text=True, check=False,
        timeout=LOAD_SECONDS + 120,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    statistics = json.loads(process.stdout)
    assert {row["name"]: row["num_failures"] for row in statistics} == {
        "/predictions": 0, "/predictions/{prediction_id}/label": 0,
    }  # fmt: skip
    sent = sum(row["num_requests"] for row in statistics)
    logged = wait_until(lambda: (lines := api.requests()[before:])[sent - 1 :] and lines, 30, "a line for each request")
    assert Counter(line["status"] for line in logged) == {200: sent}
    with trained.database("inference-deployer") as database:
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'image-classifier app'"
        assert database.value(sessions) <= 4
    record_property("requests_per_second", round(sent / LOAD_SECONDS))
    record_property("p95_milliseconds", p95(statistics))


def p95(statistics: list[dict[str, Any]]) -> int:
    """Return the 95th percentile of the response times in ms."""
    times: Counter[int] = Counter()
    for row in statistics:
        times.update({int(float(milliseconds)): count for milliseconds, count in row["response_times"].items()})
    rank, seen = 0.95 * times.total(), 0
    for milliseconds in sorted(times):
        seen += times[milliseconds]
        if seen >= rank:
            return milliseconds
    raise AssertionError("no request was made")
