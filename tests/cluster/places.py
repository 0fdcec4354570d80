"""Where the cluster keeps its state, and its addresses. There is one cluster a machine."""

from pathlib import Path

STATE = Path("/var/lib/in-database-ml-cluster")
LOGS = STATE / "logs"
KEYS = STATE / "keys"
PROCESSES = STATE / "processes"
REPOSITORIES = STATE / "repositories"
CONTAINERD = STATE / "containerd.sock"
KUBECONFIG = STATE / "admin.kubeconfig"
# There when `up` has come to its end.
READY = STATE / "ready"

NODE = "node"
# The node; the API server listens here.
NODE_ADDRESS = "10.96.0.1"
# This machine, as the node and its pods see it.
HOST_ADDRESS = "10.96.0.2"
SERVICES = "10.96.1.0/24"
PODS = "10.244.0.0/24"
# The first address of SERVICES: the Service `kubernetes`.
API_SERVICE = "10.96.1.1"
# The network link between this machine and the node.
LINK = "in-database-ml"
CGROUP = "in-database-ml-cluster"
