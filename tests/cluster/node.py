"""The node: its own process, mount and network namespaces, connected to this machine by one network link.

Processes, mounts and kernel tables of the node's components belong to these namespaces, and disappear with the first
process in them. Outside of them, a node has only the link, a control group and the state folder.
"""

import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import ClusterError, CommandFailed
from .places import CGROUP, HOST_ADDRESS, LINK, NODE_ADDRESS, PODS, SERVICES, STATE
from .processes import Process
from .waiting import wait_for

# The process outside the namespaces: `unshare`, which waits for the first process in them.
UNSHARE = Process("node")
# Runs as the first process. It unmounts this machine's mounts, so that the node does not keep them busy. It mounts new
# folders where components write to fixed paths, and keeps the state folder. It ignores SIGCHLD, so that the kernel
# reaps orphans.
FIRST_PROCESS = """
set -eu
state=$1
for mounted in $(awk '$2 ~ "^/(run|var/lib)/" {print $2}' /proc/self/mounts | sort --reverse); do
    umount --lazy "$mounted"
done
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/state
mount --bind "$state" /run/state
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p "$state"
mount --bind /run/state "$state"
mount -t tmpfs -o mode=755 tmpfs /var/log
for wanted in $2; do
    echo "${wanted#*=}" > "/run/${wanted##*/}"
    mount --bind "/run/${wanted##*/}" "/proc/sys/${wanted%%=*}"
done
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
touch "$state/node-is-there"
trap '' CHLD
exec sleep infinity
"""
# Kernel settings that a kubelet requires. Mounted files show it these values; the machine's own values do not change.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
CONTROL_GROUPS = Path("/sys/fs/cgroup")


def start() -> None:
    """Create the namespaces, the link and the control group."""
    marker = STATE / "node-is-there"
    settings = " ".join(f"{name}={value}" for name, value in KERNEL_SETTINGS.items())
    namespaces = ["--fork", "--kill-child", "--pid", "--net", "--mount", "--mount-proc"]
    UNSHARE.start(["unshare", *namespaces, "sh", "-c", FIRST_PROCESS, "sh", STATE, settings])
    wait_for("the node's namespaces", marker.exists, 20, UNSHARE.check)
    _connect()
    for folder in _control_groups():
        _make_control_group(folder)


def is_running() -> bool:
    """Return whether the node's first process runs."""
    return UNSHARE.pid is not None


def command(words: Sequence[object]) -> list[str]:
    """Return the command that runs `words` in the node."""
    return ["nsenter", f"--target={_first_pid()}", "--pid", "--net", "--mount", "--", *map(str, words)]


def start_component(name: str, words: Sequence[object], environment: Mapping[str, str] | None = None) -> Process:
    """Start a component in the node."""
    return Process(name).start(command(words), environment)


def stop() -> None:
    """Kill all processes of the node, and remove the link and the control groups."""
    with contextlib.suppress(ClusterError, ProcessLookupError):
        # Without the first process, the kernel kills all others; `unshare` exits after that.
        os.kill(_first_pid(), signal.SIGKILL)
        wait_for("the end of the node's processes", lambda: UNSHARE.pid is None, 30)
    UNSHARE.stop()
    link = Path(f"/sys/class/net/{LINK}")
    # The kernel removes the link together with the node's network namespace, but only after some time.
    with contextlib.suppress(CommandFailed):
        run(["ip", "link", "delete", LINK])
    wait_for(f"the end of the network link {LINK}", lambda: not link.exists(), 20)
    for folder in _control_groups():
        wait_for(f"the end of {folder}", functools.partial(_remove_control_group, folder), 20)


def run(words: Sequence[object], seconds: float = 60) -> str:
    """Run a command and return what it prints. Raises CommandFailed."""
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=seconds, check=False)
    if result.returncode:
        raise CommandFailed(" ".join(map(str, words[:4])), result.stderr or result.stdout)
    return result.stdout


def _first_pid() -> int:
    """Return the PID of the node's first process, the only child of `unshare`."""
    pid = UNSHARE.pid
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))
    raise ClusterError("no cluster runs")


def _connect() -> None:
    """Connect the node to this machine, and route pods and Services through the node."""
    run(["ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(_first_pid())])
    run(["ip", "address", "add", HOST_ADDRESS, "peer", f"{NODE_ADDRESS}/32", "dev", LINK])
    run(["ip", "link", "set", LINK, "up"])
    run(command(["ip", "address", "add", NODE_ADDRESS, "peer", f"{HOST_ADDRESS}/32", "dev", "eth0"]))
    run(command(["ip", "link", "set", "eth0", "up"]))
    run(command(["ip", "route", "add", "default", "via", HOST_ADDRESS]))
    for network in (SERVICES, PODS):
        run(["ip", "route", "add", network, "via", NODE_ADDRESS, "dev", LINK])


def _control_groups() -> list[Path]:
    """Return the cluster's control group in each hierarchy: cgroup v2 has one hierarchy, v1 has several."""
    if (CONTROL_GROUPS / "cgroup.controllers").exists():
        return [CONTROL_GROUPS / CGROUP]
    # Names such as cpu may be links to a hierarchy of several controllers.
    hierarchies = {folder.resolve() for folder in CONTROL_GROUPS.iterdir() if (folder / "cgroup.procs").exists()}
    return sorted(folder / CGROUP for folder in hierarchies)


def _make_control_group(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        # In cgroup v1, a new group does not inherit them.
        if (folder / name).exists() and (folder.parent / name).exists():
            (folder / name).write_text((folder.parent / name).read_text(encoding="ascii"), encoding="ascii")


def _remove_control_group(folder: Path) -> bool:
    """Try to remove a control group with its children; return whether it is gone."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
    return not folder.exists()
