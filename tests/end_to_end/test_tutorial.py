"""The tutorial in docs/tutorial: every command, file and statement of its pages, in their order."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .project import ROOT, clean_environment
from .servers import end_leftovers

TUTORIAL = ROOT / "docs" / "tutorial"
PAGES = ("first-model", "own-images", "own-table")
# Expected content of an answer, by the page and a part of the block that prints it.
ANSWERS = {
    (
        "first-model",
        "make demo",
    ): r"accuracy 0\.9\d+ on \d+ held-out rows\n.*version 1, stage staging\nan image .* true \d",
    ("first-model", "make status"): r"mlflow +running +http://",
    ("first-model", "input_shape"): r"image_classifier +\| staging +\| +1 \| {8,8,1} +\| uint8",
    ("first-model", "readyz"): r'"version": ?1',
    ("own-images", "./run all"): r"deploy_inference_db: .*staging is now version 1",
    ("own-images", "--epochs 15"): r"promote_model: ",
    ("own-images", "run_inference_task"): r'"label": "stripes"',
    ("own-table", "./run all"): r"deploy_inference_db: .*staging is now version 1",
    ("own-table", "t.rent"): r"\(5 rows\)",
    ("own-table", "predict_row"): r'{0\.9\d*,\S+}[\s\S]*"label": "low"',
}
SECONDS = 600
# The address that the pages name; `make serve` takes the next free port.
ADDRESS = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Block:
    """A block of code of a page: its language, the file that it belongs to, and its text."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page in their order, without those that show an output."""
    text = (TUTORIAL / f"{page}.md").read_text(encoding="utf-8")
    fences = re.findall(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [Block(*fence) for fence in fences if fence[0] != "text"]


class Reader:
    """Somebody who follows a page from the repository's folder on."""

    def __init__(self, page: str, folder: Path, state: Path) -> None:
        self.page = page
        self.folder = folder
        self.environment = {**clean_environment(), "LOCAL_STATE": str(state), "PAGER": "cat"}
        self.environment["NO_PROXY"] = self.environment["no_proxy"] = "127.0.0.1,localhost"
        self.session = ""
        self.address = ADDRESS
        self.missing = {block for name, block in ANSWERS if name == page}

    def follow(self) -> None:
        """Do what each block says, and compare its answer."""
        with contextlib.ExitStack() as servers:
            for block in blocks(self.page):
                if block.title:
                    self.write(block)
                elif block.text == "make serve\n":
                    servers.enter_context(self.serving())
                elif block.language == "sql":
                    self.check(block.text, self.run(self.session, block.text))
                elif block.text.startswith("make psql"):
                    self.session = block.text
                else:
                    if block.text == "make down\n":
                        servers.close()
                    self.check(block.text, self.run(block.text))
        assert not self.missing

    def run(self, script: str, statements: str = "") -> str:
        """Run a block of bash, psql's statements on its standard input; go on in the folder where it ends."""
        place = self.environment["LOCAL_STATE"] + ".place"
        script = script.replace(ADDRESS, self.address)
        process = subprocess.run(
            ["bash", "-euc", f"{script}\npwd > '{place}'"],
            cwd=self.folder, env=self.environment, input=statements, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert process.returncode == 0, f"{script}\n{process.stdout}\n{process.stderr}"
        assert "ERROR:" not in process.stderr, f"{statements}\n{process.stderr}"
        self.folder = Path(Path(place).read_text(encoding="utf-8").strip())
        return process.stdout

    def check(self, text: str, output: str) -> None:
        """Compare an output with the answer that belongs to the block."""
        for part in [part for part in self.missing if part in text]:
            assert re.search(ANSWERS[self.page, part], output), f"{text}\n{output}"
            self.missing.remove(part)

    def write(self, block: Block) -> None:
        """Write a file of Python; replace the section of a YAML file."""
        file = self.folder / block.title
        text = block.text
        if block.language == "yaml":
            old = file.read_text(encoding="utf-8")
            key = text.partition(":")[0]
            text, count = re.subn(rf"^{key}:\n(?:[ #].*\n)*?(?=^[#\w])", lambda _: block.text, old, flags=re.MULTILINE)
            assert count == 1, block.title
        file.write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Run `make serve` until the block ends; wait for the API's address, and expect the one of the page."""
        process = subprocess.Popen(
            ["make", "serve"], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            addresses: dict[str, str] = {}
            while addresses.keys() != {"API", "page"}:
                line = process.stdout.readline()
                assert line, "make serve ended"
                addresses |= dict(re.findall(r"^(API|page) +(http://\S+)$", line))
            self.address = addresses["API"]
            yield
        finally:
            # As Ctrl-C in a terminal, which reaches every process of the group.
            os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=60)


@pytest.fixture(scope="module", name="repository")
def _repository(work: Path) -> Path:
    """A copy of this repository's files, with the environment of this one."""
    folder = work / "repository"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    # make compares times: with an older lock file it leaves the environment as it is.
    os.utime(folder / "requirements.txt", (0, 0))
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_each_command_does_what_the_page_says(page: str, repository: Path, work: Path) -> None:
    """The commands stand alone: every page begins in the repository's folder and ends without servers."""
    state = work / f"tutorial-{page}"
    try:
        Reader(page, repository, state).follow()
    finally:
        left = end_leftovers(state)
    assert not left


def test_the_tutorial_has_no_other_page() -> None:
    assert sorted(path.stem for path in TUTORIAL.glob("*.md")) == sorted(PAGES)
