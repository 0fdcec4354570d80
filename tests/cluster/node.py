"""The node: namespaces of its own for processes, mounts and network, joined with this machine by one network link.

Whatever the node's components start, mount or write into the kernel's tables belongs to these namespaces and goes with
their first process. Outside of them there are the link, a control group and the state folder.
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

FIRST = Process("node")
# What others have mounted here is not held. The folders that components write to by fixed names are the node's own;
# its state stays where it is.
# A child that ends is nobody's: with SIGCHLD ignored the kernel collects it.
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
# Settings of the whole machine which a kubelet insists on; here it finds them, and the machine's are as they were.
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
    """Make the namespaces, the link and the control group."""
    there = STATE / "node-is-there"
    settings = " ".join(f"{name}={value}" for name, value in KERNEL_SETTINGS.items())
    namespaces = ["--fork", "--kill-child", "--pid", "--net", "--mount", "--mount-proc"]
    FIRST.start(["unshare", *namespaces, "sh", "-c", FIRST_PROCESS, "sh", STATE, settings])
    wait_for("the node's namespaces", there.exists, 20, FIRST.check)
    _join()
    for folder in _control_groups():
        _make_control_group(folder)


def is_there() -> bool:
    """Whether the node's first process runs."""
    return FIRST.number is not None


def command(words: Sequence[object]) -> list[str]:
    """Return the command that runs another one in the node."""
    return ["nsenter", f"--target={_first()}", "--pid", "--net", "--mount", "--", *map(str, words)]


def start_component(name: str, words: Sequence[object], environment: Mapping[str, str] | None = None) -> Process:
    """Start a component in the node."""
    return Process(name).start(command(words), environment)


def stop() -> None:
    """End whatever runs in the node and remove what was made outside of its namespaces."""
    with contextlib.suppress(ClusterError, ProcessLookupError):
        # With the first process the kernel ends all others; only then does the one that started it end.
        os.kill(_first(), signal.SIGKILL)
        wait_for("the end of the node's processes", lambda: FIRST.number is None, 30)
    FIRST.stop()
    link = Path(f"/sys/class/net/{LINK}")
    # The link ends with the node's network, which the kernel removes when it finds time for it.
    with contextlib.suppress(CommandFailed):
        run(["ip", "link", "delete", LINK])
    wait_for(f"the end of the network link {LINK}", lambda: not link.exists(), 20)
    for folder in _control_groups():
        wait_for(f"the end of {folder}", functools.partial(_remove_control_group, folder), 20)


def run(words: Sequence[object], seconds: float = 60) -> str:
    """Run a command and return what it prints. Raises CommandFailed."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise CommandFailed(" ".join(map(str, words[:4])), done.stderr or done.stdout)
    return done.stdout


def _first() -> int:
    """Return the number of the node's first process: the one child of `unshare`."""
    number = FIRST.number
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii"))
    raise ClusterError("no cluster runs")


def _join() -> None:
    """Join the node with this machine, and tell this machine the way to pods and Services."""
    run(["ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(_first())])
    run(["ip", "address", "add", HOST_ADDRESS, "peer", f"{NODE_ADDRESS}/32", "dev", LINK])
    run(["ip", "link", "set", LINK, "up"])
    run(command(["ip", "address", "add", NODE_ADDRESS, "peer", f"{HOST_ADDRESS}/32", "dev", "eth0"]))
    run(command(["ip", "link", "set", "eth0", "up"]))
    run(command(["ip", "route", "add", "default", "via", HOST_ADDRESS]))
    for network in (SERVICES, PODS):
        run(["ip", "route", "add", network, "via", NODE_ADDRESS, "dev", LINK])


def _control_groups() -> list[Path]:
    """Return the cluster's control group in each hierarchy: one of cgroup v2, or several of v1."""
    if (CONTROL_GROUPS / "cgroup.controllers").exists():
        return [CONTROL_GROUPS / CGROUP]
    # Names such as cpu may be links to hierarchies that hold several controllers.
    hierarchies = {folder.resolve() for folder in CONTROL_GROUPS.iterdir() if (folder / "cgroup.procs").exists()}
    return sorted(folder / CGROUP for folder in hierarchies)


def _make_control_group(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        # Version 1 hands neither down.
        if (folder / name).exists() and (folder.parent / name).exists():
            (folder / name).write_text((folder.parent / name).read_text(encoding="ascii"), encoding="ascii")


def _remove_control_group(folder: Path) -> bool:
    """Remove a control group with all below it; whether it is gone."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
    return not folder.exists()
