"""The cluster's paths and addresses. There is at most one cluster per machine."""

from pathlib import Path

STATE = Path("/var/lib/in-database-ml-cluster")
LOGS = STATE / "logs"
KEYS = STATE / "keys"
PROCESSES = STATE / "processes"
REPOSITORIES = STATE / "repositories"
CONTAINERD = STATE / "containerd.sock"
KUBECONFIG = STATE / "admin.kubeconfig"
# Exists when `up` has finished.
READY = STATE / "ready"

NODE = "node"
# The node's address; the API server listens here.
NODE_ADDRESS = "10.96.0.1"
# This machine's address for the node and its pods.
HOST_ADDRESS = "10.96.0.2"
SERVICES = "10.96.1.0/24"
PODS = "10.244.0.0/24"
# The first address of SERVICES: the Service `kubernetes`.
API_SERVICE = "10.96.1.1"
# The network link between this machine and the node.
LINK = "in-database-ml"
CGROUP = "in-database-ml-cluster"
