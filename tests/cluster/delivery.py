"""A generated project that is deployed to the cluster, with databases and MLflow on this machine."""

import contextlib
import datetime
import hashlib
import io
import json
import os
import secrets
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from end_to_end.project import Project
from end_to_end.servers import wait_until
from PIL import Image
from tools.manifests import ROLES, accounts_and_app, merged

from .kubernetes import Cluster
from .repositories import Repository

NAMESPACE = "ml"
NAME = "image-classifier"
PIPELINE_IMAGE = "localhost/pipeline:1"
APP_IMAGE = "localhost/app:1"
RUN_SECONDS = 420
Object = dict[str, Any]


class Delivery:
    """A project's repository, its App and the objects that the App deploys; `folder` is the user's checkout."""

    def __init__(self, cluster: Cluster, project: Project, repository: Repository) -> None:
        self.cluster = cluster
        self.project = project
        self.repository = repository
        self.folder = project.folder
        self.key = secrets.token_urlsafe(32)

    # Actions of the user

    def choose_values(self, more: Object) -> None:
        """Merge values into deploy/values.yaml."""
        path = self.folder / "deploy" / "values.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(merged(values, more)), encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not contain {old}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def push(self, message: str) -> str:
        """Commit and push all files, and return the commit."""
        return self.repository.push(self.folder, message)

    def create_secrets(self, work: Path) -> None:
        """Create the Secrets as the README describes, one folder per role, with addresses that pods can reach."""
        for role in ROLES:
            folder = work / "bindings" / role
            folder.mkdir(parents=True)
            keys = self.project.servers.binding(role)
            host, _, port = self.cluster.publish(int(keys["port"])).partition(":")
            # The certificate is for localhost, but pods use another address.
            keys |= {"host": host, "port": port, "sslmode": "verify-ca"}
            for key, value in keys.items():
                (folder / key).write_text(value, encoding="utf-8")
            self.kubectl("create", "secret", "generic", f"{NAME}-{role}", f"--from-file={folder}")

    def create_key(self) -> None:
        """Create the Secret of the API's keys with one subject, who may do everything."""
        line = f"{hashlib.sha256(self.key.encode()).hexdigest()} predict,label,operate"
        literals = ["--from-literal=type=api-keys", f"--from-literal=tester={line}"]
        self.kubectl("create", "secret", "generic", f"{NAME}-api-keys", *literals)

    def apply_app(self) -> None:
        """Render the accounts and the App, and apply them."""
        self.cluster.apply(accounts_and_app(self.folder, more={}), NAMESPACE)

    def sync(self) -> Object:
        """Make kapp-controller fetch the repository now, and return the App when it is reconciled."""
        for paused in (True, False):
            self.kubectl("patch", "app", NAME, "--type=merge", f"--patch={json.dumps({'spec': {'paused': paused}})}")
        return self.wait_for_app()

    def wait_for_app(self) -> Object:
        """Return the App when it has deployed the branch's head."""

        def deployed_app() -> Object | None:
            app = self.get("app", NAME)
            status = app.get("status", {})
            conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
            assert conditions.get("ReconcileFailed") != "True", status.get("usefulErrorMessage")
            is_deployed = (
                conditions.get("ReconcileSucceeded") == "True"
                and status["observedGeneration"] == app["metadata"]["generation"]
                and self.repository.head() in status["fetch"]["stdout"]
            )
            return app if is_deployed else None

        return self.cluster.wait_for("the App", deployed_app, 120)

    # State in the cluster

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl in the project's namespace."""
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *words, stdin=stdin)

    def get(self, kind: str, name: str = "", selector: str = "") -> Object:
        """Return an object of the namespace, or a list object without a name."""
        return self.cluster.get(kind, name, NAMESPACE, selector)

    def runs(self) -> list[Object]:
        """Return the runs that commits have started, oldest first."""
        runs = [run for run in self.get("workflow")["items"] if "-pipeline-ver-" in run["metadata"]["name"]]
        return sorted(runs, key=run_number)

    def wait_for_run(self, count: int) -> Object:
        """Wait until run number `count` has completed, in any phase, and return it."""
        run = self.cluster.wait_for(f"run {count}", lambda: self.newest_run(count), 60)
        name = run["metadata"]["name"]
        return self.cluster.wait_for(f"the end of {name}", lambda: self.completed(name), RUN_SECONDS)

    def newest_run(self, count: int) -> Object | None:
        """Return the newest run, None if there are fewer than `count`; fail if there are more."""
        runs = self.runs()
        assert not runs or run_number(runs[-1]) <= count, [run["metadata"]["name"] for run in runs]
        return runs[-1] if runs and run_number(runs[-1]) == count else None

    def completed(self, name: str) -> Object | None:
        """Return a Workflow if it has completed, in any phase."""
        workflow = self.get("workflow", name)
        return workflow if phase(workflow) in ("Succeeded", "Failed", "Error") else None

    def wait_for_pod(self, run: str, step: str, attempt: int = 0) -> str:
        """Wait until the main container of a step runs, and return the name of its pod."""
        node = f"{step}({attempt})"

        def running_pod() -> str | None:
            pods = self.get("pod", selector=f"workflows.argoproj.io/workflow={run}")["items"]
            for pod in pods:
                name = pod["metadata"]["annotations"].get("workflows.argoproj.io/node-name", "")
                statuses = pod["status"].get("containerStatuses", [])
                main = [status for status in statuses if status["name"] == "main"]
                if name.endswith(node) and main and "running" in main[0]["state"]:
                    return str(pod["metadata"]["name"])
            assert not self.completed(run), f"{run} ended without a running {node}"
            return None

        return self.cluster.wait_for(f"{node} of {run}", running_pod, RUN_SECONDS)

    def log(self, run: Object, step: str) -> str:
        """Return the output of all attempts of a step."""
        selector = f"workflows.argoproj.io/workflow={run['metadata']['name']}"
        pods = [
            pod["metadata"]["name"]
            for pod in self.get("pod", selector=selector)["items"]
            if f".{step}(" in pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]
        ]
        return "".join(self.cluster.logs(pod, NAMESPACE, "main") for pod in pods)

    def submit(self, prefix: str, entrypoint: str, **arguments: str) -> str:
        """Submit a Workflow from the project's template, and return its name."""
        parameters = [{"name": name, "value": value} for name, value in arguments.items()]
        spec = {
            "entrypoint": entrypoint,
            "workflowTemplateRef": {"name": f"{NAME}-pipeline"},
            "arguments": {"parameters": parameters},
        }
        metadata = {"generateName": f"{NAME}-{prefix}-", "namespace": NAMESPACE}
        manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}
        return self.kubectl("create", "--filename=-", "--output=name", stdin=json.dumps(manifest)).strip().split("/")[1]

    def request(self, process: str, path: str, image: bytes | None = None) -> tuple[int, Any]:
        """Send a request to the Service of a process of the app; return status and response."""
        service = self.get("service", f"{NAME}-{process}")
        url = f"http://{service['spec']['clusterIP']}{path}"
        request = urllib.request.Request(url)
        if image is not None:
            head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\nContent-Type: image/png'
            request = urllib.request.Request(url, head + b"\r\n\r\n" + image + b"\r\n--x--\r\n")
            request.add_header("Content-Type", "multipart/form-data; boundary=x")
        request.add_header("Host", service["metadata"]["name"])
        request.add_header("Authorization", f"Bearer {self.key}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as response:
                content, status = response.read(), response.status
        except urllib.error.HTTPError as error:
            content, status = error.read(), error.code
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode(errors="replace")

    # State outside the cluster

    def served_version(self) -> dict[str, Any]:
        """Return the row of the served version in the inference database."""
        with self.project.database("inference-deployer") as database:
            (row,) = database.query(
                "SELECT v.version, v.git_commit, v.data_hash, v.mlflow_run, length(v.onnx) "
                "FROM {schema}.model_version v JOIN {schema}.model_alias a USING (model, version) "
                "WHERE a.alias = 'staging'"
            )
        return dict(zip(("version", "git_commit", "data_hash", "mlflow_run", "bytes"), row, strict=True))

    def newest_training(self) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
        """Return the training that was selected last, and its epochs."""
        with self.project.database("trainer") as database:
            (row,) = database.query(
                "SELECT run_hash, parameters, status, git_commit FROM {schema}.training_run "
                "ORDER BY selected_at DESC LIMIT 1"
            )
            epochs = database.query(
                "SELECT epoch, train_loss, train_accuracy, val_loss, val_accuracy FROM {schema}.training_epoch "
                "WHERE run_hash = %s ORDER BY epoch",
                (row[0],),
            )
        return dict(zip(("run_hash", "parameters", "status", "git_commit"), row, strict=True)), epochs

    def mlflow_runs(self, run: Object) -> tuple[Object, list[Object]]:
        """Return the MLflow run of a run, and the MLflow runs of its steps."""
        return self.project.servers.tracking.children(self.project.schema, pipeline_run(run))

    def database_values(self, role: str) -> dict[str, Any]:
        """Return the address of a role's database, in the form of deploy/values.yaml."""
        keys = self.project.servers.binding(role)
        return {
            "type": "postgresql",
            "host": self.cluster.host,
            "port": int(keys["port"]),
            "database": keys["database"],
            "sslmode": "verify-ca",
            "caCertificate": keys["ca.crt"] + "\n",
        }

    @contextlib.contextmanager
    def crashed(self, database: str) -> Iterator[None]:
        """Crash a database, and start it again at the end."""
        main = int((self.project.servers.state / database / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(main, signal.SIGQUIT)
        wait_until(lambda: not Path(f"/proc/{main}").exists(), 30, f"the end of {database}")
        try:
            yield
        finally:
            self.project.local("start")


def gray_png() -> bytes:
    """Return a gray image of 8 by 8 pixels as PNG."""
    file = io.BytesIO()
    Image.new("L", (8, 8), 120).save(file, "PNG")
    return file.getvalue()


def run_number(run: Object) -> int:
    """Return the number at the end of a run's name."""
    return int(run["metadata"]["name"].rpartition("-")[2])


def phase(workflow: Object) -> str:
    """Return the phase of a Workflow."""
    return str(workflow.get("status", {}).get("phase", "Pending"))


def pipeline_run(run: Object) -> str:
    """Return the identifier of a run in its steps: name and creation time."""
    created = datetime.datetime.fromisoformat(run["metadata"]["creationTimestamp"])
    return f"{run['metadata']['name']}-{int(created.timestamp())}"


def steps(run: Object) -> list[tuple[str, str]]:
    """Return name and phase of each step by start time; all attempts of a step are one entry."""
    nodes = run["status"]["nodes"].values()
    groups = [node for node in nodes if node["type"] in ("Retry", "Skipped") and node["displayName"] != "finish-run"]
    return [(node["displayName"], node["phase"]) for node in sorted(groups, key=lambda node: node["startedAt"])]


def attempts(run: Object, step: str) -> list[Object]:
    """Return the attempts of a step in order."""
    nodes = run["status"]["nodes"].values()
    pods = [node for node in nodes if node["type"] == "Pod" and node["displayName"].startswith(f"{step}(")]
    return sorted(pods, key=lambda node: int(node["displayName"].rpartition("(")[2].rstrip(")")))
