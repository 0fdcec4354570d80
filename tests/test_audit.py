"""`make audit` of a generated project compares every lock file with a database of advisories."""

import contextlib
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from tools import doors

# The first run installs pip-audit.
pytestmark = pytest.mark.slow
ADVISORY = "GHSA-xxxx-yyyy-zzzz"


@contextlib.contextmanager
def database(vulnerable: str) -> Iterator[tuple[str, set[str]]]:
    """Serve a database like osv.dev with an advisory about one package; yield its address and the requested names."""
    requested: set[str] = set()
    events = [{"introduced": "0"}, {"fixed": "999"}]
    affected = [
        {"package": {"name": vulnerable, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    ]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            requested.add(name)
            advisory = {"id": ADVISORY, "summary": "", "details": "", "aliases": [], "affected": affected}
            body = json.dumps({"vulns": [advisory]} if name == vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", requested
        server.shutdown()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with few lock files; no test changes it."""
    folder = doors.accelerator(ROOT, {"includeUi": False}, tmp_path_factory.mktemp("audit") / "p").folder
    assert folder is not None
    for lock in (folder / "requirements").glob("*.txt"):
        if lock.stem not in ("app", "audit", "lock", "overrides"):
            lock.unlink()
    return folder


def audit(project: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Run `make audit` against a database."""
    variables = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": address}
    proxies = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "audit"], cwd=project, env={**alone, **variables, **proxies},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_every_lock_file_is_compared(project: Path) -> None:
    with database("no-such-package") as (address, requested):
        completed = audit(project, address)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.split() == [f"requirements/{role}.txt" for role in ("app", "audit", "lock")]
    assert {"fastapi", "pip-audit", "uv"} <= requested


def test_an_advisory_fails_the_check_and_the_other_files_are_still_compared(project: Path) -> None:
    with database("fastapi") as (address, requested):
        completed = audit(project, address)
    assert completed.returncode != 0
    assert ADVISORY in completed.stdout
    assert "999" in completed.stdout
    assert "uv" in requested


def test_a_database_that_does_not_answer_fails_the_check(project: Path) -> None:
    assert audit(project, "http://127.0.0.1:9/v1/query").returncode != 0
