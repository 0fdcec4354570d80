"""The records of the real `datahub ingest` for a trained project: tags, owners, every edge from file to function."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from .project import Project

INGEST = ("run", "--environment", "datahub", "--", "python", "datahub/ingest.py")
RECIPES = ("training", "inference", "source-files", "model")
OWNER = "urn:li:corpGroup:data-people"
Aspects = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def project(trained: Project, work: Path) -> Project:
    """The trained project with DataHub, on the servers of all tests."""
    parent = work / "with-datahub"
    parent.mkdir()
    return Project.generate(parent, trained.servers, includeDatahub="true", owner="data-people")


@pytest.fixture(scope="module")
def ingested(project: Project) -> dict[str, Aspects]:
    """The aspects of each recipe, by the entity's urn; those of a snapshot by the last part of their class name."""
    printed = project.local(*INGEST, CLOUD="moon").stdout
    out = project.folder / "datahub" / "out"
    assert printed.splitlines() == [f"{name}: {out / name}.json" for name in RECIPES]
    return {name: aspects(out / f"{name}.json") for name in RECIPES}


def aspects(file: Path) -> Aspects:
    """Return the aspects in a file of DataHub's file sink."""
    entities: Aspects = defaultdict(dict)
    for record in json.loads(file.read_text()):
        if "aspectName" in record:
            entities[record["entityUrn"]][record["aspectName"]] = record["aspect"]["json"]
        else:
            (snapshot,) = record["proposedSnapshot"].values()
            for aspect in snapshot["aspects"]:
                for name, value in aspect.items():
                    entities[snapshot["urn"]][name.rpartition(".")[2]] = value
    return entities


def table(database: str, name: str) -> str:
    """Return a table's urn."""
    full = f"image-classifier-{database}.{database}.image_classifier.{name}"
    return f"urn:li:dataset:(urn:li:dataPlatform:postgres,{full},PROD)"


def tags(entity: dict[str, Any]) -> set[str]:
    """Return the names of an entity's tags."""
    return {tag["tag"].removeprefix("urn:li:tag:") for tag in entity["globalTags"]["tags"]}


def owners(entity: dict[str, Any]) -> set[str]:
    """Return an entity's owners."""
    return {owner["owner"] for owner in entity["ownership"]["owners"]}


def only_urn(entities: Aspects, kind: str) -> str:
    """Return the urn of the only entity of a kind."""
    (urn,) = [urn for urn in entities if urn.startswith(f"urn:li:{kind}:")]
    return urn


@pytest.mark.parametrize(
    ("database", "some"),
    [
        ("training", {"dataset", "dataset_batch", "training_run", "training_epoch"}),
        ("inference", {"model_version", "model_alias", "model_info", "prediction_log", "drift"}),
    ],
)
def test_a_database_is_there_with_tags_and_owner(
    ingested: dict[str, Aspects], project: Project, database: str, some: set[str]
) -> None:
    datasets = {urn: entity for urn, entity in ingested[database].items() if urn.startswith("urn:li:dataset:")}
    with project.database("trainer" if database == "training" else "inference-app") as session:
        statement = (
            "SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'p', 'v')"
        )
        there = {name for (name,) in session.query(statement) if not name.startswith("databasechangelog")}
    assert some <= there
    assert set(datasets) == {table(database, name) for name in there}
    for entity in datasets.values():
        assert tags(entity) == {database, "servicebinding:type:postgresql", "cloud:moon"}
        assert owners(entity) == {OWNER}
    named = {column["fieldPath"] for column in datasets[table(database, sorted(some)[0])]["SchemaMetadata"]["fields"]}
    assert len(named) > 1


def test_the_rows_come_from_the_file(ingested: dict[str, Aspects]) -> None:
    entities = ingested["source-files"]
    file = "urn:li:dataset:(urn:li:dataPlatform:file,image-classifier/dataset.py,PROD)"
    assert tags(entities[file]) == {"training", "cloud:moon"}
    assert owners(entities[file]) == {OWNER}
    assert len(entities[file]["datasetProperties"]["customProperties"]["sha256"]) == 64
    upstreams = entities[table("training", "dataset_batch")]["upstreamLineage"]["upstreams"]
    assert [upstream["dataset"] for upstream in upstreams] == [file]


def test_the_run_consumes_the_rows_and_produces_the_version(ingested: dict[str, Aspects], project: Project) -> None:
    entities = ingested["model"]
    run, model = only_urn(entities, "dataProcessInstance"), only_urn(entities, "mlModel")
    assert entities[run]["dataProcessInstanceInput"]["inputs"] == [table("training", "dataset_batch")]
    assert entities[run]["dataProcessInstanceOutput"]["outputs"] == [model]
    assert entities[model]["mlModelProperties"]["trainingJobs"] == [run]
    assert model == "urn:li:mlModel:(urn:li:dataPlatform:mlflow,image_classifier_1,PROD)"
    # The run of train_model, not the promotion's run, which registered the version.
    ((trained_by,),) = project.training_runs("SELECT mlflow_run FROM {schema}.training_run WHERE run_hash = {run}", 1)
    properties = entities[run]["mlTrainingRunProperties"]
    assert properties["id"] == trained_by
    assert {"epochs", "seed"} <= {entry["name"] for entry in properties["hyperParams"]}
    assert {"train_loss", "val_accuracy"} <= {entry["name"] for entry in properties["trainingMetrics"]}
    assert entities[run]["dataProcessInstanceRunEvent"]["result"]["type"] == "SUCCESS"


