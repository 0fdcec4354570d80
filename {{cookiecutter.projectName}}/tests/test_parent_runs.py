"""MLflow's row per training: the choice of its run, and its content."""

import json
import re
import types
from typing import Any

import click
import pytest
from click.testing import CliRunner
from conftest import run_pipeline

from pipeline import __main__ as command
from pipeline import parent_runs, run_identity, tracking
from pipeline.errors import TemporaryError
from pipeline.registry.summaries import encoding_summary
from pipeline.training_db import StoredArchitecture, TrainingData

HASH, OTHER = "a" * 64, "b" * 64


class FakeMlflow:
    """The part of MLflow's client that looks for parent runs; `runs` are tags by run, the newest first."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, str]] = {}

    def search_runs(self, experiments: list[str], condition: str, max_results: int) -> list[Any]:
        name, _, value = condition.removeprefix("tags.").partition(" = ")
        return [
            types.SimpleNamespace(
                info=types.SimpleNamespace(run_id=run), data=types.SimpleNamespace(tags=tags)
            )
            for run, tags in self.runs.items()
            if tags.get(name) == value.strip("'")
        ]  # fmt: skip

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        run = f"run-{len(self.runs)}"
        self.runs = {run: tags, **self.runs}
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run))


@pytest.fixture(name="mlflow")
def _mlflow(clean_environment, monkeypatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setattr(tracking, "client", lambda: fake)
    monkeypatch.setattr(tracking, "_experiment", lambda _: types.SimpleNamespace(experiment_id="7"))
    monkeypatch.setattr(tracking, "used_parents", [])
    return fake


def claim(mlflow: FakeMlflow, run: str, run_hash: str) -> None:
    """Do what parent_runs.describe does: mark a parent run as that of a training."""
    mlflow.runs[run]["run_hash"] = run_hash


def test_the_steps_of_a_pipeline_run_share_a_parent(mlflow, monkeypatch) -> None:
    monkeypatch.setenv("PIPELINE_RUN", "run-of-argo")
    first = tracking.parent_run()
    assert mlflow.runs[first]["pipeline_run"] == "run-of-argo"
    assert tracking.parent_run(HASH) == first
    claim(mlflow, first, HASH)
    assert tracking.parent_run(HASH) == tracking.parent_run() == first
    assert len(mlflow.runs) == 1


def test_a_second_training_of_a_pipeline_run_gets_a_row_of_its_own(mlflow, monkeypatch) -> None:
    monkeypatch.setenv("PIPELINE_RUN", "notebook")
    first = tracking.parent_run()
    claim(mlflow, first, HASH)
    second = tracking.parent_run(OTHER)
    claim(mlflow, second, OTHER)
    assert second != first
    assert tracking.parent_run() == second
    assert tracking.parent_run(HASH) == first


def test_a_training_prefers_its_own_row_to_a_newer_one_without_a_training(mlflow, monkeypatch) -> None:
    monkeypatch.setenv("PIPELINE_RUN", "notebook")
    mlflow.runs = {"newer": {"pipeline_run": "notebook"}, "row": {"pipeline_run": "notebook", "run_hash": HASH}}
    assert tracking.parent_run(HASH) == "row"
    assert tracking.parent_run(OTHER) == "newer"


def test_a_step_alone_belongs_to_the_row_of_its_training(mlflow) -> None:
    mlflow.runs = {"step": {"run_hash": HASH}, "row": {"pipeline_run": "earlier", "run_hash": HASH}}
    assert not run_identity.is_named()
    assert tracking.parent_run(HASH) == "row"
    # A later step of the same command, without a training of its own.
    tracking.used_parents.append("row")
    assert tracking.parent_run() == "row"
    assert tracking.parent_run(OTHER) not in ("row", "step")


def test_an_orchestrators_run_is_never_part_of_another(mlflow, monkeypatch) -> None:
    monkeypatch.setenv("PIPELINE_RUN", "run-of-argo")
    mlflow.runs = {"row": {"pipeline_run": "earlier", "run_hash": HASH}}
    tracking.used_parents.append("row")
    assert tracking.parent_run(HASH) != "row"
    assert tracking.parent_run() != "row"


@pytest.mark.parametrize("address", ["https://mlflow.example.com", "https://person:secret@mlflow.example.com/"])
def test_the_page_of_a_run_opens_the_view_of_trainings(mlflow, monkeypatch, address) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    page = "https://mlflow.example.com/#/experiments/7/runs/row?workflowType=machine_learning"
    assert tracking.page_of("row") == page


@pytest.mark.parametrize("is_away", [False, True])
@pytest.mark.parametrize("parents", [[], ["first", "second"]])
def test_a_command_ends_with_the_address_of_its_last_row(mlflow, monkeypatch, parents, is_away) -> None:
    def page_of(run: str) -> str:
        if is_away:
            raise TemporaryError("MLflow does not answer")
        return f"http://mlflow/{run}"

    monkeypatch.setattr(command, "run_step", lambda context, step, values: click.echo(step.name))
    monkeypatch.setattr(tracking, "page_of", page_of)
    tracking.used_parents.extend(parents)
    answer = CliRunner().invoke(command.command_line(), ["train_model", "evaluate_model"])
    assert answer.exit_code == 0
    address = ["MLflow: http://mlflow/second"] if parents and not is_away else []
    assert answer.output.splitlines() == ["train_model", "evaluate_model", *address]


def trained(encoding: Any = None) -> Any:
    """Return a training on 10 rows of two classes."""
    statistics: Any = {"rows": 7, "class_counts": [3, 4], "inputs": []}
    rows = {"train": 7, "validation": 1, "holdout": 2}
    data = TrainingData("d", "d" * 64, (8, 8, 1), "uint8", ["猫", "dog"], rows, statistics, encoding)
    architecture = StoredArchitecture("c" * 64, "{}", (8, 8, 1), 2, 10)
    return types.SimpleNamespace(run_hash=HASH, data=data, architecture=architecture, parameters={"epochs": 3})


ENCODING = {
    "label": "species",
    "key": ["id"],
    "columns": [
        {"name": "length", "type": "real", "kind": "number", "mean": 1.0, "deviation": 2.0, "nulls": True},
        {"name": "island", "type": "text", "kind": "text", "nulls": False, "vocabulary": ["a", "b"]},
        {"name": "wild", "type": "boolean", "kind": "boolean", "mean": 0.5, "deviation": 0.5, "nulls": False},
    ],
}


def test_a_row_is_named_after_data_and_training() -> None:
    assert parent_runs.name_of(trained()) == "dddddd-aaaaaa"
    expected = {"where": "database", "epochs": 3, "architecture_hash": "c" * 64}
    assert parent_runs.logged_parameters(trained()) == expected


def test_the_data_set_has_a_profile() -> None:
    assert json.loads(parent_runs.profile_of(trained().data)) == {
        "num_rows": 10,
        "rows": {"train": 7, "validation": 1, "holdout": 2},
        "training_rows_by_class": {"猫": 3, "dog": 4},
    }


def test_the_schema_of_images_has_shapes() -> None:
    schema = json.loads(parent_runs.schema_of(trained().data) or "")["mlflow_tensorspec"]
    (features,), (labels,) = json.loads(schema["features"]), json.loads(schema["targets"])
    assert features["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 8, 8, 1]}
    assert labels["tensor-spec"] == {"dtype": "int32", "shape": [-1]}


def test_the_schema_of_a_table_has_its_columns() -> None:
    columns = json.loads(parent_runs.schema_of(trained(ENCODING).data) or "")["mlflow_colspec"]
    assert [(column["name"], column["type"], column["required"]) for column in columns] == [
        ("length", "double", False),
        ("island", "string", True),
        ("wild", "boolean", True),
        ("species", "string", True),
    ]


def test_a_schema_that_mlflow_would_refuse_is_left_out() -> None:
    column = ENCODING["columns"][0]
    wide = {**ENCODING, "columns": [{**column, "name": f"{'x' * 600}{number}"} for number in range(1600)]}
    assert parent_runs.schema_of(trained(wide).data) is None


def test_a_version_is_tagged_with_its_encoding() -> None:
    columns = [*ENCODING["columns"], {**ENCODING["columns"][0], "name": "depth"}]
    summary = encoding_summary({**ENCODING, "columns": columns})
    assert re.fullmatch(r"species from 2 numbers, 1 text, 1 boolean; hash [0-9a-f]{12}", summary)
    columns[0] = {**columns[0], "mean": 7.0}
    assert encoding_summary({**ENCODING, "columns": columns}) != summary


@pytest.mark.servers
@pytest.mark.usefixtures("deployed")
class TestOnServers:
    def test_the_source_run_of_the_version_shows_the_training(self) -> None:
        client = tracking.client()
        version = client.get_model_version(tracking.settings().model, "1")
        row = client.get_run(version.run_id)
        assert "mlflow.parentRunId" not in row.data.tags
        assert row.data.params["epochs"] == "1"
        assert {"accuracy_score", "f1_score", "loss", "best_epoch", "val_loss", "val_accuracy"} <= set(row.data.metrics)
        (data,) = (entry.dataset for entry in row.inputs.dataset_inputs)
        assert version.tags["data_hash"].startswith(data.digest)
        assert json.loads(data.profile)["rows"].keys() == {"train", "validation", "holdout"}
        assert data.schema
        assert row.info.run_name == f"{version.tags['data_hash'][:6]}-{version.tags['run_hash'][:6]}"
        assert f"Accuracy {row.data.metrics['accuracy_score']:.4f} on " in version.description
        assert ("encoding" in version.tags) == bool(tracking.settings().source)

    def test_the_steps_are_its_children(self) -> None:
        client = tracking.client()
        row = client.get_model_version(tracking.settings().model, "1").run_id
        experiment = client.get_experiment_by_name(tracking.settings().model)
        assert experiment is not None
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        children = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{row}'")
        assert {"train_model", "evaluate_model", "promote_model"} <= {run.data.tags["step"] for run in children}

    def test_a_step_alone_makes_no_row(self) -> None:
        # The data set that other tests uploaded last may be new to this training.
        run_pipeline("train_model", "--epochs", "1")
        before = _rows()
        output = run_pipeline("train_model", "--epochs", "1", "evaluate_model", "promote_model")
        assert _rows() == before
        page = output.splitlines()[-1]
        assert page.startswith("MLflow: http://")
        assert page.partition("/runs/")[2].partition("?")[0] in before


def _rows() -> set[str]:
    """Return the runs that MLflow lists: those without a parent."""
    client = tracking.client()
    experiment = client.get_experiment_by_name(tracking.settings().model)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags}
