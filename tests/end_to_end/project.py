"""A generated project, driven through its own commands."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .servers import Database, Servers

ROOT = Path(__file__).resolve().parents[2]
# As in the project's Makefile: `local` needs only the system's Python.
LOCAL = ("/usr/bin/python3", "-m", "local")
FOREIGN = ("COOKIECUTTER", "GIT_", "PYTHON", "PIPELINE_RUN", "STEP_OUTPUTS", "MLFLOW", "SERVICE_BINDING", "LOCAL_STATE")
FOREIGN += ("MODEL_STAGE", "ENVIRONMENT_LOCK", "LIQUIBASE", "JAVA_OPTS", "AWS_")


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that the project reads."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # Without this, Python would read the old bytecode of a file that a test rewrites within a second.
    return {**inherited, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}


class Project:
    """A project in its folder; `own` marks the project that starts the servers, which others share."""

    def __init__(self, folder: Path, servers: Servers, own: bool = False) -> None:
        self.folder = folder
        self.servers = servers
        self.own = own

    @classmethod
    def generate(cls, parent: Path, servers: Servers, own: bool = False, **answers: str) -> "Project":
        """Run cookiecutter with these answers and the defaults for the rest."""
        name = answers.get("projectName", "image-classifier")
        arguments = [f"{option}={value}" for option, value in answers.items()]
        program = Path(sys.executable).with_name("cookiecutter")
        command = [program, "--no-input", "--default-config", "--output-dir", parent, ROOT, *arguments]
        completed = subprocess.run(
            command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stderr
        return cls(parent / name, servers, own)

    def variant(self, name: str, **files: str) -> "Project":
        """Return a copy of the project with other files, for example dataset="…" for dataset.py."""
        folder = self.folder.parent / "variants" / self.folder.name / name
        shutil.copytree(self.folder, folder)
        for module, text in files.items():
            (folder / f"{module}.py").write_text(text, encoding="utf-8")
        return Project(folder, self.servers)

    def answer(self, **answers: str) -> None:
        """Change values in project.yaml."""
        file = self.folder / "project.yaml"
        text = file.read_text(encoding="utf-8")
        for name, value in answers.items():
            text, count = re.subn(f"(?m)^( *{name}: ).*", rf"\g<1>{value}", text)
            assert count == 1, f"project.yaml has {count} lines with {name}"
        file.write_text(text, encoding="utf-8")

    @property
    def schema(self) -> str:
        """The name of the schema, the registered model and the experiment."""
        answers = yaml.safe_load((self.folder / "project.yaml").read_text(encoding="utf-8"))
        return answers["projectName"].replace("-", "_")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the project's commands: its own servers, or the bindings of another's."""
        inherited = clean_environment()
        if self.own:
            return {**inherited, "LOCAL_STATE": str(self.servers.state)}
        # end_leftovers finds processes by LOCAL_STATE, though this project starts no server.
        return {
            **inherited,
            "LOCAL_STATE": str(self.servers.state),
            "SERVICE_BINDING_ROOT": str(self.servers.bindings),
            "MLFLOW_TRACKING_URI": self.servers.mlflow,
        }

    def local(
        self, *command: str, status: int = 0, seconds: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `python3 -m local …` and expect this exit status within the time limit."""
        completed = subprocess.run(
            [*LOCAL, *command],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        self.servers.outputs.append(completed.stdout + completed.stderr)
        assert completed.returncode == status, (
            f"{command} exited with {completed.returncode}:\n{completed.stdout}\n{completed.stderr}"
        )
        return completed

    def run(self, *command: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's environment."""
        return self.local("run", "--", *command, status=status, **variables)

    def pipeline(self, *steps: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m pipeline …`."""
        return self.run("python", "-m", "pipeline", *steps, status=status, **variables)

    def refuses(self, *steps: str) -> str:
        """Run steps, expect a failure, and return its one-line message."""
        completed = self.pipeline(*steps, status=1)
        (sentence,) = completed.stderr.strip().splitlines()
        assert sentence.startswith("error: ")
        assert "Traceback" not in completed.stdout
        return sentence

    @contextlib.contextmanager
    def started(self, *steps: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Start `python -m pipeline …`; kill it after the block if it still runs."""
        process = subprocess.Popen(
            [*LOCAL, "run", "--", "python", "-m", "pipeline", *steps],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()

    def end_of(self, process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
        """Wait for a started command; return exit status, stdout and stderr."""
        stdout, stderr = process.communicate(timeout=seconds)
        self.servers.outputs.append(stdout + stderr)
        return process.returncode, stdout, stderr

    @contextlib.contextmanager
    def database(self, binding: str) -> Iterator[Database]:
        """Open a session with a binding."""
        connection = self.servers.connect(binding)
        try:
            yield Database(connection, self.schema)
        finally:
            connection.close()

    def training_runs(self, statement: str, run: int) -> list[tuple[Any, ...]]:
        """Run a query in which `{run}` stands for the hash of the run with this number."""
        find = "(SELECT run_hash FROM {schema}.training_run WHERE parameters::json ->> 'run' = '{number}')"
        text = statement.replace("{run}", find.replace("{number}", str(run)))
        with self.database("trainer") as database:
            return database.query(text)

    def epochs(self, run: int) -> list[tuple[Any, ...]]:
        """Return number and metrics of each committed epoch of a run."""
        return self.training_runs(
            "SELECT epoch, train_loss, train_accuracy, val_loss, val_accuracy FROM {schema}.training_epoch "
            "WHERE run_hash = {run} ORDER BY epoch",
            run,
        )


def step_lines(output: str, steps: list[str]) -> list[str]:
    """Return the names of the steps in the order of their results; elapsed times of a watched step are none."""
    printed = re.findall(r"^(\w+): (?!\d+ s(?:,|$)).*", output, re.MULTILINE)
    return [name for name in printed if name in steps]


def entry_points(project: Project) -> list[str]:
    """Return the entry points of MLproject."""
    return list(yaml.safe_load((project.folder / "MLproject").read_text(encoding="utf-8"))["entry_points"])


def chain(project: Project) -> list[str]:
    """Return the steps that `all` runs: the entry points up to deploy_inference_db."""
    names = entry_points(project)
    return names[: names.index("deploy_inference_db") + 1]
