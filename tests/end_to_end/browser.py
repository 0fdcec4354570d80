"""Chromium, and a project's API and page as `python3 -m local serve` starts them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from .project import LOCAL, Project
from .servers import wait_until

# No background traffic: a request of the page to another host then fails visibly.
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
HERE = ("127.0.0.1", "localhost")
SIZE = {"width": 1280, "height": 900}
SECONDS = 30


def chromium() -> str:
    """Return Debian's Chromium; install it if it is missing and the user is root."""
    program = shutil.which("chromium")
    if program:
        return program
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.fail('chromium is missing: install it with "sudo apt-get install chromium"')
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(["apt-get", "-qq", *command], check=True, capture_output=True)
    return shutil.which("chromium") or pytest.fail("apt-get installed chromium, but there is no command chromium")


@contextlib.contextmanager
def started_browser() -> Iterator[BrowserContext]:
    """Start Chromium with a window of fixed size, language and time zone."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            yield browser.new_context(viewport=SIZE, locale="en-GB", timezone_id="UTC")
        finally:
            browser.close()


@contextlib.contextmanager
def watched_page(browser: BrowserContext) -> Iterator[Page]:
    """Open a page; after the block, fail if it logged an error or sent a request to another host."""
    page = browser.new_page()
    page.set_default_timeout(1000 * SECONDS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on(
        "console",
        lambda message: complaints.append(f"{message.type}: {message.text}") if message.type == "error" else None,
    )
    page.on("request", lambda request: None if is_here(request.url) else complaints.append(f"asked {request.url}"))
    try:
        yield page
    finally:
        page.close()
    assert not complaints, complaints


def is_here(url: str) -> bool:
    """Return whether an address is this machine's or names no machine (data:, blob:)."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname in HERE


class Served:
    """The addresses of a project's API and page."""

    def __init__(self, project: Project, addresses: dict[str, str]) -> None:
        self.project = project
        self.api = addresses["API"]
        self.page = addresses["page"]


@contextlib.contextmanager
def served(project: Project, log: Path) -> Iterator[Served]:
    """Serve a project until the block ends, then send SIGINT as Ctrl-C does."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [*LOCAL, "serve"], cwd=project.folder, env=project.environment, stdout=file, stderr=subprocess.STDOUT
        )

    def addresses() -> dict[str, str]:
        output = log.read_text(encoding="utf-8")
        assert process.poll() is None, output
        matches = dict(re.findall(r"^(API|page) +(http://127\.0\.0\.1:\d+)$", output, re.MULTILINE))
        return matches if len(matches) == 2 else {}

    try:
        # The environment may have to be installed first.
        yield Served(project, wait_until(addresses, 300, "the API's and the page's address"))
        assert process.poll() is None, log.read_text(encoding="utf-8")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(SECONDS)
        finally:
            process.kill()
            project.servers.outputs.append(log.read_text(encoding="utf-8"))
    assert status == 0, log.read_text(encoding="utf-8")
