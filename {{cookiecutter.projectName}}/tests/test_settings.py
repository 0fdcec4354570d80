"""The project's answers, steps and bindings: what is read, and what is refused with a sentence."""

import pathlib
import pkgutil
import re
import subprocess
import sys

import psycopg2
import pytest
from click.testing import CliRunner

from pipeline import commands, databases, doctor, help, liquibase, mlproject, settings
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
    "review_labels",
    "revoke_labels",
    "erase",
    "adopt_model",
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


def test_the_command_line_has_every_step_and_command() -> None:
    modules = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    assert list(mlproject.steps()) == STEPS
    assert {"demo", "doctor", "psql"} <= set(modules)
    assert list(command_line().commands) == [*STEPS, "all", "retrain", *modules]


def test_every_command_has_a_line_in_the_list() -> None:
    answer = CliRunner().invoke(command_line(), ["--help"], prog_name="./run", terminal_width=80)
    assert answer.output.startswith("Usage: ./run ")
    lines = [line.strip() for line in answer.output.partition("Commands:\n")[2].splitlines()]
    advice = "the first line of a module's docstring says in at most 54 characters what the step does"
    assert [line.split()[0] for line in lines] == list(command_line().commands), advice
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == [], advice


@pytest.mark.parametrize("name", STEPS)
def test_every_option_of_a_step_has_help_type_and_default(name) -> None:
    step = mlproject.steps()[name]
    texts = help.help_of(f"pipeline.steps.{name}")
    assert list(texts.options) == list(step.parameters), f"describe each parameter in the section Args: of {name}.run"
    answer = CliRunner().invoke(command_line(), [name, "--help"], terminal_width=300)
    output = " ".join(answer.output.split())
    assert texts.summary in output
    for option, text in texts.options.items():
        type_name = {int: "INTEGER", float: "FLOAT", str: "TEXT"}[step.parameters[option].type]
        default = step.parameters[option].default
        shown = '""' if default == "" else default
        assert f"--{option.replace('_', '-')} {type_name} {text} [default: {shown}]" in output


@pytest.mark.parametrize("text", [b"def (\n", b'"\xff"\n', b"\0\n"])
def test_a_syntax_error_in_a_step_stops_no_other_step(tmp_path, monkeypatch, text: bytes) -> None:
    (tmp_path / "broken_step.py").write_bytes(text)
    monkeypatch.syspath_prepend(tmp_path)
    texts = help.help_of("broken_step")
    assert texts.description.startswith("broken_step.py:1: ")
    assert texts.options == {}


def test_help_imports_no_step() -> None:
    program = "import sys; from pipeline.__main__ import command_line; command_line(); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "keras", "mlflow", "matplotlib", "pipeline.steps.train_model"} & set(output.split())


def test_wrong_arguments_of_a_command_are_a_usage_error() -> None:
    answer = CliRunner().invoke(command_line(), ["doctor", "everything"])
    assert answer.exit_code == 2
    assert "doctor: too many positional arguments" in answer.output


@pytest.mark.parametrize(
    ("docstring", "options"),
    [
        ("Do.", {}),
        (
            "Do.\n\nArgs:\n    a: one\n    b_c: two\n        lines: here\n\nRaises:\n    StepError: x",
            {"a": "one", "b_c": "two lines: here"},
        ),
    ],
)
def test_help_reads_the_section_args(docstring, options) -> None:
    assert help.arguments(docstring) == options


def test_the_chain_ends_with_deploy_inference_db() -> None:
    assert [step.name for step in mlproject.chain()] == STEPS[: STEPS.index("deploy_inference_db") + 1]


def test_options_are_written_with_hyphens_or_as_in_mlproject() -> None:
    option = next(option for option in command_line().commands["train_model"].params if option.name == "batch_size")
    assert option.opts == ["--batch_size", "--batch-size"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train_model --epochs 0", "epochs is 0; allowed is 1 or more"),
        ("train_model --batch_size -1", "batch_size is -1; allowed is 1 or more"),
        ("train_model --patience 0", "patience is 0; allowed is 1 or more"),
        ("train_model --learning_rate nan", "learning_rate is nan; allowed is any number above 0"),
        ("train_model --learning_rate -0.1", "learning_rate is -0.1; allowed is any number above 0"),
        ("train_model --seed -1", "seed is -1; allowed is 0 to 2147483647"),
        ("train_model --where elsewhere", "where is 'elsewhere'; allowed is database or memory"),
        ("promote_model --version -1", "version is -1; allowed is 0 (the candidate) or a registered version"),
        ("promote_model --stage archive", "stage is 'archive'; allowed is staging or production"),
    ],
)
def test_a_value_outside_its_range_is_refused_before_a_server_is_asked(monkeypatch, command, message) -> None:
    monkeypatch.setattr(doctor, "require", lambda *_: pytest.fail("a server was asked"))
    with pytest.raises(StepError) as refused:
        command_line()(command.split(), standalone_mode=False)
    assert str(refused.value) == message


