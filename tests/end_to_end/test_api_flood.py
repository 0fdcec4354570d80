"""The API under floods of requests that cost it much and the client little: it goes on answering others."""

import http.client
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from .api import Api, file, png, serving
from .project import Project
from .servers import wait_until

pytestmark = pytest.mark.security

HERE = Path(__file__).parent
SMALL = png(np.zeros((8, 8), np.uint8))
# Small files of 25 million pixels.
BLANK = file(Image.new("RGBA", (5000, 5000)))
ATTACKERS = 45
FLOOD_SECONDS = 10
# Milliseconds within which a probe is answered under the flood.
PROBE_MILLISECONDS = 100
HALF_SENT = 1200
HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@pytest.fixture(scope="module")
def api(trained: Project, work: Path) -> Iterator[Api]:
    """The default project's API, in a process that may hold many connections, as in a container."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with serving(trained, work / "flooded.log") as served:
        assert served.predict(SMALL).status_code == 200
        yield served
        assert served.predict(SMALL).status_code == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_small_files_of_large_pictures_leave_others_their_answers(
    api: Api, work: Path, record_property: Callable[[str, object], None]
) -> None:
    """45 clients send them again and again; probes answer at once, and small pictures are classified."""
    assert len(BLANK) < 100_000
    (work / "blank.png").write_bytes(BLANK)
    command = [sys.executable, "-m", "locust", "--headless", "--json", "--locustfile", str(HERE / "flood.py")]
    command += ["--users", str(ATTACKERS), "--spawn-rate", str(ATTACKERS), "--run-time", "10m"]
    command += ["--host", api.address, "--loglevel", "ERROR"]
    before = len(api.requests())
    attackers = subprocess.Popen(
        command, cwd=work, env={**os.environ, "IMAGE": str(work / "blank.png")}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    times: dict[str, list[float]] = {"/healthz": [], "/readyz": [], "small": []}
    try:
        wait_until(lambda: len(api.requests()) > before, 60, "the flood")
        end = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < end:
            for name, seen in times.items():
                answer = api.predict(SMALL) if name == "small" else api.get(name)
                assert answer.status_code == 200, answer.text
                seen.append(1000 * answer.elapsed.total_seconds())
    finally:
        attackers.kill()
        attackers.wait()
    flood = [line for line in api.requests()[before:] if line["path"] == "/predictions"]
    record_property("answers", dict(Counter(line["status"] for line in flood)))
    for name, seen in times.items():
        record_property(name, f"median {statistics.median(seen):.0f} ms, most {max(seen):.0f} ms of {len(seen)}")
    assert {line["status"] for line in flood} == {200, 503}
    for path in ("/healthz", "/readyz"):
        # Other work on the machine only adds time.
        quickest, _, _ = statistics.quantiles(times[path], n=4)
        assert quickest <= PROBE_MILLISECONDS


def test_pictures_of_clients_that_have_gone_are_not_decoded(api: Api) -> None:
    """A client that gives up and tries again would otherwise cost one more picture at each try."""
    request = requests.Request("POST", f"{api.address}/predictions", files={"image": ("blank.png", BLANK, "image/png")})
    prepared = request.prepare()
    headers = "".join(f"{name}: {value}\r\n" for name, value in prepared.headers.items())
    content = f"POST /predictions HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode() + prepared.body
    # The flood before has come to its end when a large picture gets a decoder.
    wait_until(lambda: api.predict(BLANK).status_code == http.client.OK, 60, "a free decoder")
    before = len(api.requests())
    # Seven wait for the two decoders, and fewer than the places of the queue come.
    connections = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(7)]
    for connection in connections:
        connection.sendall(content)
    for connection in connections:
        connection.close()
    lines = wait_until(lambda: (lines := api.requests()[before:])[6:] and lines, 60, "a line for each request")
    statuses = Counter(line["status"] for line in lines)
    assert statuses.keys() <= {200, 499}
    assert statuses[499] >= 5


def test_half_sent_headers_are_given_up(api: Api, record_property: Callable[[str, object], None]) -> None:
    """1,200 connections that send no complete headers are closed, those that send a byte now and then too."""
    selector = selectors.DefaultSelector()
    started = time.monotonic()
    connections = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(HALF_SENT)]
    for connection in connections:
        connection.sendall(HALF)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    try:
        assert api.is_alive()
        dripped = connections[0]
        while selector.get_map() and time.monotonic() < started + 30:
            for key, _ in selector.select(1):
                ended = key.fileobj
                assert isinstance(ended, socket.socket)
                assert _is_closed(ended)
                selector.unregister(ended)
            if dripped in {key.fileobj for key in selector.get_map().values()}:
                dripped.send(b"x")
        assert not selector.get_map(), f"{len(selector.get_map())} connections are still open"
        record_property("seconds", round(time.monotonic() - started, 1))
        assert api.get("/readyz").status_code == http.client.OK
    finally:
        for connection in connections:
            connection.close()
        selector.close()


def _is_closed(connection: socket.socket) -> bool:
    """Return whether the other side has closed a connection, after whatever it sent."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False
    return True
