"""A single-node Kubernetes on this machine for tests; `python -m cluster` starts and removes it.

The node has its own process, mount and network namespaces, so killing its first process stops everything in it.
Addresses: 10.96.0.1 is the node with the API server, 10.96.0.2 is this machine as the node's pods see it.
"""
