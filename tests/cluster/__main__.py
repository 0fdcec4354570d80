"""python -m cluster up|down|status: starts, stops or reports the test cluster, for use by hand."""

# ruff: noqa: T201

import sys
import time

from tools.installed import CannotInstall

from . import lifecycle
from .errors import ClusterError
from .places import HOST_ADDRESS, KUBECONFIG, LOGS, NODE_ADDRESS, PODS, SERVICES

USAGE = "python -m cluster up|down|status"


def main(words: list[str]) -> int:
    """Run a command and return its exit code; an error is one sentence."""
    commands = {"up": _up, "down": _down, "status": _status}
    if len(words) != 1 or words[0] not in commands:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return commands[words[0]]()
    except (ClusterError, CannotInstall) as error:
        print(error, file=sys.stderr)
        return 1


def _up() -> int:
    start = time.monotonic()
    lifecycle.up()
    print(f"# up in {time.monotonic() - start:.0f} s; node and API server {NODE_ADDRESS}, this machine {HOST_ADDRESS},")
    print(f"# Services {SERVICES}, pods {PODS}; logs in {LOGS}")
    print(f"export KUBECONFIG={KUBECONFIG}")
    return 0


def _down() -> int:
    lifecycle.down()
    return 0


def _status() -> int:
    running = lifecycle.is_running()
    print(f"the cluster runs: export KUBECONFIG={KUBECONFIG}" if running else "no cluster runs")
    return 0 if running else 1


sys.exit(main(sys.argv[1:]))
