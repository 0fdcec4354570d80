"""The image of an inference database in a pod without privileges: PL/Python has the packages of predict."""

import json
from pathlib import Path

from conftest import ROOT
from tools import doors

from .kubernetes import Cluster

IMAGE = "localhost/inference-db:1"
VERSIONS = """
CREATE FUNCTION versions() RETURNS text LANGUAGE plpython3u AS $$
import numpy
import onnxruntime
return onnxruntime.__version__ + ' ' + numpy.__version__
$$;
SELECT versions();
"""


def pod() -> str:
    """Return the manifest of a pod as docs/how-to/kubernetes.md describes it."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "env": [
            {"name": "POSTGRES_USER_FILE", "value": "/secret/username"},
            {"name": "POSTGRES_PASSWORD_FILE", "value": "/secret/password"},
            {"name": "POSTGRES_DB", "value": "inference"},
        ],
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "secret", "mountPath": "/secret", "readOnly": True},
        ],
    }
    volumes = [
        {"name": "data", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "secret", "secret": {"secretName": "superuser"}},
    ]
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001},
        "containers": [container],
        "volumes": volumes,
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "inference-db"}, "spec": spec})


def test_pl_python_has_the_locked_packages(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    project = doors.accelerator(ROOT, {}, tmp_path / "p").folder
    assert project is not None
    dockerfile = project / "deploy" / "images" / "inference-db.Dockerfile"
    cluster.load_image(cluster.build_image(project, dockerfile, IMAGE))
    for key, value in (("username", "deployer"), ("password", "not to be printed")):
        (tmp_path / key).write_text(value)
    files = [f"--from-file={tmp_path / key}" for key in ("username", "password")]
    cluster.kubectl(f"--namespace={namespace}", "create", "secret", "generic", "superuser", *files)
    cluster.apply(pod(), namespace)
    cluster.wait_for_condition("pod", "inference-db", "condition=Ready", namespace, 60)
    psql = "PGPASSWORD=$(cat /secret/password) psql -qtA -h 127.0.0.1 -U deployer -v ON_ERROR_STOP=1 inference"
    command = ["exec", "--stdin", "inference-db", "--", "sh", "-c", psql]
    output = cluster.kubectl(f"--namespace={namespace}", *command, stdin=VERSIONS)
    lock = (project / "requirements" / "inference-db.txt").read_text(encoding="utf-8")
    onnxruntime, numpy = output.split()
    assert f"onnxruntime=={onnxruntime} " in lock
    assert f"numpy=={numpy} " in lock
    assert "not to be printed" not in cluster.logs("inference-db", namespace)
