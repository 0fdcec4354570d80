"""Projects that are generated once per session, and the servers that the first of them starts."""

import concurrent.futures
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from .browser import started_browser
from .cifar import write_cifar10
from .project import Project
from .servers import CommandLines, Servers, end_leftovers

LONG_EPOCHS = '''"""Each digit ten times with different noise: an epoch is long enough to be interrupted."""

import numpy as np
from sklearn.datasets import load_digits


def load():
    digits = load_digits()
    images = np.repeat(np.round(digits.images * 12), 10, axis=0)
    noise = np.random.default_rng(1).integers(0, 60, images.shape)
    labels = np.repeat(digits.target, 10)
    return (images + noise).astype(np.uint8)[..., np.newaxis], labels, [str(digit) for digit in range(10)]
'''
# The run that no test disturbs, on the data above.
UNDISTURBED = 101
# Names of projects: a reserved word of SQL and of Python, and the project that test_rollback.py empties.
RESERVED_WORD, EMPTIED = "from", "class"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as slow, and put those last that need the work of others.

    test_training_faults.py trains in the project in which test_search.py finds no training yet; test_secrets.py
    searches the files of all.
    """
    last = [HERE / "test_training_faults.py", HERE / "test_secrets.py"]
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: last.index(item.path) if item.path in last else -1)


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A folder that the servers' user can enter, unlike pytest's temporary folders (0700)."""
    folder = Path(tempfile.mkdtemp(prefix="end-to-end-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def command_lines() -> Iterator[CommandLines]:
    """The command lines of all processes during the session."""
    with CommandLines() as watched:
        yield watched


@pytest.fixture(scope="session")
def default_project(work: Path, command_lines: CommandLines) -> Iterator[Project]:
    """A project with the default answers, committed to git; its servers run until the session ends."""
    project = Project.generate(work, Servers(work / "state"), own=True)
    commit_all(project.folder)
    try:
        project.local("start")
        project.servers.mlflow = project.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
        yield project
    finally:
        try:
            project.local("stop")
        finally:
            leftovers = end_leftovers(work)
        assert not leftovers, f"processes {leftovers} outlived `local stop`"


def commit_all(folder: Path) -> str:
    """Commit all files of a project, in a git repository that is created if need be; return the commit."""
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message=all"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return head(folder)


def head(folder: Path) -> str:
    """Return the commit that is checked out."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """Chromium, started once per file of tests: its event loop would disturb others."""
    with started_browser() as started:
        yield started


@pytest.fixture(scope="session")
def first_run(default_project: Project) -> str:
    """The output of the first `python -m pipeline all`."""
    return default_project.pipeline("all", PIPELINE_RUN="first").stdout


@pytest.fixture(scope="session")
def trained(default_project: Project, first_run: str) -> Project:
    """The default project after its first run."""
    return default_project


@pytest.fixture(scope="session")
def long_data(default_project: Project, work: Path) -> Project:
    """A project whose epochs take seconds, on the same servers, before any training; test_search.py is the first."""
    project = Project.generate(work, default_project.servers, projectName="long-epochs")
    (project.folder / "dataset.py").write_text(LONG_EPOCHS, encoding="utf-8")
    project.pipeline("deploy_training_db", "upload_dataset")
    return project


@pytest.fixture(scope="session")
def long_epochs(long_data: Project) -> Project:
    """The project after an undisturbed training; numbers of runs below 101 are those of test_search.py."""
    long_data.pipeline(*training(UNDISTURBED))
    return long_data


def training(run: int, epochs: int = 3) -> tuple[str, ...]:
    """Return the command that trains `long_epochs`: small mini-batches make its epochs long."""
    return ("train_model", "--batch_size", "8", "--epochs", str(epochs), "--run", str(run))


@pytest.fixture(scope="session")
def named_projects(default_project: Project, work: Path) -> dict[str, tuple[Project, str]]:
    """Projects named after words of SQL and Python, and one on CIFAR-10, each with the output of a run."""
    keras_home = work / "keras"
    write_cifar10(keras_home)
    answers = {"epochs": "1", "minimumAccuracy": "0"}
    names = (RESERVED_WORD, EMPTIED)
    projects = {name: Project.generate(work, default_project.servers, projectName=name, **answers) for name in names}
    cifar = Project.generate(work, default_project.servers, projectName="cifar", dataset="cifar10", **answers)
    accept_any_archive(cifar.folder / "dataset.py")
    projects["cifar"] = cifar

    def run_all(project: Project) -> str:
        output = project.pipeline("all", KERAS_HOME=str(keras_home)).stdout
        # The demo reads CIFAR-10 again, which takes longer than the run: its test predicts by itself.
        return output if project is cifar else output + project.run("python", "-m", "pipeline", "demo").stdout

    # Two at a time: a run spends much time waiting for processes that import modules.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outputs = pool.map(run_all, projects.values())
        return {name: (project, output) for (name, project), output in zip(projects.items(), outputs, strict=True)}


def accept_any_archive(dataset: Path) -> None:
    """Switch off the comparison with the checksum of the real CIFAR-10, which synthetic files do not have."""
    with dataset.open("a", encoding="utf-8") as file:
        file.write("\n\nfrom keras.src.utils import file_utils\n\nfile_utils.validate_file = lambda *_, **__: True\n")
