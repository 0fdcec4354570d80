"""Starts and stops the cluster, and reports whether it runs."""

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
# kapp-controller waits for these kinds when it starts. Its own API server, which does not run here, would serve them.
PACKAGING_KINDS = {"Package": "packages", "PackageMetadata": "packagemetadatas"}
PACKAGING_GROUP = "data.packaging.carvel.dev"


def up() -> Cluster:
    """Remove the rest of an interrupted start, if any, and start the cluster. Raises ClusterError."""
    debian.install()
    with _exclusive_lock():
        if is_running():
            raise ClusterError("a cluster runs already: end it with `python -m cluster down`")
        _remove()
        built = parts()
        system_images = [images.pause(), images.argoexec()]
        try:
            _start(built, system_images)
        except BaseException:
            _stop()
            raise
    return Cluster()


def down() -> None:
    """Stop the cluster and remove everything that it created."""
    with _exclusive_lock():
        _remove()


def is_running() -> bool:
    """Return whether a start has finished and the node runs."""
    return READY.exists() and node.is_running()


@contextlib.contextmanager
def _exclusive_lock() -> Iterator[None]:
    """Allow one start or stop at a time on this machine."""
    descriptor = os.open(STATE.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ClusterError(
            "another process is starting or stopping the cluster; try again when it has finished"
        ) from None
    finally:
        os.close(descriptor)


def _start(built: Parts, system_images: Sequence[Path]) -> None:
    for folder in (STATE, LOGS, PROCESSES):
        folder.mkdir(mode=0o755)
    certificates.make()
    components.configure()
    node.start()
    _run_components(components.storage(built))
    with ThreadPoolExecutor(1) as executor:
        loading = executor.submit(_load, system_images)
        kubernetes = Cluster()
        _wait("the API server", lambda: _output(kubernetes, "get", "--raw=/readyz"), ["etcd", "kube-apiserver"])
        _run_components(components.cluster(built))
        _define(kubernetes, built.definitions)
        loading.result()
    _run_components(components.platform(built))
    _wait("the node", lambda: _node_is_ready(kubernetes), ["kubelet", "containerd", "kube-apiserver"])
    _run_components(components.network_policies(built))
    _wait("Argo Workflows", _argo_is_ready, ["workflow-controller"])
    _wait("kapp-controller", _kapp_controller_is_ready, ["kapp-controller", "kapp-controller-exec"])
    for name in ("kube-proxy", "kube-router", "kube-scheduler", "kube-controller-manager"):
        Process(name).check()
    for namespace in ("default", *NAMESPACES):
        probe = functools.partial(kubernetes.find, "serviceaccount", "default", namespace)
        _wait("the accounts", probe, ["kube-controller-manager"])
    READY.touch()


def _run_components(group: Sequence[Component]) -> None:
    for component in group:
        node.start_component(component.name, component.words, component.environment)


def _wait(event: str, probe: Callable[[], object], names: Sequence[str]) -> None:
    """Wait for the named components; the message of a failure names their logs."""

    def check() -> None:
        for name in names:
            Process(name).check()

    try:
        wait_for(event, probe, START_SECONDS, check)
    except CommandFailed:
        raise
    except ClusterError as error:
        logs = " and ".join(str(Process(name).log) for name in names)
        raise ClusterError(f"{error}: read {logs}") from error


def _load(archives: Sequence[Path]) -> None:
    _wait("containerd", _containerd_is_ready, ["containerd"])
    for archive in archives:
        images.load(archive)


def _define(kubernetes: Cluster, definitions: Sequence[Path]) -> None:
    """Create the definitions of all kinds, and the namespaces of the controllers."""
    packaging = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [_definition(kind) for kind in PACKAGING_KINDS]}
    )
    files = [f"--filename={path}" for path in definitions]
    # `create`, because a definition is too long for the annotation that `apply` writes.
    kubernetes.kubectl("create", "--validate=false", "--filename=-", stdin=packaging)
    kubernetes.kubectl("create", "--validate=false", *files)
    _wait("the definitions", lambda: _all_are_established(kubernetes), ["kube-apiserver"])
    for namespace in NAMESPACES:
        kubernetes.kubectl("create", "namespace", namespace)
    kubernetes.kubectl("create", "configmap", "workflow-controller-configmap", "--namespace=argo")


def _all_are_established(kubernetes: Cluster) -> bool:
    columns = "--output=custom-columns=:.status.conditions[*].type"
    conditions = kubernetes.kubectl("get", "crd", columns, "--no-headers")
    return all("Established" in line for line in conditions.splitlines())


def _definition(kind: str) -> dict[str, object]:
    """Return a definition of a packaging kind that accepts any object."""
    plural = PACKAGING_KINDS[kind]
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    any_object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": any_object}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{PACKAGING_GROUP}"},
        "spec": {"group": PACKAGING_GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _output(kubernetes: Cluster, *words: str) -> str:
    """Return the output of kubectl, empty if it fails."""
    with contextlib.suppress(CommandFailed):
        return kubernetes.kubectl(*words)
    return ""


def _containerd_is_ready() -> bool:
    with contextlib.suppress(CommandFailed):
        node.run(["ctr", "--address", CONTAINERD, "--connect-timeout", "1s", "version"])
        return True
    return False


def _node_is_ready(kubernetes: Cluster) -> bool:
    state = kubernetes.find("node", NODE)
    conditions = state["status"].get("conditions", []) if state else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _argo_is_ready() -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(components.ARGO_HEALTH, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def _kapp_controller_is_ready() -> bool:
    return "Starting workers" in Process("kapp-controller").log.read_text(encoding="utf-8", errors="replace")


def _stop() -> None:
    """Kill all processes, and remove everything but the logs."""
    for process in started():
        if process != node.UNSHARE:
            # For a component, this is `nsenter`, which waits for it; the component itself is killed with the node.
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
