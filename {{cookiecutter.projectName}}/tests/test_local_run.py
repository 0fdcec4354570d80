"""`./run`: the pipeline's steps in their environment; and the commands that end the demo."""

import http.client
import json
import os
import pathlib
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

    def test_help_without_an_environment(self, monkeypatch):
        monkeypatch.setattr(environments, "is_complete", lambda folder: False)
        with pytest.raises(LocalError, match="train_model"):
            steps.require_environment()


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
            "MLflow: http://127.0.0.1:5000/#/experiments/7",
        ]

    @pytest.mark.parametrize(("status", "content"), [(0, b""), (http.client.OK, b"{}"), (http.client.OK, b"<html>")])
    def test_no_experiment(self, answers, status, content):
        assert answers(status, content)[-1] == "MLflow: http://127.0.0.1:5000"

    def test_a_tracking_server_of_ones_own(self, answers, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
        assert answers(0, b"")[-1] == "MLflow: https://mlflow.example.com"
