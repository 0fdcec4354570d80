"""The project's answers and steps are read once and refused with a sentence."""

import pathlib
import re

import psycopg2
import pytest

from pipeline import databases, liquibase, mlproject, settings
from pipeline.__main__ import command_line
from pipeline.errors import StepError, TemporaryError
from pipeline.steps import train_model

STEPS = [
    "deploy_training_code",
    "deploy_training_db",
    "upload_dataset",
    "train_model",
    "evaluate_model",
    "promote_model",
    "deploy_inference_db",
    "search",
    "learning_curve",
    "monitor_model",
    "collect_labels",
    "rollback",
    "finish_run",
]


@pytest.fixture(autouse=True)
def _forget(monkeypatch) -> None:
    monkeypatch.delenv("MODEL_STAGE", raising=False)
    settings.settings.cache_clear()
    mlproject.steps.cache_clear()
    databases.binding.cache_clear()


@pytest.fixture(name="project")
def _project(tmp_path, monkeypatch) -> pathlib.Path:
    for name in ("project.yaml", "MLproject"):
        (tmp_path / name).write_text((settings.ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    return tmp_path


def replace(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_steps_and_commands_are_the_entry_points() -> None:
    assert list(mlproject.steps()) == STEPS
    assert list(command_line().commands) == [*STEPS, "all", "retrain"]


def test_the_chain_ends_with_what_is_served() -> None:
    assert [step.name for step in mlproject.chain()] == STEPS[: STEPS.index("deploy_inference_db") + 1]


def test_options_are_written_with_hyphens_or_as_in_mlproject() -> None:
    option = next(option for option in command_line().commands["train_model"].params if option.name == "batch_size")
    assert option.opts == ["--batch_size", "--batch-size"]


def test_the_command_of_an_entry_point_hands_on_all_its_parameters() -> None:
    entry_points = settings.read_yaml("MLproject")["entry_points"]
    for name, step in mlproject.steps().items():
        told = " ".join(f"--{parameter} " + "{" + parameter + "}" for parameter in step.parameters)
        assert " ".join(entry_points[name]["command"].split()) == f"python -m pipeline {name} {told}".strip()


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("project.yaml", "minimumAccuracy: ", "minimumAccuracy: 7", "allowed is 0 to 1"),
        ("project.yaml", "promotionStage: '", "promotionStage: 'x", "allowed is staging or production"),
        ("project.yaml", "trainingDatabase: '", "trainingDatabase: 'x", "allowed is greenplum or postgresql"),
        ("project.yaml", "owner: ", "ignored: ", "owner is None; it must be text"),
        ("project.yaml", "projectName: '", "projectName: 'Foo Bar", "allowed are 3 to 40 lower-case letters"),
        ("project.yaml", "minimumAccuracy: ", "minimumAccuracy: true #", "it must be a number from 0 to 1"),
        ("project.yaml", "owner: ", "owner: [", "project.yaml is not valid YAML"),
        ("project.yaml", "includeMonitoring: ", "includeMonitoring: 1 #", "includeMonitoring is 1; it must be true or"),
        ("project.yaml", "window: 500", "window: 0", "window is 0; it must be a whole number from 1 to 1000000"),
        ("project.yaml", "window: 500", "window: 20", "minimumLabels is 50; only 20 are looked at"),
        ("project.yaml", "window: 500", "window: 60", "minimumPredictions is 200; only 60 are looked at"),
        ("project.yaml", "maximumPsi: 0.25", "maximumPsi: .nan", "maximumPsi is nan; it must be a number from 0"),
        ("project.yaml", "monitoring:", "monitored:", r"monitoring\.window is None; it must be a whole number"),
    ],
)
def test_a_wrong_answer_is_refused(project, file, old, new, told) -> None:
    replace(project / file, old, new)
    with pytest.raises(StepError, match=told):
        settings.settings()


def test_what_is_not_monitored_is_not_kept(project) -> None:
    text = (project / "project.yaml").read_text(encoding="utf-8")
    text = re.sub("includeMonitoring: .*", "includeMonitoring: false", text)
    (project / "project.yaml").write_text(re.sub("storeInputs: .*", "storeInputs: true", text), encoding="utf-8")
    assert not settings.settings().store_inputs


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seed: {type: int, default: 1}", "seed: 1", r"upload_dataset\.seed is 1; write it as"),
        ("seed: {type: int, default: 1}", "seed: {type: int, default: ten}", "seed is 'ten'; its type is int"),
        ("seed: {type: int, default: 1}", "seed: {type: int, default: 2.5}", r"seed is 2\.5; its type is int"),
        ("entry_points:", "entry_points: 5\nothers:", "entry_points must name the steps"),
        ("entry_points:", "entry_pints:", "entry_points must name the steps"),
    ],
)
def test_a_wrong_entry_point_is_refused(project, old, new, told) -> None:
    replace(project / "MLproject", old, new)
    with pytest.raises(StepError, match=told):
        mlproject.steps()


