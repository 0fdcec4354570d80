"""The MLflow server: runs, metrics and registered models in SQLite, artifacts in a folder; loopback only.

`local/mlflow_backend.py` is the same server with other stores.
"""

import os
import shlex
from collections.abc import Sequence

from local.processes import clean_environment, find, says_ok
from local.servers import Server
from local.state import make_folder


class MlflowServer(Server):
    """`mlflow server` with one worker; the environment is the pipeline's."""

    def is_one(self, command: list[str]) -> bool:
        """Mlflow itself, or the worker it starts: both are given this server's folder."""
        worker = command[1:3] == ["-m", "uvicorn"] and str(self.folder) in command
        return worker or (command[1:3] == ["-m", "mlflow"] and self._worker_options in command)

    @property
    def _worker_options(self) -> str:
        # Where uvicorn looks for modules: nothing is there; it makes the worker recognisable.
        return f"--app-dir {shlex.quote(str(self.folder))}"

    def main_process(self) -> int | None:
        """Return the id of the oldest process."""
        return next(iter(find(self.is_one)), None)

    @property
    def address(self) -> str:
        """The address for MLFLOW_TRACKING_URI."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Return whether /health says OK."""
        return says_ok(self.port, "/health")

    def prepare(self) -> None:
        """Make the folder for database and artifacts."""
        make_folder(self.data, 0o700, server=True)

    def command(self) -> Sequence[str]:
        """Return the server's command line."""
        return [
            f"{self.environment}/bin/python", "-m", "mlflow", "server",
            *self.stores(), "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--uvicorn-opts", self._worker_options,
        ]  # fmt: skip

    def stores(self) -> Sequence[str]:
        """Return the options that say where runs and artifacts are kept."""
        database = f"sqlite:///{self.data}/mlflow.db"
        return ("--backend-store-uri", database, "--artifacts-destination", f"{self.data}/artifacts")

    def variables(self) -> dict[str, str]:
        """Return the server's environment: no job runner (eight processes less), no telemetry."""
        return clean_environment(
            HOME=str(self.home),
            PATH=f"{self.environment}/bin{os.pathsep}{clean_environment()['PATH']}",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
            PYTHONNOUSERSITE="1",
        )

    def finish(self) -> None:
        """Nothing is left to do: the server makes its tables itself."""
