"""A generated project that is delivered to the cluster, with databases and MLflow of this machine."""

import contextlib
import datetime
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from end_to_end.project import Project
from end_to_end.servers import wait_until
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
    """The project's repository, its App and what the App makes; `folder` is a person's checkout."""

    def __init__(self, cluster: Cluster, project: Project, repository: Repository) -> None:
        self.cluster = cluster
        self.project = project
        self.repository = repository
        self.folder = project.folder

    # What a person does

    def choose_values(self, more: Object) -> None:
        """Write further values into deploy/values.yaml."""
        path = self.folder / "deploy" / "values.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(merged(values, more)), encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not say {old}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def push(self, message: str) -> str:
        """Commit everything, push it, and return the commit."""
        return self.repository.push(self.folder, message)

    def create_secrets(self, work: Path) -> None:
        """Make the Secrets as the README says: a folder a role, with addresses that pods reach."""
        for role in ROLES:
            folder = work / "bindings" / role
            folder.mkdir(parents=True)
            keys = self.project.servers.binding(role)
            host, _, port = self.cluster.publish(int(keys["port"])).partition(":")
            # The certificate names localhost, which this machine is not to a pod.
            keys |= {"host": host, "port": port, "sslmode": "verify-ca"}
            for key, value in keys.items():
                (folder / key).write_text(value, encoding="utf-8")
            self.kubectl("create", "secret", "generic", f"{NAME}-{role}", f"--from-file={folder}")

    def apply_app(self) -> None:
        """Render the accounts and the App, and apply them."""
        self.cluster.apply(accounts_and_app(self.folder, more={}), NAMESPACE)

    def sync(self) -> Object:
        """Let kapp-controller look at the repository now, and return the App when it is done."""
        for paused in (True, False):
            self.kubectl("patch", "app", NAME, "--type=merge", f"--patch={json.dumps({'spec': {'paused': paused}})}")
        return self.wait_for_app()

    def wait_for_app(self) -> Object:
        """Return the App when it has deployed the branch's commit."""

        def look() -> Object | None:
            app = self.get("app", NAME)
            status = app.get("status", {})
            conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
            assert conditions.get("ReconcileFailed") != "True", status.get("usefulErrorMessage")
            is_done = (
                conditions.get("ReconcileSucceeded") == "True"
                and status["observedGeneration"] == app["metadata"]["generation"]
                and self.repository.head() in status["fetch"]["stdout"]
            )
            return app if is_done else None

        return self.cluster.wait_for("the App", look, 120)

    # What is there

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl in the project's namespace."""
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *words, stdin=stdin)

    def get(self, kind: str, name: str = "", selector: str = "") -> Object:
        """Return an object of the namespace, or a list."""
        return self.cluster.get(kind, name, NAMESPACE, selector)

    def runs(self) -> list[Object]:
        """Return the runs that commits have started, oldest first."""
        found = [run for run in self.get("workflow")["items"] if "-pipeline-ver-" in run["metadata"]["name"]]
        return sorted(found, key=number)

    def wait_for_run(self, count: int) -> Object:
        """Return the newest run when there are so many, however it ends."""
        found = self.cluster.wait_for(f"run {count}", lambda: self.newest(count), 60)
        name = found["metadata"]["name"]
        return self.cluster.wait_for(f"the end of {name}", lambda: self.ended(name), RUN_SECONDS)

    def newest(self, count: int) -> Object | None:
        """Return the newest run, None while there are fewer than `count`; more are a mistake."""
        found = self.runs()
        assert not found or number(found[-1]) <= count, [run["metadata"]["name"] for run in found]
        return found[-1] if found and number(found[-1]) == count else None

    def ended(self, name: str) -> Object | None:
        """Return a Workflow that has ended."""
        found = self.get("workflow", name)
        return found if found.get("status", {}).get("phase") in ("Succeeded", "Failed", "Error") else None

    def wait_for_pod(self, run: str, step: str, attempt: int = 0) -> str:
        """Return the name of a step's pod when its main container runs."""
        node = f"{step}({attempt})"

        def look() -> str | None:
            pods = self.get("pod", selector=f"workflows.argoproj.io/workflow={run}")["items"]
            for pod in pods:
                name = pod["metadata"]["annotations"].get("workflows.argoproj.io/node-name", "")
                main = [each for each in pod["status"].get("containerStatuses", []) if each["name"] == "main"]
                if name.endswith(node) and main and "running" in main[0]["state"]:
                    return str(pod["metadata"]["name"])
            assert not self.ended(run), f"{run} ended without a running {node}"
            return None

        return self.cluster.wait_for(f"{node} of {run}", look, RUN_SECONDS)

    def log(self, run: Object, step: str) -> str:
        """Return what all tries of a step printed."""
        selector = f"workflows.argoproj.io/workflow={run['metadata']['name']}"
        pods = [
            pod["metadata"]["name"]
            for pod in self.get("pod", selector=selector)["items"]
            if f".{step}(" in pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]
        ]
        return "".join(self.cluster.logs(pod, NAMESPACE, "main") for pod in pods)

    def submit(self, prefix: str, entrypoint: str, **arguments: str) -> str:
        """Start a Workflow of the project's template by hand, and return its name."""
        parameters = [{"name": name, "value": value} for name, value in arguments.items()]
        spec = {
            "entrypoint": entrypoint,
            "workflowTemplateRef": {"name": f"{NAME}-pipeline"},
            "arguments": {"parameters": parameters},
        }
        metadata = {"generateName": f"{NAME}-{prefix}-", "namespace": NAMESPACE}
        manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}
        return self.kubectl("create", "--filename=-", "--output=name", stdin=json.dumps(manifest)).strip().split("/")[1]

    def ask(self, process: str, path: str, image: bytes | None = None) -> tuple[int, Any]:
        """Ask a process of the app at its Service's address; return status and answer."""
        service = self.get("service", f"{NAME}-{process}")
        url = f"http://{service['spec']['clusterIP']}{path}"
        request = urllib.request.Request(url)
        if image is not None:
            head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\nContent-Type: image/png'
            request = urllib.request.Request(url, head + b"\r\n\r\n" + image + b"\r\n--x--\r\n")
            request.add_header("Content-Type", "multipart/form-data; boundary=x")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=20) as answer:
                content, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            content, status = error.read(), error.code
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode(errors="replace")

    # What happens to servers

    @contextlib.contextmanager
    def away(self, database: str) -> Iterator[None]:
        """Stop a database as a crash would, and start it again at the end."""
        main = int((self.project.servers.state / database / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(main, signal.SIGQUIT)
        wait_until(lambda: not Path(f"/proc/{main}").exists(), 30, f"the end of {database}")
        try:
            yield
        finally:
            self.project.local("start")


def number(run: Object) -> int:
    """Return which of the runs it is."""
    return int(run["metadata"]["name"].rpartition("-")[2])


def phase(found: Object) -> str:
    """Return a Workflow's phase."""
    return str(found.get("status", {}).get("phase", "Pending"))


def pipeline_run(run: Object) -> str:
    """Return how the steps of a run name it: by name and creation time."""
    created = datetime.datetime.fromisoformat(run["metadata"]["creationTimestamp"])
    return f"{run['metadata']['name']}-{int(created.timestamp())}"


def steps(run: Object) -> list[tuple[str, str]]:
    """Return name and phase of each step, in the order in which they began; tries of one step are one."""
    nodes = run["status"]["nodes"].values()
    found = [node for node in nodes if node["type"] in ("Retry", "Skipped") and node["displayName"] != "finish-run"]
    return [(node["displayName"], node["phase"]) for node in sorted(found, key=lambda node: node["startedAt"])]


def tries(run: Object, step: str) -> list[Object]:
    """Return the tries of a step, in their order."""
    nodes = run["status"]["nodes"].values()
    found = [node for node in nodes if node["type"] == "Pod" and node["displayName"].startswith(f"{step}(")]
    return sorted(found, key=lambda node: int(node["displayName"].rpartition("(")[2].rstrip(")")))
