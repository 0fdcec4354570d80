"""`./run`: the pipeline's steps in their environment; and the commands that end the demo."""

import http.client
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import yaml

from local import commands, environments, next_commands, serve, steps
from local.errors import LocalError
from local.state import PROJECT, State

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(folder: pathlib.Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the script from a folder of the test's own; what it would start would lie there."""
    environment = {**os.environ, "LOCAL_STATE": str(folder / "state"), **variables}
    return subprocess.run([ROOT / "run", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


class TestRun:
    def test_can_be_executed(self):
        assert os.access(ROOT / "run", os.X_OK)

    def test_names_are_chains_steps_and_other_commands(self):
        entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
        names = set(steps.names())
        assert {"all", "retrain", *entry_points} <= names
        others = {path.stem for path in (ROOT / "pipeline" / "commands").iterdir()} - {"__init__", "__pycache__"}
        assert names == {"all", "retrain", *entry_points, *others}

    @pytest.mark.parametrize("arguments", [["--help"], ["train_model", "--help"], ["train_model", "all", "--help"]])
    def test_help_starts_nothing(self, tmp_path, arguments):
        completed = run(tmp_path, *arguments, SERVICE_BINDING_ROOT="", MLFLOW_TRACKING_URI="")
        assert completed.returncode == 0, completed.stderr
        assert "Usage: " in completed.stdout
        assert not (tmp_path / "state").exists()

    def test_help_installs_nothing(self, tmp_path):
        completed = run(tmp_path, "--help", IN_DATABASE_ML_CACHE=str(tmp_path / "cache"))
        assert completed.returncode == 1
        assert completed.stderr.startswith("run: the steps are all, retrain, ")
        assert "run `make install` first" in completed.stderr
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("trian_model", "there is no step trian_model; did you mean train_model? `./run --help` lists them"),
            ("train-model", "there is no step train-model; did you mean train_model? `./run --help` lists them"),
            ("zzz", "there is no step zzz: `./run --help` lists them"),
        ],
    )
    def test_a_wrong_name_is_one_sentence_and_starts_nothing(self, tmp_path, name, sentence):
        completed = run(tmp_path, name, "--epochs", "1", SERVICE_BINDING_ROOT="", MLFLOW_TRACKING_URI="")
        assert (completed.returncode, completed.stdout, completed.stderr) == (1, "", f"run: {sentence}\n")
        assert not (tmp_path / "state").exists()

    def test_the_exit_status_is_the_steps(self, tmp_path):
        bindings = tmp_path / "bindings"
        bindings.mkdir()
        # Relative to the folder that the caller is in.
        missing = run(tmp_path, "upload_dataset", SERVICE_BINDING_ROOT="bindings")
        assert missing.returncode == 1
        assert f"{bindings} holds no folder " in missing.stderr
        wrong = run(tmp_path, "train_model", "--epochs", "many", SERVICE_BINDING_ROOT="bindings")
        assert wrong.returncode == 2
        assert "'many' is not a valid integer" in wrong.stderr

    def test_a_missing_environment_is_installed_for_a_step(self, monkeypatch, tmp_path):
        executed = []
        monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(commands.startup, "install", lambda roles, **parts: executed.append(roles))
        monkeypatch.setattr(commands, "execute", lambda command, environment: executed.append(command))
        steps.run(["train_model", "--epochs", "3"])
        assert executed == [["pipeline"], ["python", "-m", "pipeline", "train_model", "--epochs", "3"]]
        assert pathlib.Path.cwd() == PROJECT

    @pytest.mark.parametrize(("bound", "roles"), [("", environments.ROLES), ("/bindings", ["pipeline"])])
    def test_files_are_checked_again_with_a_new_environment(self, monkeypatch, bound, roles):
        checked, installed = [], []
        monkeypatch.setenv("SERVICE_BINDING_ROOT", bound)
        monkeypatch.setattr(environments, "is_complete", lambda folder: False)
        monkeypatch.setattr(steps, "check", lambda arguments: checked.append(arguments) or len(checked) - 1)
        monkeypatch.setattr(steps.startup, "install", lambda roles, **parts: installed.append((roles, parts)))
        assert steps.run(["all"]) == 1
        assert checked == [["all"], ["all"]]
        assert installed == [(roles, {"databases": not bound})]

    def test_help_without_an_environment(self, monkeypatch):
        monkeypatch.setattr(environments, "is_complete", lambda folder: False)
        with pytest.raises(LocalError, match="train_model"):
            steps.require_environment()


BROKEN = "def (\n"


class TestFiles:
    """A mistake in a person's file is reported before a server is started or asked."""

    @pytest.fixture
    def project(self, tmp_path) -> pathlib.Path:
        """A copy of the project, which a test may change."""
        ignored = shutil.ignore_patterns(".*", "__pycache__")
        shutil.copytree(ROOT, tmp_path / "project", ignore=ignored)
        return tmp_path / "project"

    def run(self, project: pathlib.Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Call the script of the copy, and check that it starts no server."""
        bound = {"SERVICE_BINDING_ROOT": "", "MLFLOW_TRACKING_URI": "", "LOCAL_STATE": str(project.parent / "state")}
        completed = subprocess.run(
            [project / "run", *arguments], env={**os.environ, **bound, **variables}, capture_output=True, text=True
        )
        assert not (project.parent / "state").exists()
        return completed.returncode, completed.stdout, completed.stderr

    @pytest.mark.parametrize("step", ["deploy_training_code", "all", "train_model", "check"])
    def test_code_that_is_not_python(self, project, step):
        with open(project / "model.py", "a", encoding="utf-8") as model:
            model.write(BROKEN)
        line = (project / "model.py").read_text().count("\n")
        sentence = f"error: model.py cannot be imported: SyntaxError: invalid syntax (model.py, line {line})\n"
        assert self.run(project, step) == (1, "", sentence)
        # Python alone finds it too.
        assert self.run(project, step, IN_DATABASE_ML_CACHE=str(project.parent / "cache")) == (1, "", sentence)

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["deploy_training_code", "--help"]])
    def test_help_needs_no_code(self, project, arguments):
        (project / "model.py").write_text(BROKEN)
        status, output, stderr = self.run(project, *arguments)
        assert status == (0 if arguments else 2)
        assert (output + stderr).startswith("Usage: ./run")

    @pytest.mark.parametrize(
        ("file", "old", "new", "sentence"),
        [
            ("model.py", "def build_optimizer", "def build_optimiser", "model.py has no function build_optimizer"),
            ("project.yaml", "minimumAccuracy: ", "minimumAccuracy: 7", "project.yaml: minimumAccuracy is 7"),
            ("project.yaml", "method: grid", "method: gird", "project.yaml: search.method is 'gird'"),
            ("MLproject", "epochs: {type: int,", "epochs: {type: integer,", "MLproject: train_model.epochs is"),
            ("MLproject", "batch_size: {", "batch_sizes: {", "MLproject: train_model has the parameters"),
            ("MLproject", "epochs: {type: int, default: ", "epochs: {type: int, default: -", "epochs is -"),
            ("MLproject", "  deploy_inference_db:", "  #", "MLproject: the entry point deploy_inference_db"),
        ],
    )
    def test_a_wrong_file(self, project, file, old, new, sentence):
        text = (project / file).read_text(encoding="utf-8")
        assert old in text
        (project / file).write_text(text.replace(old, new), encoding="utf-8")
        status, _, stderr = self.run(project, "all")
        assert status == 1
        assert stderr.startswith(f"error: {sentence}")
        assert stderr.count("\n") == 1

    def test_a_step_that_runs_no_code_of_the_person(self, project):
        (project / "model.py").write_text(BROKEN)
        bindings = project.parent / "bindings"
        bindings.mkdir()
        status, _, stderr = self.run(project, "rollback", "--to_version", "1", SERVICE_BINDING_ROOT=str(bindings))
        assert status == 1
        assert "model.py" not in stderr

    def test_check(self, project):
        status, output, stderr = self.run(project, "check")
        assert (status, stderr) == (0, "")
        assert output.startswith("no mistake found: project.yaml, MLproject, model.py")


class TestNextCommands:
    @pytest.fixture
    def answers(self, monkeypatch, tmp_path):
        """A started MLflow server; the test says what it answers."""
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        state = State(tmp_path)
        state.keep_server("mlflow", port=5000, environment="")

        def lines(status: int, content: bytes) -> list[str]:
            monkeypatch.setattr(next_commands, "answer", lambda port, path: (status, content))
            return next_commands.lines(state)

        return lines

    def test_commands_and_the_page_of_the_experiment(self, answers):
        served = "the API and the page" if serve.PAGE.exists() else "the API"
        content = json.dumps({"experiments": [{"experiment_id": "7", "name": "image_classifier"}]}).encode()
        assert answers(http.client.OK, content) == [
            "next:",
            f"  make serve     serve {served} on this machine",
            "  ./run --help   list the steps, to run them one by one",
            "  make down      stop the servers and remove their data",
            "MLflow: http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning",
        ]

    @pytest.mark.parametrize(("status", "content"), [(0, b""), (http.client.OK, b"{}"), (http.client.OK, b"<html>")])
    def test_no_experiment(self, answers, status, content):
        assert answers(status, content)[-1] == "MLflow: http://127.0.0.1:5000"

    def test_a_tracking_server_of_ones_own(self, answers, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
        assert answers(0, b"")[-1] == "MLflow: https://mlflow.example.com"
