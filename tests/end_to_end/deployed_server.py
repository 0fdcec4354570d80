"""The tracking server of deploy/mlflow, run on this machine with the commands and variables of its pod."""

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tools import manifests

from .backed_project import Backed
from .object_store import BUCKET, free_port
from .servers import wait_until


class Deployed:
    """The containers of the Deployment in deploy/mlflow, run as processes of this machine."""

    def __init__(self, backed: Backed, folder: Path) -> None:
        self.backed = backed
        self.files = folder / "files"
        self.port = free_port()
        self.secrets = {
            "mlflow-database": {"username": "team", "password": "the database's"},
            "mlflow-artifacts": {"access-key-id": backed.store.key, "secret-access-key": backed.store.secret},
            "mlflow-login": {"username": "the-admin", "password": "the first password", "secret-key": "signs forms"},
        }
        authority = (backed.state / "authority" / "ca.crt").read_text(encoding="ascii")
        values = {
            "namespace": "tracking",
            "image": "registry.example.com/ml/mlflow:1",
            "workers": 1,
            "database": {"host": "localhost", "port": backed.port("tracking"), "name": "team"},
            "artifacts": {"destination": f"s3://{BUCKET}/of/a-team", "endpoint": backed.store.address},
        }
        values["database"]["caCertificate"] = authority
        text = manifests.tracking_server(backed.project.folder, values)
        (deployment,) = manifests.of_kind(text, "Deployment")
        self.pod = deployment["spec"]["template"]["spec"]
        self.files.mkdir(parents=True)
        (config,) = manifests.of_kind(text, "ConfigMap")
        for name, content in config["data"].items():
            (self.files / name).write_text(content, encoding="utf-8")
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The address of the server."""
        return f"http://localhost:{self.port}"

    def on_this_machine(self, text: str) -> str:
        """Replace the container's paths and address by this machine's."""
        text = text.replace("/etc/mlflow", str(self.files)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        check = self.backed.project.folder / "deploy" / "mlflow" / "check_stores.py"
        return text.replace("/opt/mlflow/check_stores.py", str(check))

    def command(self, container: dict[str, Any]) -> list[str]:
        """Return the command of a container, for this machine."""
        program, *arguments = (self.on_this_machine(word) for word in container["command"])
        return [
            str(self.backed.environment / "bin" / program),
            *[str(self.port) if word == "5000" else word for word in arguments],
        ]

    def variables(self, container: dict[str, Any]) -> dict[str, str]:
        """Return the environment variables of a container, including those from Secrets."""
        variables = {"PATH": f"{self.backed.environment / 'bin'}:{os.defpath}", "PYTHONDONTWRITEBYTECODE": "1"}
        for entry in container["env"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            value = self.secrets[reference["name"]][reference["key"]] if reference else entry["value"]
            variables[entry["name"]] = value if reference else self.on_this_machine(value)
        return variables

    def initialise(self, number: int) -> subprocess.CompletedProcess[str]:
        """Run an init container until it exits."""
        container = self.pod["initContainers"][number]
        return subprocess.run(
            self.command(container), env=self.variables(container), cwd="/", capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until its readiness probe succeeds."""
        (container,) = self.pod["containers"]
        path = container["readinessProbe"]["httpGet"]["path"]
        with (self.files.parent / "log").open("wb") as log:
            self.server = subprocess.Popen(
                self.command(container), env=self.variables(container), cwd="/", stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self.status(path) == http.client.OK, 120, "the deployed server")

    def stop(self) -> None:
        """Stop the server."""
        if self.server:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(30)

    def ask(self, method: str, path: str, login: str = "", body: Any = None, host: str = "") -> tuple[int, str]:
        """Send a request; return status and body of the answer."""
        headers = {"Host": host} if host else {}
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")

    def status(self, path: str, **more: str) -> int:
        """Return the status of a GET, 0 if the server does not answer."""
        try:
            return self.ask("GET", path, **more)[0]
        except OSError:
            return 0