def test_the_functions_answer_with_the_version_that_is_served(ingested: dict[str, Aspects]) -> None:
    entities = ingested["model"]
    model, group = entities[only_urn(entities, "mlModel")], only_urn(entities, "mlModelGroup")
    jobs = {urn.rpartition(",")[2].rstrip(")"): urn for urn in entities if urn.startswith("urn:li:dataJob:")}
    assert {"predict", "predict_batch", "run_inference_task"} <= set(jobs)
    assert set(model["mlModelProperties"]["downstreamJobs"]) == set(jobs.values())
    assert model["mlModelProperties"]["groups"] == [group]
    assert {"staging", "cloud:moon"} <= tags(model)
    for urn in jobs.values():
        edges = entities[urn]["dataJobInputOutput"]
        assert table("inference", "model_version") in edges["inputDatasets"]
        assert tags(entities[urn]) == {"inference", "cloud:moon"}
    edges = entities[jobs["run_inference_task"]]["dataJobInputOutput"]
    assert edges["outputDatasets"] == [table("inference", "prediction_log")]
    for urn in (only_urn(entities, "mlModel"), group, *jobs.values()):
        assert owners(entities[urn]) == {OWNER}


def test_every_end_of_an_edge_is_described(ingested: dict[str, Aspects]) -> None:
    """Another recipe describes every entity that the model's and the files' recipe point to."""
    described = {urn for entities in ingested.values() for urn, entity in entities.items() if len(entity) > 1}
    text = json.dumps([ingested["model"], ingested["source-files"]])
    named = set(re.findall(r'"(urn:li:(?:dataset|dataJob|mlModel|mlModelGroup|dataProcessInstance):[^"]+)"', text))
    assert len(named) > 8
    assert named <= described


def test_no_secret_is_in_a_recipe_a_record_or_a_log(ingested: dict[str, Aspects], project: Project) -> None:
    folder = project.folder / "datahub"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {f"{name}.log" for name in RECIPES} <= {path.name for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [password for password in project.servers.passwords() if password in text], path
    for name in ("training", "inference"):
        recipe = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
        assert recipe["source"]["config"]["password"] == "${PGPASSWORD}"  # noqa: S105 - a name
        assert "sink" not in recipe


def test_a_person_adds_a_file_whose_columns_are_told(ingested: dict[str, Aspects], project: Project) -> None:
    """With a file added to the recipe, and a variable for another fabric than PROD."""
    (project.folder / "data").mkdir()
    (project.folder / "data" / "rows.csv").write_text("age,colour\n1,red\n", encoding="utf-8")
    recipe = project.folder / "datahub" / "source-files.yaml"
    recipe.write_text(recipe.read_text().replace("- dataset.py\n", "- dataset.py\n      - data/*.csv\n"))
    project.local(*INGEST, "source-files", DATAHUB_ENV="DEV")
    entities = aspects(project.folder / "datahub" / "out" / "source-files.json")
    file = entities["urn:li:dataset:(urn:li:dataPlatform:file,image-classifier/data/rows.csv,DEV)"]
    assert [column["fieldPath"] for column in file["schemaMetadata"]["fields"]] == ["age", "colour"]
    batch = entities[table("training", "dataset_batch").replace(",PROD)", ",DEV)")]
    assert len(batch["upstreamLineage"]["upstreams"]) == 2


def test_a_mistake_is_one_sentence(project: Project, tmp_path: Path) -> None:
    def refuses(*arguments: str, **variables: str) -> str:
        process = project.local(*INGEST, *arguments, status=1, **variables)
        (sentence,) = process.stderr.strip().splitlines()
        assert sentence.startswith("error: ")
        return sentence

    assert "there is no recipe 'train'; allowed is training, inference, source-files, model" in refuses("train")
    assert "there is no such folder" in refuses("training", SERVICE_BINDING_ROOT=str(tmp_path / "no"))
    assert "MLflow at http://127.0.0.1:9 does not answer" in refuses("model", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    bindings = tmp_path / "bindings"
    for name in ("trainer", "inference-app"):
        (bindings / name).mkdir(parents=True)
        for key, value in project.servers.binding(name).items():
            (bindings / name / key).write_text(value)
    (bindings / "trainer" / "password").write_text("wrong")
    assert "password authentication failed" in refuses("training", SERVICE_BINDING_ROOT=str(bindings))


def test_of_other_peoples_tables_none_is_brought(trained: Project, work: Path) -> None:
    """With rows from a table, DataHub gets that table and the project's own, not others in the same schema."""
    answers = {"projectName": "about-a-table", "dataset": "table", "includeDatahub": "true"}
    parent = work / "table-with-datahub"
    parent.mkdir()
    project = Project.generate(parent, trained.servers, **answers)
    project.run("python", "-m", "pipeline", "example_table")
    project.pipeline("deploy_training_code", "deploy_training_db")
    with project.database("training-deployer") as database:
        database.query("CREATE TABLE IF NOT EXISTS public.of_others (id int)")
        database.query("CREATE OR REPLACE VIEW public.seen_by_others AS SELECT 1 AS id")
    project.local(*INGEST, "training", "source-files")
    entities = {
        name: aspects(project.folder / "datahub" / "out" / f"{name}.json") for name in ("training", "source-files")
    }
    urn = "urn:li:dataset:(urn:li:dataPlatform:postgres,about-a-table-training.training.{}.{},PROD)"
    tables = {urn for urn in entities["training"] if urn.startswith("urn:li:dataset:")}
    source = urn.format("public", "breast_cancer")
    assert {urn for urn in tables if ".public." in urn} == {source}
    packed = urn.format("about_a_table", "dataset_batch")
    assert packed in tables
    assert [upstream["dataset"] for upstream in entities["source-files"][packed]["upstreamLineage"]["upstreams"]] == [
        source
    ]
