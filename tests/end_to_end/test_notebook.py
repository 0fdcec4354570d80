"""The notebook, run by a real kernel on real servers with the project's own files, from data to a prediction."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from .project import Project

KERNEL = Path(__file__).with_name("kernel.py")
NOTEBOOK = "notebooks/explore.ipynb"
DENSE, WIDER = "layers.Dense(max(64, 8 * classes)", "layers.Dense(max(96, 8 * classes)"
# The convolutions reduce a digit to 4×4×64; 96 units instead of 80 add 16 × (1024 + 1 + 10) weights.
WEIGHTS, WIDER_WEIGHTS = "101,626", "118,186"


class Cells(HTMLParser):
    """The texts of a table's cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] * bool(data.strip())


@dataclass(frozen=True)
class Notebook:
    """A notebook after a run."""

    cells: list[dict[str, Any]]

    def outputs(self, text: str) -> list[dict[str, Any]]:
        """Return the outputs of the only code cell that contains a text."""
        (match,) = [cell for cell in self.code if text in "".join(cell["source"])]
        return list(match["outputs"])

    def output_text(self, text: str) -> str:
        """Return that cell's printed and shown output without colours."""
        parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in self.outputs(text)]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "".join("".join(part) for part in parts))

    def table(self, text: str) -> list[str]:
        """Return the texts of the table that the cell shows."""
        (html,) = [
            output["data"]["text/html"] for output in self.outputs(text) if "text/html" in output.get("data", {})
        ]
        return Cells("".join(html)).texts

    @property
    def code(self) -> list[dict[str, Any]]:
        """Return the code cells."""
        return [cell for cell in self.cells if cell["cell_type"] == "code"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Return the errors in its outputs."""
        return [output for cell in self.code for output in cell["outputs"] if output["output_type"] == "error"]


def run(
    project: Project, *edit: str, servers: bool = True, environment: str = "notebook", **variables: str
) -> Notebook:
    """Run the project's notebook in the notebook's environment."""
    result = project.folder.parent / "result.ipynb"
    how = ["--environment", "notebook", *([] if servers else ["--no-servers"])]
    command = ["python", str(KERNEL), NOTEBOOK, str(result), *edit]
    # All steps of the chain run, and each one imports TensorFlow.
    project.local("run", *how, "--", *command, seconds=900, **variables)
    return Notebook(json.loads(result.read_text(encoding="utf-8"))["cells"])


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Iterator[Project]:
    """A project with a notebook, on the servers of the default one."""
    yield Project.generate(
        work / "notebook", default_project.servers, projectName="with-notebook", includeNotebook="true", epochs="2"
    )


@pytest.fixture(scope="module")
def explored(project: Project) -> Notebook:
    """The notebook, with a wider model, after a run from top to bottom."""
    return run(project, "model", DENSE, WIDER)


@pytest.fixture(scope="module")
def explored_on_a_hub(project: Project, explored: Notebook, tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    """The same with the bindings of a user's JupyterHub server: none of a deployer."""
    bindings = tmp_path_factory.mktemp("bindings")
    for role in ("trainer", "inference-app"):
        shutil.copytree(project.servers.bindings / role, bindings / role)
    return run(project, SERVICE_BINDING_ROOT=str(bindings))


def test_every_cell_runs(explored: Notebook) -> None:
    """No cell shows an error or a warning, and each one prints or draws something."""
    assert not explored.errors
    assert [cell["source"] for cell in explored.code if not cell["outputs"]] == []
    loud = [output for cell in explored.code for output in cell["outputs"] if output.get("name") == "stderr"]
    assert loud == []


def test_a_change_of_the_model_shows(explored: Notebook) -> None:
    """The notebook and the steps that it runs use the changed file at once."""
    summaries = explored.output_text("import model")
    assert re.findall(r" Total params: ([\d,]+)", summaries) == [WEIGHTS, WIDER_WEIGHTS]
    assert f"deploy_training_code: with_notebook: {WIDER_WEIGHTS} weights" in explored.output_text("def run_steps")


def test_the_database_counts(explored: Notebook, project: Project) -> None:
    """Row counts per split, and per split and class, equal those in the database."""
    uploaded = explored.output_text('run_steps("upload_dataset")')
    counts = {split: int(count.replace(",", "")) for count, split in re.findall(r"(\d[\d,]*) (\w+)", uploaded)[:3]}
    assert sum(counts.values()) == 1797
    with project.database("trainer") as database:
        blocks = dict(database.query("SELECT split, count(*) FROM {schema}.dataset_batch GROUP BY split"))
        stored = database.query("SELECT split, labels FROM {schema}.dataset_batch")
    sizes = explored.table("length(block")
    for split, rows in counts.items():
        at = sizes.index(split)
        assert sizes[at + 1 : at + 4] == [str(rows), str(blocks[split]), str(64 * rows)]
    table = explored.table("get_byte")
    for label in range(10):
        shares = [
            sum(bytes(labels)[::4].count(label) for split, labels in stored if split == name)
            for name in ("train", "validation", "holdout")
        ]
        at = len(table) - 4 * (10 - label)
        assert table[at : at + 4] == [str(label), *map(str, shares)]


def test_the_curve_is_that_of_the_run(explored: Notebook) -> None:
    """It shows two epochs without terminal control characters, and the chart."""
    trained = explored.output_text('run_steps("train_model")')
    assert len(re.findall(r"^epoch +\d/2  loss ", trained, re.MULTILINE)) == 2
    assert "\x1b" not in "".join("".join(output["text"]) for output in explored.outputs('run_steps("train_model")'))
    assert any("image/png" in output.get("data", {}) for output in explored.outputs("get_metric_history"))


def test_the_inference_database_answers(explored: Notebook, project: Project) -> None:
    """The version that the notebook promoted predicts, and the prediction is logged as the app's are."""
    assert "deploy_inference_db: " in explored.output_text("evaluate_model")
    assert re.search(r"'predicted \d, true \d, by version 1'", explored.output_text("run_inference_task"))
    with project.database("inference-deployer") as database:
        assert database.value("SELECT count(*) FROM {schema}.prediction_log") == 1


def test_its_steps_are_one_run(explored: Notebook, project: Project) -> None:
    """In MLflow the runs have the parent that the first cell names."""
    (name,) = re.findall(r"run (\S+),", explored.output_text("greenplumpython"))
    _, children = project.servers.tracking.children(project.schema, name)
    assert len(children) == 7


def test_who_may_not_deploy_explores_too(explored_on_a_hub: Notebook) -> None:
    """It recognises the uploaded and trained rows, and needs only the rights of trainer and app."""
    assert not explored_on_a_hub.errors
    assert explored_on_a_hub.outputs("def run_steps") == []
    assert "was there already" in explored_on_a_hub.output_text('run_steps("upload_dataset")')
    assert "was trained before" in explored_on_a_hub.output_text('run_steps("train_model")')
    assert "deploy_inference_db" not in explored_on_a_hub.output_text("evaluate_model")
    assert "by version 1" in explored_on_a_hub.output_text("run_inference_task")


def test_a_table_has_a_notebook_of_its_own(default_project: Project, work: Path) -> None:
    """It queries the table in the database: counts and means per class, and a prediction for one of its rows."""
    answers = {"projectName": "with-table", "dataset": "table", "includeNotebook": "true", "epochs": "3"}
    project = Project.generate(work / "table", default_project.servers, **answers)
    project.run("python", "-m", "pipeline", "example_table")
    explored = run(project)
    assert not explored.errors
    assert [cell["source"] for cell in explored.code if not cell["outputs"]] == []
    source = yaml.safe_load((project.folder / "project.yaml").read_text(encoding="utf-8"))["source"]
    with project.database("training-deployer") as database:
        table = f'"{source["schema"]}"."{source["table"]}"'
        classes = database.query(f'SELECT "{source["label"]}"::text, count(*)::text FROM {table} GROUP BY 1')  # noqa: S608
    counted = explored.table("rows.group_by(label).assign(rows=")
    assert {(label, counted[counted.index(label) + 1]) for label, _ in classes} == set(classes)
    assert re.search(r"predicted \w+, true \w+, by version 1", explored.output_text("run_inference_task"))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("", "this kernel knows no databases (SERVICE_BINDING_ROOT is not set): start it with "),
        ("mlflow", "MLFLOW_TRACKING_URI is not set: "),
        ("server", "trainer: postgresql localhost:9/training does not answer: "),
    ],
)
def test_what_is_missing_is_one_sentence(project: Project, tmp_path: Path, missing: str, message: str) -> None:
    """The first cell shows the sentence only, and no other cell runs."""
    bindings = shutil.copytree(project.servers.bindings, tmp_path / "bindings")
    if missing == "server":
        (bindings / "trainer" / "port").write_text("9")
    root = str(bindings) if missing else ""
    notebook = run(project, servers=False, SERVICE_BINDING_ROOT=root, MLFLOW_TRACKING_URI="")
    (error,) = notebook.errors
    assert error in notebook.code[0]["outputs"]
    (sentence,) = error["traceback"]
    assert sentence.startswith(f"error: {message}")
    assert "\n" not in sentence


def test_another_kernel_is_told_how_to_start(project: Project) -> None:
    """A kernel without the project's packages: the system's own Python."""
    cells = json.loads((project.folder / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    process = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", first],
        cwd=project.folder / "notebooks", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "pipeline.errors.StepError: this kernel has no greenplumpython: start it with "
        "`/usr/bin/python3 -m local run --environment notebook -- jupyter lab notebooks`"
    )
