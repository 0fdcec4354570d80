"""MLflow's row per training: a parent run with its parameters, its data set, its best epoch and its scores."""

import json
import time
from typing import Any, Protocol

from pipeline.databases import binding, in_schema
from pipeline.records import ColumnEncoding, EpochRow
from pipeline.settings import settings
from pipeline.tracking import answering, client, parent_run
from pipeline.training_db import StoredArchitecture, TrainingData

# MLflow's limits on the digest of a data set and on its schema, in characters.
DIGEST_LENGTH = 32
SCHEMA_LENGTH = 1_000_000


class Trained(Protocol):
    """A training, finished or not."""

    @property
    def run_hash(self) -> str:
        """SHA-256 over everything that decides the result, hexadecimal."""

    @property
    def data(self) -> TrainingData:
        """The data set."""

    @property
    def architecture(self) -> StoredArchitecture:
        """The architecture of the model."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters."""


def logged_parameters(trained: Trained) -> dict[str, Any]:
    """Return the parameters of a training as MLflow shows them."""
    return {"where": "database", **trained.parameters, "architecture_hash": trained.architecture.hash}


def name_of(trained: Trained) -> str:
    """Return the name of a training's row: six digits of the data's hash and six of the training's."""
    return f"{trained.data.data_hash[:6]}-{trained.run_hash[:6]}"


def row_of(trained: Trained) -> str:
    """Return the id of a training's row."""
    return parent_run(trained.run_hash)


def describe(trained: Trained, best: EpochRow | None = None) -> str:
    """Log a training with its row, and return the row's id.

    The row gets name, parameters and data set and, where `best` is given, the scores of the best epoch.
    """
    from mlflow.entities import Param, RunTag

    row = row_of(trained)
    tags = {"run_hash": trained.run_hash, "data_hash": trained.data.data_hash}
    with answering():
        mlflow_client = client()
        mlflow_client.update_run(row, name=name_of(trained))
        mlflow_client.log_batch(
            row,
            params=[Param(name, str(value)) for name, value in logged_parameters(trained).items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
    log_data(row, trained.data)
    if best:
        log_scores(row, val_loss=best["val_loss"], val_accuracy=best["val_accuracy"], best_epoch=best["epoch"])
    return row


def log_scores(run_id: str, **scores: float) -> None:
    """Log metrics with a run, except values that it has: a repeated step adds no second point."""
    from mlflow.entities import Metric

    with answering():
        mlflow_client = client()
        logged = mlflow_client.get_run(run_id).data.metrics
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in scores.items() if logged.get(name) != value]
        mlflow_client.log_batch(run_id, metrics=metrics)


def log_data(run_id: str, data: TrainingData) -> None:
    """Log a data set as the input of a run: name, digest, source, schema and profile."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    place = {"table": in_schema("{schema}.dataset_batch"), "database": binding("trainer").where}
    source = settings().source
    if source:
        place["source"] = f"{source.schema}.{source.table}"
    text = json.dumps({"tags": place})
    dataset = Dataset(settings().model, data.data_hash[:DIGEST_LENGTH], "code", text, schema_of(data), profile_of(data))
    with answering():
        client().log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def schema_of(data: TrainingData) -> str | None:
    """Return a data set's schema in MLflow's JSON: the columns of a table, else the shapes of features and labels.

    None where it is longer than MLflow allows.
    """
    from mlflow.types import ColSpec, Schema, TensorSpec

    if data.encoding:
        columns = [ColSpec(_type(column), column["name"], required=not column["nulls"]) for column in _columns(data)]
        schema = Schema([*columns, ColSpec("string", data.encoding["label"])])
        text = json.dumps({"mlflow_colspec": schema.to_dict()})
    else:
        import numpy as np

        features = Schema([TensorSpec(np.dtype(data.dtype), (-1, *data.shape), "features")])
        labels = Schema([TensorSpec(np.dtype("int32"), (-1,), "labels")])
        text = json.dumps({"mlflow_tensorspec": {"features": features.to_json(), "targets": labels.to_json()}})
    return text if len(text) <= SCHEMA_LENGTH else None


def _columns(data: TrainingData) -> list[ColumnEncoding]:
    return data.encoding["columns"] if data.encoding else []


def _type(column: ColumnEncoding) -> str:
    """Return MLflow's type of a column of the source table."""
    return {"number": "double", "boolean": "boolean", "text": "string"}[column["kind"]]


def profile_of(data: TrainingData) -> str:
    """Return a data set's profile as JSON: rows per split, and rows per class of the training split."""
    counts = dict(zip(data.classes, data.statistics["class_counts"], strict=True))
    profile = {"num_rows": sum(data.split_rows.values()), "rows": data.split_rows, "training_rows_by_class": counts}
    return json.dumps(profile, ensure_ascii=False)
