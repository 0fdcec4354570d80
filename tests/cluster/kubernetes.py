"""Operations on the running cluster: objects, images, ports and repositories."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from . import building, images, ports
from .errors import CommandFailed, Refused
from .parts import parts
from .places import HOST_ADDRESS, KUBECONFIG, STATE
from .repositories import Repository
from .waiting import wait_for

T = TypeVar("T")
KUBECTL_SECONDS = 120


class Cluster:
    """The running cluster; every method raises ClusterError with the cluster's message."""

    kubeconfig = KUBECONFIG
    # This machine's address for pods; only ports of `publish` and `repository` listen there.
    host = HOST_ADDRESS

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and return what it prints. Raises CommandFailed."""
        program = parts().kubernetes / "kubectl"
        own = [f"--kubeconfig={KUBECONFIG}", f"--cache-dir={STATE}/kubectl"]
        result = subprocess.run(
            [program, *own, *words], input=stdin, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False
        )
        if result.returncode:
            raise CommandFailed(f"kubectl {' '.join(words[:4])}", result.stderr or result.stdout)
        return result.stdout

    def get(self, kind: str, name: str = "", namespace: str = "default", selector: str = "") -> dict[str, Any]:
        """Return an object; without a name, return a list object with `items`."""
        words = [kind, *([name] if name else []), *([f"--selector={selector}"] if selector else [])]
        manifest: dict[str, Any] = json.loads(self.kubectl("get", *words, f"--namespace={namespace}", "--output=json"))
        return manifest

    def find(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """Return an object, None if there is none."""
        output = self.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json", "--ignore-not-found")
        return json.loads(output) if output else None

    def apply(self, manifest: str, namespace: str = "") -> str:
        """Apply objects; the API server rejects unknown fields. Raises Refused."""
        return self._send("apply", manifest, namespace)

    def create(self, manifest: str, namespace: str = "") -> str:
        """Create objects, such as a Workflow with `generateName`; return kinds and names. Raises Refused."""
        return self._send("create", manifest, namespace, "--output=name")

    def dry_run_strict(self, manifest: str, namespace: str = "") -> str:
        """Let the API server check new objects without storing them. Raises Refused."""
        return self._send("create", manifest, namespace, "--dry-run=server")

    def _send(self, verb: str, manifest: str, namespace: str, *more: str) -> str:
        where = [f"--namespace={namespace}"] if namespace else []
        try:
            return self.kubectl(verb, "--filename=-", "--validate=strict", *where, *more, stdin=manifest)
        except CommandFailed as error:
            raise Refused(error.output.strip()) from error

    def create_namespace(self, name: str) -> str:
        """Create a namespace, wait until pods can run in it, and return its name."""
        self.kubectl("create", "namespace", name)
        self.wait_for(f"the accounts of namespace {name}", lambda: self.find("serviceaccount", "default", name), 30)
        return name

    def wait_for(self, event: str, probe: Callable[[], T | None], seconds: float = 60) -> T:
        """Return the first true value of `probe`. Raises ClusterError after the deadline."""
        return wait_for(event, probe, seconds)

    def wait_for_condition(
        self, kind: str, name: str, condition: str, namespace: str = "default", seconds: int = 60
    ) -> None:
        """Wait as `kubectl wait --for=…` does: `condition=Ready`, `jsonpath={.status.phase}=Succeeded`, `delete`."""
        self.kubectl(
            "wait", f"{kind}/{name}", f"--for={condition}", f"--namespace={namespace}", f"--timeout={seconds}s"
        )

    def logs(self, pod: str, namespace: str = "default", container: str = "") -> str:
        """Return the output of a pod's container; `pod` may be a selector such as `app=api`."""
        target = [f"--selector={pod}", "--tail=-1"] if "=" in pod else [pod]
        return self.kubectl(
            "logs", *target, f"--namespace={namespace}", *([f"--container={container}"] if container else [])
        )

    def publish(self, port: int) -> str:
        """Let pods reach a port of this machine's 127.0.0.1; return its address for pods, 10.96.0.2:PORT."""
        return ports.publish(port)

    def repository(self, name: str) -> Repository:
        """Return a git repository that pods and kapp-controller can read; create it if it does not exist."""
        return Repository.serve(name)

    def build_image(self, context: Path, dockerfile: Path, tag: str, **build_args: str) -> Path:
        """Return the reference of an image; build it unless the cache has one of the same Dockerfile and files."""
        return building.build_image(context, dockerfile, tag, **build_args)

    def load_image(self, image: Path) -> None:
        """Load a built image or an archive into the node; pods use its tag with `imagePullPolicy: Never`."""
        images.load(image)
