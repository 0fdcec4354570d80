"""The page before a model exists, and when its server ends, in a real browser.

With PICTURES set to a folder, the pictures of the README are written there.
"""

import contextlib
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from .browser import served, watched_page
from .page import metric, picture, settle
from .project import LOCAL, Project
from .servers import wait_until


def test_page_before_a_model_exists(browser: BrowserContext, trained: Project, work: Path) -> None:
    """A page opened before the first promotion shows each version as soon as it is promoted."""
    project = Project.generate(work, trained.servers, projectName="unpromoted", includeMonitoring="false")
    project.pipeline("deploy_inference_db")
    with served(project, work / "unpromoted.log") as site, watched_page(browser) as page:
        waits = "not ready: This API is waiting for a model: no version of unpromoted holds the stage staging yet."
        wait_until(lambda: waits in (work / "unpromoted.log").read_text(encoding="utf-8"), 30, "what is waited for")
        page.goto(site.page)
        message = "No version of the model unpromoted holds the stage staging yet: run the pipeline (make pipeline)."
        expect(page.get_by_role("status")).to_have_text(f"{message} This page refreshes itself.")
        expect(page.get_by_role("heading")).to_have_text(["unpromoted"])
        settle(page)
        picture(page, "page-before-a-model", 320)
        page.evaluate("window.neverLoadedAgain = true")
        serve_model_of(trained, project)
        expect(metric(page, "Version")).to_have_text("1")
        replace_model(project)
        expect(metric(page, "Version")).to_have_text("2")
        assert page.evaluate("window.neverLoadedAgain")
        # Without monitoring the page has no such section.
        expect(page.get_by_role("heading")).to_have_text(
            ["unpromoted", "Picture", "Prediction", "Model", "Confusion matrix"]
        )


def test_a_page_that_is_open_keeps_no_process_alive(
    browser: BrowserContext, trained: Project, work: Path, record_property: Callable[[str, object], None]
) -> None:
    """A rolling update does not wait for visitors to leave."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [*LOCAL, "run", "--environment", "ui", "--", "python", "-m", "app"]
    variables = {
        **trained.environment,
        "APP_PROCESS": "ui",
        "HOST": "127.0.0.1",
        "PORT": port,
        "AUTHENTICATION": "none",
    }
    with (work / "page.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=trained.folder, env=variables, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/_stcore/health"), 300, "the page")
        # The page's errors after the server's end do not matter here.
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        expect(page.get_by_role("heading", name="Monitoring")).to_be_visible()
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        # As the API: the exit status names the signal, except for a container's first process.
        assert process.wait(30) in (0, -signal.SIGTERM)
        seconds = time.monotonic() - started
        page.close()
        record_property("seconds_to_end", round(seconds, 2))
        assert seconds < 5
    finally:
        process.kill()
        trained.servers.outputs.append((work / "page.log").read_text(encoding="utf-8"))
    assert "Traceback" not in (work / "page.log").read_text(encoding="utf-8")


def answers(address: str) -> bool:
    """Return whether a GET is answered with 200."""
    with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:  # noqa: S310
        return answer.status == 200
    return False


COLUMNS = (
    "onnx, sha256, classes, input_shape, input_dtype, metrics, training_statistics, samples, data_hash, git_commit, "
    "mlflow_run"
)


def serve_model_of(trained: Project, project: Project) -> None:
    """Promote the trained model as the first version of another project, as deploy_inference_db does."""
    copied = (
        "INSERT INTO {schema}.model_version (model, version, {columns}) "
        "SELECT %s, 1, {columns} FROM {other}.model_version WHERE version = 1"
    )
    with project.database("inference-deployer") as database:
        database.query(
            copied.replace("{columns}", COLUMNS).replace("{other}", f'"{trained.schema}"'), (project.schema,)
        )
        database.query(
            "INSERT INTO {schema}.model_alias (model, alias, version, registry_version) VALUES (%s, 'staging', 1, 1)",
            (project.schema,),
        )


def replace_model(project: Project) -> None:
    """Promote a second version in the database, as deploy_inference_db does."""
    with project.database("inference-deployer") as database:
        database.query(
            "INSERT INTO {schema}.model_version (model, version, {columns}) "
            "SELECT model, 2, {columns} FROM {schema}.model_version".replace("{columns}", COLUMNS)
        )
        database.query("UPDATE {schema}.model_alias SET version = 2, changed_at = now()")
