"""The features of the test cluster that the other tests rely on."""

import contextlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from .kubernetes import Cluster
from .pods import REQUEST, answer_of, pod, run_pod

RESPONSE = "response of this machine"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
# Only pods with the label app: friend reach the web pod, at the port with a name.
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: 8080}]}]
"""
# Perl is part of Debian's base system.
SERVER = (
    "perl -MIO::Socket::INET -e '"
    "$s = IO::Socket::INET->new(Listen => 5, LocalPort => 8080, ReuseAddr => 1) or die;"
    'while ($c = $s->accept) { <$c>; print $c "HTTP/1.0 200 OK\\r\\n\\r\\nfrom the Service"; close $c }\''
)
APP = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: deployer}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: deployer}}
rules: [{{apiGroups: [""], resources: [configmaps], verbs: ["*"]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: deployer}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}}
subjects: [{{kind: ServiceAccount, name: deployer, namespace: {namespace}}}]
---
apiVersion: kappctrl.k14s.io/v1alpha1
kind: App
metadata: {{name: greeting}}
spec:
  serviceAccountName: deployer
  syncPeriod: 30s
  fetch: [{{git: {{url: {url}, ref: origin/main}}}}]
  template: [{{ytt: {{}}}}]
  deploy: [{{kapp: {{}}}}]
"""
TEMPLATE = """
#@ greeting = "hello from " + "ytt"
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting}
data: {text: #@ greeting
}
"""
WORKFLOW = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: pipeline}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: pipeline}}
rules: [{{apiGroups: [argoproj.io], resources: [workflowtaskresults], verbs: [create, patch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: pipeline}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: pipeline}}
subjects: [{{kind: ServiceAccount, name: pipeline, namespace: {namespace}}}]
---
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {{name: two-steps}}
spec:
  entrypoint: all
  serviceAccountName: pipeline
  templates:
  - name: all
    steps:
    - [{{name: say, template: say}}]
    - - name: hear
        template: hear
        arguments: {{parameters: [{{name: word, value: "{{{{steps.say.outputs.parameters.word}}}}"}}]}}
  - name: say
    container: {{image: {image}, imagePullPolicy: Never, command: [sh, -c, "echo heard > /tmp/word"]}}
    outputs: {{parameters: [{{name: word, valueFrom: {{path: /tmp/word}}}}]}}
  - name: hear
    inputs: {{parameters: [{{name: word}}]}}
    container: {{image: {image}, imagePullPolicy: Never, command: [test, "{{{{inputs.parameters.word}}}}", "=", heard]}}
"""
# Adds, changes and removes files of the layers below.
DOCKERFILE = """
ARG BASE
FROM ${BASE}
COPY greeting \\
    /greeting
RUN cat /greeting >> /etc/motd && rm /etc/issue
USER 10001:10001
"""


def test_a_pod_runs(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    assert "Debian GNU/Linux 12" in run_pod(cluster, namespace, debian_pods, "hello", "cat /etc/os-release")


def test_a_service_address_leads_to_its_pod(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    """Both from another pod and from this machine."""
    cluster.apply(pod("web", debian_pods, SERVER), namespace)
    cluster.apply(SERVICE, namespace)
    cluster.wait_for_condition("pod", "web", "condition=Ready", namespace)
    address = cluster.get("service", "web", namespace)["spec"]["clusterIP"]
    request = REQUEST.format(host=address, port=80)
    # kube-proxy learns of the pod shortly after it is ready.
    with_retries = f"for _ in $(seq 50); do ({request}) 2>/dev/null && exit; sleep 0.2; done; exit 1"
    assert "from the Service" in run_pod(cluster, namespace, debian_pods, "client", with_retries)
    result = subprocess.run(["bash", "-c", request], capture_output=True, text=True, timeout=20, check=True)
    assert "from the Service" in result.stdout


def test_network_policies_are_enforced(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    """A pod that the policy does not name is refused, and one that it names is not."""
    cluster.apply(pod("web", debian_pods, SERVER), namespace)
    cluster.apply(POLICY, namespace)
    cluster.wait_for_condition("pod", "web", "condition=Ready", namespace)
    request = REQUEST.format(host=cluster.get("pod", "web", namespace)["status"]["podIP"], port=8080)
    # The policy applies shortly after the pods have their addresses.
    until_refused = f"for _ in $(seq 100); do ({request}) 2>&1 | grep refused && exit; sleep 0.2; done; exit 1"
    until_answered = f"for _ in $(seq 100); do ({request}) 2>/dev/null && exit; sleep 0.2; done; exit 1"
    assert "refused" in run_pod(cluster, namespace, debian_pods, "stranger", until_refused)
    assert "from the Service" in run_pod(cluster, namespace, debian_pods, "friend", until_answered)


@contextlib.contextmanager
def local_server() -> Iterator[int]:
    """Run a server on 127.0.0.1 only; yield its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(RESPONSE.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_pod_reaches_only_published_ports(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    with local_server() as port:
        request = REQUEST.format(host=cluster.host, port=port)
        assert "refused" in answer_of(cluster, namespace, "before", debian_pods, cluster.host, port)
        assert cluster.publish(port) == f"{cluster.host}:{port}"
        assert RESPONSE in run_pod(cluster, namespace, debian_pods, "after", request)


def test_an_app_deploys_from_git(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """kapp-controller fetches a repository, renders it with ytt and deploys it with kapp."""
    (tmp_path / "config.yaml").write_text(TEMPLATE, encoding="utf-8")
    repository = cluster.repository("greeting")
    commit = repository.push(tmp_path)
    assert repository.head() == commit
    cluster.apply(APP.format(namespace=namespace, url=repository.url), namespace)
    try:
        config_map = cluster.wait_for("the ConfigMap", lambda: cluster.find("configmap", "greeting", namespace))
        assert config_map["data"] == {"text": "hello from ytt"}
        cluster.wait_for_condition("app", "greeting", "condition=ReconcileSucceeded", namespace)
        assert commit[:12] in cluster.get("app", "greeting", namespace)["status"]["fetch"]["stdout"]
    finally:
        cluster.kubectl("delete", "app", "greeting", f"--namespace={namespace}")
    assert cluster.find("configmap", "greeting", namespace) is None


def test_a_workflow_passes_an_output_to_the_next_step(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    cluster.apply(WORKFLOW.format(namespace=namespace, image=debian_pods), namespace)

    def final_phase() -> str:
        status = cluster.get("workflow", "two-steps", namespace).get("status", {})
        phase: str = status.get("phase", "")
        return f"{phase} {status.get('message', '')}".strip() if phase not in ("", "Pending", "Running") else ""

    assert cluster.wait_for("the end of the Workflow", final_phase, 90) == "Succeeded"


def test_an_image_is_rebuilt_only_for_changed_inputs(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """The image runs, and is rebuilt only when a file that its Dockerfile copies has changed."""
    dockerfile, greeting = tmp_path / "Dockerfile", tmp_path / "greeting"
    dockerfile.write_text(DOCKERFILE, encoding="utf-8")
    script = "tail -1 /etc/motd; cat /etc/issue; id -u"
    references = []
    for number, text in enumerate(("hello", "goodbye")):
        greeting.write_text(f"{text}\n", encoding="utf-8")
        reference = cluster.build_image(tmp_path, dockerfile, "localhost/greeting:1")
        (tmp_path / "other").touch()
        assert cluster.build_image(tmp_path, dockerfile, "localhost/greeting:1") == reference
        cluster.load_image(reference)
        output = run_pod(cluster, namespace, "localhost/greeting:1", f"greeting-{number}", f"({script}) 2>&1")
        assert output == f"{text}\ncat: /etc/issue: No such file or directory\n10001\n"
        references.append(reference)
        # The node now collects unused data, except for images.
        cluster.kubectl("delete", "pod", "--all", f"--namespace={namespace}")
    assert references[0] != references[1]


def test_a_second_cluster_is_refused(cluster: Cluster) -> None:
    """A second start exits with a message and leaves the cluster running."""
    result = subprocess.run(
        [sys.executable, "-m", "cluster", "up"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "a cluster runs already: end it with `python -m cluster down`\n"
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"
