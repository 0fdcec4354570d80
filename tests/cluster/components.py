"""The commands and the configuration of the node's components."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import images
from .certificates import KUBELET_KUBECONFIG
from .parts import Parts
from .places import API_SERVICE, CGROUP, CONTAINERD, KEYS, KUBECONFIG, NODE, NODE_ADDRESS, PODS, SERVICES, STATE

# Only processes in the node reach this 127.0.0.1.
ETCD = "http://127.0.0.1:2379"
# In the node's own /run, which disappears with the node.
RUN_FOLDER = Path("/run/in-database-ml")
ARGO_HEALTH = f"http://{NODE_ADDRESS}:6060/healthz"
CONTAINERD_CONFIGURATION = f"""\
version = 2
root = "{STATE}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  # Without this, no pod starts on a machine that may not lower oom_score_adj.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{STATE}/network"
"""
NETWORK: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {"type": "host-local", "subnet": PODS, "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}
KUBELET: dict[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": NODE_ADDRESS,
    "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{KEYS}/authority.crt"}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupRoot": f"/{CGROUP}",
    "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
    "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    "failSwapOn": False,
    "healthzPort": 0,
    # Never remove an image: none can be fetched again.
    "imageGCHighThresholdPercent": 100,
    "makeIPTablesUtilChains": False,
    "nodeStatusUpdateFrequency": "2s",
    "resolvConf": "",
    "serializeImagePulls": False,
    "syncFrequency": "10s",
    "tlsCertFile": f"{KEYS}/kubelet.crt",
    "tlsPrivateKeyFile": f"{KEYS}/kubelet.key",
    "volumePluginDir": f"{STATE}/volume-plugins",
}
KUBE_PROXY: dict[str, Any] = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "mode": "nftables",
    "clientConnection": {"kubeconfig": str(KUBECONFIG)},
    "clusterCIDR": PODS,
    "hostnameOverride": NODE,
    "healthzBindAddress": "127.0.0.1:10256",
    "metricsBindAddress": "127.0.0.1:10249",
    # Keep the limits of connection tracking, which apply to the whole machine.
    "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
}


@dataclass(frozen=True)
class Component:
    """A program of the node, its command and its environment variables."""

    name: str
    words: Sequence[object]
    environment: Mapping[str, str] = field(default_factory=dict)


def configure() -> None:
    """Write the components' configuration files."""
    (STATE / "containerd.toml").write_text(CONTAINERD_CONFIGURATION, encoding="utf-8")
    (STATE / "network").mkdir()
    for name, content in {
        "network/pods.conflist": NETWORK,
        "kubelet.json": KUBELET,
        "kube-proxy.json": KUBE_PROXY,
    }.items():
        (STATE / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def storage(parts: Parts) -> list[Component]:
    """Return the components without dependencies: etcd, container runtime and API server."""
    data = ["--data-dir", RUN_FOLDER / "etcd", "--unsafe-no-fsync", "--listen-client-urls", ETCD]
    etcd = [_program("etcd"), *data, "--advertise-client-urls", ETCD, "--logger", "zap", "--log-level", "warn"]
    containerd = [_program("containerd"), "--config", STATE / "containerd.toml"]
    return [Component("etcd", etcd), Component("containerd", containerd), _api_server(parts)]


def _api_server(parts: Parts) -> Component:
    words = [
        parts.kubernetes / "kube-apiserver",
        f"--etcd-servers={ETCD}",
        f"--bind-address={NODE_ADDRESS}",
        f"--advertise-address={NODE_ADDRESS}",
        "--secure-port=443",
        f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={KEYS}/apiserver.crt",
        f"--tls-private-key-file={KEYS}/apiserver.key",
        f"--client-ca-file={KEYS}/authority.crt",
        f"--kubelet-client-certificate={KEYS}/admin.crt",
        f"--kubelet-client-key={KEYS}/admin.key",
        f"--kubelet-certificate-authority={KEYS}/authority.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-key-file={KEYS}/accounts.pub",
        f"--service-account-signing-key-file={KEYS}/accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--profiling=false",
    ]
    return Component("kube-apiserver", words)


def cluster(parts: Parts) -> list[Component]:
    """Return the components that need the API server."""
    common = [f"--kubeconfig={KUBECONFIG}", "--leader-elect=false", "--secure-port=0"]
    accounts = [f"--root-ca-file={KEYS}/authority.crt", f"--service-account-private-key-file={KEYS}/accounts.key"]
    kubelet = [f"--config={STATE}/kubelet.json", f"--kubeconfig={KUBELET_KUBECONFIG}", f"--root-dir={STATE}/kubelet"]
    address = [f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}"]
    folder = parts.kubernetes
    return [
        Component("kube-controller-manager", [folder / "kube-controller-manager", *common, *accounts]),
        Component("kube-scheduler", [folder / "kube-scheduler", *common]),
        Component("kubelet", [folder / "kubelet", *kubelet, *address]),
        Component("kube-proxy", [folder / "kube-proxy", f"--config={STATE}/kube-proxy.json"]),
    ]


def network_policies(parts: Parts) -> list[Component]:
    """Return the component that enforces NetworkPolicies, which needs the node. kube-proxy serves the Services."""
    words = [
        parts.kube_router / "kube-router",
        f"--kubeconfig={KUBECONFIG}",
        f"--hostname-override={NODE}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        f"--service-cluster-ip-range={SERVICES}",
        "--health-port=0",
    ]
    return [Component("kube-router", words)]


def platform(parts: Parts) -> list[Component]:
    """Return the components that need the definitions of their kinds: Argo Workflows and kapp-controller."""
    executor = ["--executor-image", images.ARGOEXEC, "--executor-image-pull-policy", "Never"]
    options = ["--kubeconfig", KUBECONFIG, "--namespace", "argo", "--configmap", "workflow-controller-configmap"]
    argo = [parts.argo / "workflow-controller", *options, *executor]
    return [
        # The default delay of 10 s is longer than most short steps.
        Component("workflow-controller", argo, {"LEADER_ELECTION_DISABLE": "true", "DEFAULT_REQUEUE_TIME": "1s"}),
        *_kapp_controller(parts),
    ]


def _kapp_controller(parts: Parts) -> list[Component]:
    """Return the two processes of kapp-controller, with the environment and files of a pod."""
    home = RUN_FOLDER / "kapp-controller"
    tools = [str(folder) for folder in (parts.ytt, parts.carvel)]
    environment = {
        "HOME": str(home),
        "KUBECONFIG": str(KUBECONFIG),
        "KAPPCTRL_MEM_TMP_DIR": str(home),
        "KAPPCTRL_SIDECAREXEC_SOCK": str(home / "exec.sock"),
        "KAPPCTRL_SYSTEM_NAMESPACE": "kapp-controller",
        "KAPPCTRL_API_PORT": "10350",
        "KUBERNETES_SERVICE_HOST": API_SERVICE,
        "KUBERNETES_SERVICE_PORT": "443",
        "PATH": os.pathsep.join([*tools, os.environ["PATH"]]),
    }
    account = "/run/secrets/kubernetes.io/serviceaccount"
    prepare = f"mkdir -p {home} {account} && cp {KEYS}/authority.crt {account}/ca.crt"
    program = parts.kapp_controller / "kapp-controller"
    serve = "-start-api-server=false -packaging-global-namespace=kapp-controller -metrics-bind-address=0"
    return [
        Component("kapp-controller-exec", ["sh", "-ec", f"{prepare}; exec {program} --sidecarexec"], environment),
        Component("kapp-controller", ["sh", "-ec", f"{prepare}; exec {program} {serve}"], environment),
    ]


def _program(name: str) -> str:
    """Return the absolute path of a Debian program, because the node's PATH may differ."""
    return shutil.which(name) or name
