"""Debian packages that the cluster needs: which are missing, and their installation."""

import os
import shutil
import subprocess
import sys

from .errors import ClusterError

# A program or file, and the package that holds it.
PACKAGES = {
    "buildah": "buildah",
    "containerd": "containerd",
    "ctr": "containerd",
    "debootstrap": "debootstrap",
    "etcd": "etcd-server",
    "git": "git",
    "ip": "iproute2",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/usr/lib/git-core/git-daemon": "git",
}


def missing() -> list[str]:
    """Return the packages that are needed and not installed."""
    return sorted({package for thing, package in PACKAGES.items() if not shutil.which(thing)})


def unfit() -> str:
    """Return why no cluster can run on this machine, nothing when one can."""
    if sys.platform != "linux":
        return "the test cluster needs Linux"
    if os.geteuid():
        return "the test cluster needs root: it makes namespaces, network links and mounts"
    wanted = missing()
    if wanted and not shutil.which("apt-get"):
        return f"the test cluster needs the Debian packages {' '.join(wanted)}, and there is no apt-get"
    return ""


def install() -> None:
    """Install what is missing. Raises ClusterError."""
    reason = unfit()
    if reason:
        raise ClusterError(reason)
    wanted = missing()
    if not wanted:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = ["apt-get", "--quiet=2", "--yes", "--no-install-recommends"]
    for command in ([*get, "update"], [*get, "install", *wanted]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise ClusterError(f"{' '.join(wanted)} cannot be installed; apt-get says: {done.stderr.strip()[-500:]}")
    if missing():
        raise ClusterError(f"{' '.join(missing())}: installed, but not found on PATH")
