"""A real Kubernetes of one node on this machine, for tests: started and removed again by `python -m cluster`.

The node lives in namespaces of its own (processes, mounts, network), so that ending its first process ends all of it.
Its addresses: 10.96.0.1 is the node with the API server, 10.96.0.2 is this machine as the node's pods see it.
"""