def test_the_command_of_an_entry_point_passes_all_its_parameters() -> None:
    entry_points = settings.read_yaml("MLproject")["entry_points"]
    for name, step in mlproject.steps().items():
        options = " ".join(f"--{parameter} " + "{" + parameter + "}" for parameter in step.parameters)
        assert " ".join(entry_points[name]["command"].split()) == f"python -m pipeline {name} {options}".strip()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("project.yaml", "minimumAccuracy: ", "minimumAccuracy: 7", "allowed is 0 to 1"),
        ("project.yaml", "promotionStage: '", "promotionStage: 'x", "allowed is staging or production"),
        ("project.yaml", "trainingDatabase: '", "trainingDatabase: 'x", "allowed is greenplum or postgresql"),
        ("project.yaml", "owner: ", "owner: null #", "owner is None; it must be text"),
        ("project.yaml", "owner: ", "ownr: ", r"project.yaml: ownr is unknown; did you mean owner\?"),
        ("project.yaml", "owner: ", "5: ", "project.yaml: 5 is unknown; allowed are projectName, owner"),
        ("project.yaml", "projectName: '", "projectName: 'Foo Bar", "allowed are 3 to 40 lower-case letters"),
        ("project.yaml", "minimumAccuracy: ", "minimumAccuracy: true #", "it must be a number from 0 to 1"),
        ("project.yaml", "owner: ", "owner: [", "project.yaml is not valid YAML"),
        ("project.yaml", "includeMonitoring: ", "includeMonitoring: 1 #", "includeMonitoring is 1; it must be true or"),
        ("project.yaml", "window: 500", "window: 0", "window is 0; it must be a whole number from 1 to 1000000"),
        ("project.yaml", "window: 500", "window: 20", "minimumLabels is 50; use at most 20"),
        ("project.yaml", "window: 500", "window: 60", "minimumPredictions is 200; use at most 60"),
        ("project.yaml", "maximumPsi: 0.25", "maximumPsi: .nan", "maximumPsi is nan; it must be a number from 0"),
        ("project.yaml", "monitoring:", "monitoring: 5 #", "is not valid YAML"),
        ("project.yaml", "monitoring:", "monitored:", r"monitored is unknown; did you mean monitoring\?"),
        ("project.yaml", "window: 500", "windw: 500", r"monitoring\.windw is unknown; did you mean window\?"),
    ],
)
def test_a_wrong_answer_is_refused(project, file, old, new, message) -> None:
    replace(project / file, old, new)
    with pytest.raises(StepError, match=message):
        settings.settings()


def test_optional_answers_are_accepted(project) -> None:
    with open(project / "project.yaml", "a", encoding="utf-8") as file:
        file.write("classWeights: {a: 1}\nlabelSmoothing: 0.1\n")
    assert settings.settings().owner


def test_inputs_are_not_stored_without_monitoring(project) -> None:
    text = (project / "project.yaml").read_text(encoding="utf-8")
    text = re.sub("includeMonitoring: .*", "includeMonitoring: false", text)
    (project / "project.yaml").write_text(re.sub("storeInputs: .*", "storeInputs: true", text), encoding="utf-8")
    assert not settings.settings().store_inputs


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: {type: int, default: 1}", "seed: 1", r"upload_dataset\.seed is 1; write it as"),
        ("seed: {type: int, default: 1}", "seed: {type: int, default: ten}", "seed is 'ten'; its type is int"),
        ("seed: {type: int, default: 1}", "seed: {type: int, default: 2.5}", r"seed is 2\.5; its type is int"),
        ("entry_points:", "entry_points: 5\nothers:", "entry_points must name the steps"),
        ("entry_points:", "entry_pints:", "entry_points must name the steps"),
        ("type: int, default: 1}", "type: int, defualt: 1}", r"seed\.defualt is unknown; did you mean default\?"),
        ("    parameters:", "    parameter:", r"upload_dataset\.parameter is unknown; did you mean parameters\?"),
        ("    parameters:", "    parameters: 5\n    command:", "upload_dataset.parameters is 5; write one line per"),
    ],
)
def test_a_wrong_entry_point_is_refused(project, old, new, message) -> None:
    replace(project / "MLproject", old, new)
    with pytest.raises(StepError, match=message):
        mlproject.steps()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("patience: {type: int, default: 10}", "", "train_model has the parameters"),
        ("  upload_dataset:", "  upload_data:", "names the entry point upload_data; there is no pipeline/steps/upload"),
    ],
)
def test_an_entry_point_that_fits_no_step_is_refused(project, old, new, message) -> None:
    replace(project / "MLproject", old, new)
    with pytest.raises(StepError, match=message):
        mlproject.require_modules()


