"""An S3 store: MinIO with its keys and one bucket."""

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
print(json.dumps({entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}))
"""


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ObjectStore:
    """MinIO in a folder; its objects survive a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.secret = "key" + secrets.token_hex(8), secrets.token_hex(20)
        self.port = free_port()
        # MinIO serves each top folder as a bucket.
        (folder / "data" / BUCKET).mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The address of the store."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which a tracking server keeps its artifacts in this store."""
        return {
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/of/the-project",
            "MLFLOW_S3_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def start(self) -> None:
        """Start MinIO and wait until it is ready."""
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
        """Stop MinIO and keep its data."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Stop MinIO for the duration of a block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def objects(self, environment: Path) -> dict[str, int]:
        """Return the size per key of the bucket, read with the boto3 of a Python environment."""
        environment_variables = {
            "PATH": os.defpath,
            "BUCKET": BUCKET,
            "AWS_DEFAULT_REGION": "us-east-1",
            **self.variables,
        }
        completed = subprocess.run(
            [environment / "bin" / "python", "-c", LIST],
            env=environment_variables,
            capture_output=True,
            text=True,
            check=True,
        )
        sizes: dict[str, int] = json.loads(completed.stdout)
        return sizes
