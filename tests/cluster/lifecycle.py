"""Starting the cluster, its end, and whether it runs."""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import certificates, components, debian, images, node
from .components import Component
from .errors import ClusterError, CommandFailed
from .kubernetes import Cluster
from .parts import Parts, parts
from .places import CONTAINERD, LOGS, NODE, PROCESSES, READY, STATE
from .processes import Process, started
from .waiting import wait_for

START_SECONDS = 120
NAMESPACES = ("argo", "kapp-controller")
# Kinds that kapp-controller's own API server offers, which does not run here: it waits for them when it starts.
OFFERED = {"Package": "packages", "PackageMetadata": "packagemetadatas"}
OFFERED_GROUP = "data.packaging.carvel.dev"


def up() -> Cluster:
    """Start the cluster; whatever an interrupted start left is removed before. Raises ClusterError."""
    debian.install()
    with _alone():
        if is_running():
            raise ClusterError("a cluster runs already: end it with `python -m cluster down`")
        _remove()
        built = parts()
        own = [images.pause(), images.argoexec()]
        try:
            _start(built, own)
        except BaseException:
            _stop()
            raise
    return Cluster()


def down() -> None:
    """End the cluster and remove all that it has left."""
    with _alone():
        _remove()


def is_running() -> bool:
    """Whether the cluster was started to its end and its node is there."""
    return READY.exists() and node.is_there()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one start or end at a time be at work on this machine."""
    descriptor = os.open(STATE.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ClusterError("the cluster is being started or ended by somebody else") from None
    finally:
        os.close(descriptor)


def _start(built: Parts, own: Sequence[Path]) -> None:
    for folder in (STATE, LOGS, PROCESSES):
        folder.mkdir(mode=0o755)
    certificates.make()
    components.configure()
    node.start()
    _run(components.storage(built))
    with ThreadPoolExecutor(1) as other:
        loading = other.submit(_load, own)
        kubernetes = Cluster()
        _wait("the API server", lambda: _answers(kubernetes, "get", "--raw=/readyz"), ["etcd", "kube-apiserver"])
        _run(components.cluster(built))
        _define(kubernetes, built.definitions)
        loading.result()
    _run(components.platform(built))
    _wait("the node", lambda: _node_is_ready(kubernetes), ["kubelet", "containerd", "kube-apiserver"])
    _wait("Argo Workflows", _argo_is_ready, ["workflow-controller"])
    _wait("kapp-controller", _kapp_controller_is_ready, ["kapp-controller", "kapp-controller-exec"])
    for name in ("kube-proxy", "kube-scheduler", "kube-controller-manager"):
        Process(name).check()
    for namespace in ("default", *NAMESPACES):
        look = functools.partial(kubernetes.find, "serviceaccount", "default", namespace)
        _wait("the accounts", look, ["kube-controller-manager"])
    READY.touch()


def _run(wanted: Sequence[Component]) -> None:
    for component in wanted:
        node.start_component(component.name, component.words, component.environment)


def _wait(what: str, look: Callable[[], object], names: Sequence[str]) -> None:
    """Wait for one of the components; the message of a failure says which log to read."""

    def check() -> None:
        for name in names:
            Process(name).check()

    try:
        wait_for(what, look, START_SECONDS, check)
    except CommandFailed:
        raise
    except ClusterError as error:
        logs = " and ".join(str(Process(name).log) for name in names)
        raise ClusterError(f"{error}: read {logs}") from error


def _load(own: Sequence[Path]) -> None:
    _wait("containerd", _containerd_is_ready, ["containerd"])
    for archive in own:
        images.load(archive)


def _define(kubernetes: Cluster, definitions: Sequence[Path]) -> None:
    """Define the kinds, and make the namespaces of those who look at them."""
    offered = json.dumps({"apiVersion": "v1", "kind": "List", "items": [_offered(kind) for kind in OFFERED]})
    files = [f"--filename={path}" for path in definitions]
    # Created, not applied: a definition is too long for the annotation that apply writes.
    kubernetes.kubectl("create", "--validate=false", "--filename=-", stdin=offered)
    kubernetes.kubectl("create", "--validate=false", *files)
    _wait("the definitions", lambda: _all_are_established(kubernetes), ["kube-apiserver"])
    for namespace in NAMESPACES:
        kubernetes.kubectl("create", "namespace", namespace)
    kubernetes.kubectl("create", "configmap", "workflow-controller-configmap", "--namespace=argo")


def _all_are_established(kubernetes: Cluster) -> bool:
    columns = "--output=custom-columns=:.status.conditions[*].type"
    told = kubernetes.kubectl("get", "crd", columns, "--no-headers")
    return all("Established" in line for line in told.splitlines())


def _offered(kind: str) -> dict[str, object]:
    plural = OFFERED[kind]
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{OFFERED_GROUP}"},
        "spec": {"group": OFFERED_GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _answers(kubernetes: Cluster, *words: str) -> str:
    with contextlib.suppress(CommandFailed):
        return kubernetes.kubectl(*words)
    return ""


def _containerd_is_ready() -> bool:
    with contextlib.suppress(CommandFailed):
        node.run(["ctr", "--address", CONTAINERD, "--connect-timeout", "1s", "version"])
        return True
    return False


def _node_is_ready(kubernetes: Cluster) -> bool:
    found = kubernetes.find("node", NODE)
    conditions = found["status"].get("conditions", []) if found else []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _argo_is_ready() -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), direct.open(components.ARGO_HEALTH, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def _kapp_controller_is_ready() -> bool:
    return "Starting workers" in Process("kapp-controller").log.read_text(encoding="utf-8", errors="replace")


def _stop() -> None:
    """End all processes and what the kernel keeps for them; logs stay."""
    for process in started():
        if process != node.FIRST:
            # Of a component of the node this is the one that waits for it; it ends with the node anyway.
            process.stop()
    node.stop()
    for path in STATE.iterdir() if STATE.exists() else ():
        if path != LOGS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove() -> None:
    _stop()
    shutil.rmtree(STATE, ignore_errors=True)
    if STATE.exists():
        raise ClusterError(f"{STATE} cannot be removed")