def test_a_database_that_dies_again_and_again_is_given_up(monkeypatch) -> None:
    def lost(training):
        raise psycopg2.InterfaceError("connection already closed")

    monkeypatch.setattr(train_model, "_train", lost)
    monkeypatch.setattr(train_model, "_committed_epochs", lambda training: 4)
    with pytest.raises(TemporaryError, match="went away 3 times after 4 committed epochs"):
        train_model._reconnecting(None)


def test_a_training_that_goes_on_may_lose_its_server_often(monkeypatch) -> None:
    tries, committed = iter(range(10)), iter(range(10))

    def mostly_lost(training):
        if next(tries) < 9:
            raise psycopg2.InterfaceError("connection already closed")
        return "done"

    monkeypatch.setattr(train_model, "_train", mostly_lost)
    monkeypatch.setattr(train_model, "_committed_epochs", lambda training: next(committed))
    assert train_model._reconnecting(None) == "done"


@pytest.fixture(name="bindings")
def _bindings(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    return tmp_path


def write_binding(folder: pathlib.Path, **keys: str) -> None:
    folder.mkdir()
    given = {"host": "h", "port": "1", "database": "d", "username": "u", "password": "canary", **keys}
    for key, value in given.items():
        (folder / key).write_text(value, encoding="utf-8")


def test_a_binding_is_found_by_its_folder(bindings) -> None:
    write_binding(bindings / "trainer", type="postgresql", provider="local")
    found = databases.binding("trainer")
    assert found.where == "postgresql h:1/d"
    assert "canary" not in repr(found)


def test_a_binding_is_found_by_its_type(bindings) -> None:
    write_binding(bindings / "anything", type="postgresql", **{"ca.crt": "certificate"})
    found = databases.binding("inference-app")
    assert pathlib.Path(found.ca_file).read_text(encoding="utf-8") == "certificate"


def test_two_bindings_of_a_type_are_not_guessed(bindings) -> None:
    write_binding(bindings / "one", type="postgresql")
    write_binding(bindings / "two", type="postgresql")
    with pytest.raises(StepError, match="holds no folder inference-app and 2 bindings of type postgresql"):
        databases.binding("inference-app")


def test_a_binding_of_another_type_is_refused(bindings) -> None:
    write_binding(bindings / "inference-app", type="greenplum")
    with pytest.raises(StepError, match="is of type 'greenplum'; allowed is postgresql"):
        databases.binding("inference-app")


def test_the_training_database_is_the_one_that_was_chosen(bindings) -> None:
    other = {"greenplum": "postgresql", "postgresql": "greenplum"}[settings.settings().training_database]
    write_binding(bindings / "trainer", type=other, provider="elsewhere")
    with pytest.raises(StepError, match=f"is of type '{other}'"):
        databases.binding("trainer")


def test_a_missing_key_is_named(bindings) -> None:
    write_binding(bindings / "trainer", type="postgresql", provider="local", password="")
    with pytest.raises(StepError, match="lacks password"):
        databases.binding("trainer")


def test_a_folder_of_bindings_that_is_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", "/nowhere")
    with pytest.raises(StepError, match="SERVICE_BINDING_ROOT is /nowhere; there is no such folder"):
        databases.binding("trainer")


def test_without_bindings_a_person_is_told_what_to_do(monkeypatch) -> None:
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    with pytest.raises(StepError, match="SERVICE_BINDING_ROOT is not set: `make pipeline`"):
        databases.binding("trainer")


def test_java_verifies_the_server_too(bindings) -> None:
    write_binding(bindings / "trainer", type="postgresql", provider="local", **{"ca.crt": "certificate"})
    address = liquibase._url(databases.binding("trainer"))
    assert f"sslmode=verify-full&sslrootcert={bindings}/trainer/ca.crt" in address
    assert "canary" not in address


def test_the_binding_of_another_role_is_not_taken(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    keys = {"type": "postgresql", "host": "h", "port": "1", "database": "d", "username": "u", "password": "p"}
    for folder in ("training-deployer", "unnamed"):
        (tmp_path / folder).mkdir()
        for key, value in {**keys, "host": folder}.items():
            (tmp_path / folder / key).write_text(value + "\n", encoding="utf-8")
    assert databases.binding("inference-deployer").host == "unnamed"
    databases.binding.cache_clear()
    (tmp_path / "unnamed" / "type").write_text("rabbitmq", encoding="utf-8")
    with pytest.raises(StepError, match="0 bindings of type postgresql that are no other role's"):
        databases.binding("inference-deployer")


def test_retrain_says_first_that_nothing_is_kept(project) -> None:
    text = (project / "project.yaml").read_text(encoding="utf-8")
    (project / "project.yaml").write_text(re.sub("storeInputs: .*", "storeInputs: false", text), encoding="utf-8")
    with pytest.raises(StepError, match="kept without their inputs"):
        command_line()(["retrain"], standalone_mode=False)
