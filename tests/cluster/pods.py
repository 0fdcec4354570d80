"""Pods that run one script in an image of this machine."""

import json

from .kubernetes import Cluster

# An HTTP request without curl: Debian's bash can open TCP connections.
REQUEST = "exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    imagePullPolicy: Never
    command: [bash, -c, {script}]
"""


def pod(name: str, image: str, script: str) -> str:
    """Return the manifest of a pod that runs a script, quoted as JSON, which is valid YAML."""
    return POD.format(name=name, image=image, script=json.dumps(script))


def run_pod(cluster: Cluster, namespace: str, image: str, name: str, script: str) -> str:
    """Run a pod until it completes and return its output."""
    cluster.apply(pod(name, image, script), namespace)

    def final_phase() -> str:
        phase: str = cluster.get("pod", name, namespace)["status"].get("phase", "")
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = cluster.wait_for(f"the end of pod {name}", final_phase, 60)
    output = cluster.logs(name, namespace)
    assert phase == "Succeeded", output
    return output


def answer_of(cluster: Cluster, namespace: str, name: str, image: str, address: str, port: int = 80) -> str:
    """Return the answer to an HTTP request that a new pod sends, or the reason why there is none."""
    request = REQUEST.format(host=address, port=port)
    return run_pod(cluster, namespace, image, name, f"({request}) 2>&1 || exit 0").strip()
