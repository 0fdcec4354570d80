"""The page in a browser: actions of a visitor, and locators of the shown values."""

import os
from pathlib import Path
from typing import Literal, get_args

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from .browser import SECONDS, SIZE, Served

expect.set_options(timeout=1000 * SECONDS)
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def picture(page: Page, name: str, height: int) -> None:
    """Write a screenshot, down to a height, for the README, if one is requested."""
    folder = os.environ.get("PICTURES")
    if folder:
        # Move the pointer away, so that no tooltip shows.
        page.mouse.move(1, 1)
        clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": height}
        page.screenshot(path=Path(folder) / f"{name}.png", clip=clip, animations="disabled")


def settle(page: Page) -> None:
    """Wait until Streamlit has finished drawing."""
    expect(page.locator("[data-test-script-state='running']")).to_have_count(0)
    expect(page.locator("[data-stale='true']")).to_have_count(0)


def visit(page: Page, site: Served) -> None:
    """Open the page, and wait for its model."""
    page.goto(site.page)
    expect(page.get_by_role("heading", name="Monitoring")).to_be_visible()
    settle(page)


def upload(page: Page, name: str, content: bytes) -> None:
    """Choose a file."""
    field = page.get_by_test_id("stFileUploader").filter(has_text="Upload a picture").locator("input[type=file]")
    field.set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def pick(page: Page, field: str, option: str) -> None:
    """Choose an option of a select box."""
    page.get_by_role("combobox", name=field).click()
    page.get_by_role("option", name=option, exact=True).click()


def serious(page: Page) -> list[tuple[str, str, list[str]]]:
    """Return the violations that axe-core rates serious or critical: the impact, the rule and the elements."""
    violations = Axe().run(page).response["violations"]
    return [
        (violation["impact"], violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]


def metric(page: Page, label: str) -> Locator:
    """Return the locator of the number with this label."""
    shown = page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))
    return shown.get_by_test_id("stMetricValue")


def marks(page: Page, chart: str, kind: str) -> list[dict[str, str]]:
    """Return the text of each bar or cell of a chart for screen readers."""
    elements = page.get_by_label(chart, exact=True).locator(f"[aria-roledescription='{kind}']")
    # A bar of length 0 is attached but not visible.
    elements.first.wait_for(state="attached")
    labels = elements.evaluate_all("marks => marks.map(mark => mark.getAttribute('aria-label'))")
    return [dict(part.split(": ", 1) for part in label.split("; ")) for label in labels]


def pixels(page: Page, name: str) -> bytes:
    """Return the picture of that alternative text, one byte per square of 24 pixels."""
    shown = page.get_by_role("img", name=name, exact=True)
    expect(shown).to_be_visible()
    return bytes(
        shown.evaluate(
            """async image => {
                await image.decode();
                const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
                canvas.drawImage(image, 0, 0);
                const grey = [];
                for (let y = 12; y < image.naturalHeight; y += 24)
                    for (let x = 12; x < image.naturalWidth; x += 24)
                        grey.push(canvas.getImageData(x, y, 1, 1).data[0]);
                return grey;
            }"""
        )
    )
