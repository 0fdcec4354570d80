"""The Debian packages that the cluster needs, and their installation."""

import os
import shutil
import subprocess
import sys

from .errors import ClusterError

# The package of each program or file.
PACKAGES = {
    "buildah": "buildah",
    "containerd": "containerd",
    "ctr": "containerd",
    "debootstrap": "debootstrap",
    "etcd": "etcd-server",
    "git": "git",
    "ip": "iproute2",
    "ipset": "ipset",
    "iptables": "iptables",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/usr/lib/git-core/git-daemon": "git",
}


def missing() -> list[str]:
    """Return the needed packages that are not installed."""
    return sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})


def obstacle() -> str:
    """Return why no cluster can run on this machine; empty if one can."""
    if sys.platform != "linux":
        return "the test cluster needs Linux"
    if os.geteuid():
        return "the test cluster needs root: it makes namespaces, network links and mounts"
    packages = missing()
    if packages and not shutil.which("apt-get"):
        return f"the test cluster needs the Debian packages {' '.join(packages)}, and there is no apt-get"
    return ""


def install() -> None:
    """Install the missing packages. Raises ClusterError."""
    reason = obstacle()
    if reason:
        raise ClusterError(reason)
    packages = missing()
    if not packages:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = ["apt-get", "--quiet=2", "--yes", "--no-install-recommends"]
    for command in ([*get, "update"], [*get, "install", *packages]):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        if result.returncode:
            error = result.stderr.strip()[-500:]
            raise ClusterError(f"{' '.join(packages)} cannot be installed; apt-get says: {error}")
    if missing():
        raise ClusterError(f"{' '.join(missing())}: installed, but not found on PATH")
