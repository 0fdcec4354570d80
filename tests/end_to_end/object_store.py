"""A real S3 store, as a test sees it: MinIO with keys of its own, one bucket, and what lies in it."""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools import minio

from .servers import wait_until

BUCKET = "tracking-artifacts"
LIST = """
import json, os, boto3
client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
pages = client.get_paginator("list_objects_v2").paginate(Bucket=os.environ["BUCKET"])
print(json.dumps({found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}))
"""


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ObjectStore:
    """MinIO in a folder; stopped and started again it holds what it held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.secret = "key" + secrets.token_hex(8), secrets.token_hex(20)
        self.port = free_port()
        # A folder at the top is a bucket.
        (folder / "data" / BUCKET).mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """What a person sets so that a tracking server keeps its artifacts here."""
        return {
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/of/the-project",
            "MLFLOW_S3_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def start(self) -> None:
        """Start it and wait for its answer."""
        command = [minio.program(), "server", "--quiet", "--address", f"127.0.0.1:{self.port}", self.folder / "data"]
        keys = {"MINIO_ROOT_USER": self.key, "MINIO_ROOT_PASSWORD": self.secret, "MINIO_BROWSER": "off"}
        environment = {"PATH": os.defpath, "HOME": str(self.folder), **keys}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, 60, "MinIO")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/minio/health/ready")
            return connection.getresponse().status == http.client.OK
        return False

    def stop(self) -> None:
        """End it; its data stays."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Be away for a block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def objects(self, environment: Path) -> dict[str, int]:
        """Return key and size of all that lies in the bucket, asked with the boto3 of a Python environment."""
        told = {"PATH": os.defpath, "BUCKET": BUCKET, "AWS_DEFAULT_REGION": "us-east-1", **self.variables}
        done = subprocess.run(
            [environment / "bin" / "python", "-c", LIST], env=told, capture_output=True, text=True, check=True
        )
        found: dict[str, int] = json.loads(done.stdout)
        return found
