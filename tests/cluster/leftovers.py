"""Snapshots of everything that a cluster could leave behind on a machine."""

import shutil
import subprocess
from pathlib import Path

from .node import CONTROL_GROUPS
from .places import CGROUP, STATE

# Prefixes of process names. Other users of this machine may run containers too: a process belongs to the cluster only
# if it has such a name, or if its command line contains the cluster's folder.
PROGRAMS = ("containerd", "etcd", "git-daemon", "kapp-controller", "kube", "workflow-contr")
GROUPS = (CGROUP, "kubepods", "k8s.io")
MOUNTS_OF_OTHERS = ("/var/lib/containers/", "/var/lib/docker/")
FOLDERS = ("/etc/cni/net.d", "/run/containerd", "/run/netns", "/run/runc", "/run/secrets", "/var/lib/cni")
FOLDERS_OF_A_NODE = ("/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")
SETTINGS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")


def snapshot() -> dict[str, list[str]]:
    """Return the existing items by kind."""
    return {
        "control groups": sorted(str(path) for name in GROUPS for path in CONTROL_GROUPS.glob(f"**/{name}")),
        "files": [path for path in (str(STATE), *FOLDERS, *FOLDERS_OF_A_NODE) if _has_content(Path(path))],
        "mounts": _mounts(),
        "network links and addresses": _lines("ip", "-oneline", "address"),
        "network routes": _lines("ip", "route", "show", "table", "all"),
        "nftables rules": _lines("nft", "list", "ruleset"),
        "processes": _processes(),
        "settings": [f"{name} = {Path('/proc/sys', name).read_text(encoding='ascii').strip()}" for name in SETTINGS],
    }


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the items that were added or removed, by kind."""
    changes = {kind: sorted(set(before[kind]) ^ set(after[kind])) for kind in before}
    return {kind: items for kind, items in changes.items() if items}


def _has_content(path: Path) -> bool:
    """Return whether a folder exists; containerd's empty lock in its default folder counts for nothing."""
    if not path.is_dir():
        return path.exists()
    return str(path) != "/etc/cni/net.d" or any(file.name != "cni.lock" for file in path.iterdir())


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    mounts = (line.split()[1] for line in lines)
    return sorted(mount for mount in mounts if not mount.startswith(MOUNTS_OF_OTHERS))


def _lines(*command: str | Path) -> list[str]:
    if not shutil.which(str(command[0])):
        return []
    output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    # The remaining lifetime of an address or route changes by itself.
    return sorted(line.strip().partition("valid_lft")[0] for line in output.splitlines())


def _processes() -> list[str]:
    """Return PID and name of each process that may belong to a cluster."""
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if name.startswith(PROGRAMS) or str(STATE) in arguments or "cluster.ports" in arguments:
            processes.append(f"{folder.name} {name}")
    return sorted(processes)