def test_every_entry_point_fits_its_step() -> None:
    mlproject.require_modules()


def test_a_database_that_dies_repeatedly_ends_the_training(monkeypatch) -> None:
    def lost(training):
        raise psycopg2.InterfaceError("connection already closed")

    monkeypatch.setattr(train_model, "_train", lost)
    monkeypatch.setattr(train_model, "_committed_epochs", lambda training: 4)
    with pytest.raises(TemporaryError, match="went away 3 times after 4 committed epochs"):
        train_model._reconnecting(None)


def test_a_training_that_progresses_may_lose_its_server_often(monkeypatch) -> None:
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
    contents = {"host": "h", "port": "1", "database": "d", "username": "u", "password": "canary", **keys}
    for key, value in contents.items():
        (folder / key).write_text(value, encoding="utf-8")


def test_a_binding_is_found_by_its_folder(bindings) -> None:
    write_binding(bindings / "trainer", type="postgresql", provider="local")
    bound = databases.binding("trainer")
    assert bound.where == "postgresql h:1/d"
    assert "canary" not in repr(bound)


def test_a_binding_is_found_by_its_type(bindings) -> None:
    write_binding(bindings / "anything", type="postgresql", **{"ca.crt": "certificate"})
    bound = databases.binding("inference-app")
    assert pathlib.Path(bound.ca_file).read_text(encoding="utf-8") == "certificate"


def test_two_bindings_of_a_type_are_not_guessed(bindings) -> None:
    write_binding(bindings / "one", type="postgresql")
    write_binding(bindings / "two", type="postgresql")
    with pytest.raises(StepError, match="holds no folder inference-app and 2 bindings of type postgresql"):
        databases.binding("inference-app")


def test_a_binding_of_another_type_is_refused(bindings) -> None:
    write_binding(bindings / "inference-app", type="greenplum")
    with pytest.raises(StepError, match="is of type 'greenplum'; allowed is postgresql"):
        databases.binding("inference-app")


def test_the_training_database_has_the_type_of_project_yaml(bindings) -> None:
    other = {"greenplum": "postgresql", "postgresql": "greenplum"}[settings.settings().training_database]
    write_binding(bindings / "trainer", type=other, provider="elsewhere")
    with pytest.raises(StepError, match=f"is of type '{other}'"):
        databases.binding("trainer")


def test_a_missing_key_is_named(bindings) -> None:
    write_binding(bindings / "trainer", type="postgresql", provider="local", password="")
    with pytest.raises(StepError, match="lacks password"):
        databases.binding("trainer")


def test_a_missing_folder_of_bindings_is_named(monkeypatch) -> None:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", "/nowhere")
    with pytest.raises(StepError, match="SERVICE_BINDING_ROOT is /nowhere; there is no such folder"):
        databases.binding("trainer")


def test_without_bindings_the_error_has_a_fix(monkeypatch) -> None:
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    with pytest.raises(StepError, match="SERVICE_BINDING_ROOT is not set: `make pipeline`"):
        databases.binding("trainer")


def test_java_verifies_the_server_too(bindings) -> None:
    write_binding(bindings / "trainer", type="postgresql", provider="local", **{"ca.crt": "certificate"})
    address = liquibase._url(databases.binding("trainer"))
    assert f"sslmode=verify-full&sslrootcert={bindings}/trainer/ca.crt" in address
    assert "canary" not in address


def test_the_binding_of_another_role_is_not_used(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    keys = {"type": "postgresql", "host": "h", "port": "1", "database": "d", "username": "u", "password": "p"}
    for folder in ("training-deployer", "unnamed"):
        (tmp_path / folder).mkdir()
        for key, value in {**keys, "host": folder}.items():
            (tmp_path / folder / key).write_text(value + "\n", encoding="utf-8")
    assert databases.binding("inference-deployer").host == "unnamed"
    databases.binding.cache_clear()
    (tmp_path / "unnamed" / "type").write_text("rabbitmq", encoding="utf-8")
    with pytest.raises(StepError, match="0 bindings of type postgresql that belong to no other role"):
        databases.binding("inference-deployer")


def test_retrain_refuses_first_when_inputs_are_not_stored(project) -> None:
    text = (project / "project.yaml").read_text(encoding="utf-8")
    (project / "project.yaml").write_text(re.sub("storeInputs: .*", "storeInputs: false", text), encoding="utf-8")
    with pytest.raises(StepError, match="stored without their inputs"):
        command_line()(["retrain"], standalone_mode=False)
