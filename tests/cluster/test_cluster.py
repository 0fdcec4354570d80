"""The cluster itself: what the scenarios rely on works, and nothing is left behind."""

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .errors import Refused
from .kubernetes import Cluster

ANSWER = "answer of this machine"
# Without curl: a shell's own connection, of which Debian's bash knows.
ASK = "exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
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
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
# A server of a few lines: perl is part of Debian's base system.
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
# It adds, changes and removes files of the layers below.
DOCKERFILE = """
ARG BASE
FROM ${BASE}
COPY greeting \\
    /greeting
RUN cat /greeting >> /etc/motd && rm /etc/issue
USER 10001:10001
"""
UNKNOWN_FIELDS = {
    "Workflow": ("argoproj.io/v1alpha1", "{entypoint: all}", "spec.entypoint"),
    "WorkflowEventBinding": ("argoproj.io/v1alpha1", "{event: {selector: x}, sumbit: {}}", "spec.sumbit"),
    "App": ("kappctrl.k14s.io/v1alpha1", "{fetch: [{git: {url: x, branch: main}}]}", "spec.fetch[0].git.branch"),
    "ExternalSecret": ("external-secrets.io/v1", "{refreshIntervall: 1h}", "spec.refreshIntervall"),
    "Workload": ("carto.run/v1alpha1", "{sauce: {}}", "spec.sauce"),
    "ServiceBinding": (
        "servicebinding.io/v1beta1",
        "{service: {apiVersion: v1, kind: Secret, name: a}, workload: {apiVersion: v1, kind: Pod, nome: a}}",
        "spec.workload.nome",
    ),
    "Deployment": ("apps/v1", "{replica: 1}", "spec.replica"),
}


def pod(name: str, image: str, script: str) -> str:
    """Return the manifest of a pod that runs a script; JSON is YAML, whatever the script holds."""
    return POD.format(name=name, image=image, script=json.dumps(script))


def run_pod(cluster: Cluster, namespace: str, image: str, name: str, script: str) -> str:
    """Run a pod to its end and return what it printed."""
    cluster.apply(pod(name, image, script), namespace)

    def ended() -> str:
        phase: str = cluster.get("pod", name, namespace)["status"].get("phase", "")
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = cluster.wait_for(f"the end of pod {name}", ended, 60)
    printed = cluster.logs(name, namespace)
    assert phase == "Succeeded", printed
    return printed


def test_pod_runs(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    """A pod runs, and its log can be read."""
    assert "Debian GNU/Linux 12" in run_pod(cluster, namespace, debian_pods, "hello", "cat /etc/os-release")


def test_service_address_leads_to_its_pod(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    """Another pod and this machine reach a pod by the address of its Service."""
    cluster.apply(pod("web", debian_pods, SERVER), namespace)
    cluster.apply(SERVICE, namespace)
    cluster.wait_for_condition("pod", "web", "condition=Ready", namespace)
    address = cluster.get("service", "web", namespace)["spec"]["clusterIP"]
    ask = ASK.format(host=address, port=80)
    # The proxy learns of the pod a moment after it is ready.
    patient = f"for _ in $(seq 50); do ({ask}) 2>/dev/null && exit; sleep 0.2; done; exit 1"
    assert "from the Service" in run_pod(cluster, namespace, debian_pods, "client", patient)
    here = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=20, check=True)
    assert "from the Service" in here.stdout


@contextlib.contextmanager
def local_server() -> Iterator[int]:
    """A server on 127.0.0.1 alone; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ANSWER.encode())

        def log_message(self, *_: object) -> None:
            """Be silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_pod_reaches_published_port(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    """A pod reaches a port of this machine's 127.0.0.1 that was published, and no other."""
    with local_server() as port:
        ask = ASK.format(host=cluster.host, port=port)
        assert "refused" in run_pod(cluster, namespace, debian_pods, "before", f"({ask}) 2>&1 || true")
        assert cluster.publish(port) == f"{cluster.host}:{port}"
        assert ANSWER in run_pod(cluster, namespace, debian_pods, "after", ask)


def test_app_deploys_from_git(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """kapp-controller fetches a repository, renders it with ytt and deploys it with kapp."""
    (tmp_path / "config.yaml").write_text(TEMPLATE, encoding="utf-8")
    repository = cluster.repository("greeting")
    commit = repository.push(tmp_path)
    assert repository.head() == commit
    cluster.apply(APP.format(namespace=namespace, url=repository.url), namespace)
    try:
        found = cluster.wait_for("the ConfigMap", lambda: cluster.find("configmap", "greeting", namespace))
        assert found["data"] == {"text": "hello from ytt"}
        cluster.wait_for_condition("app", "greeting", "condition=ReconcileSucceeded", namespace)
        assert commit[:12] in cluster.get("app", "greeting", namespace)["status"]["fetch"]["stdout"]
    finally:
        cluster.kubectl("delete", "app", "greeting", f"--namespace={namespace}")
    assert cluster.find("configmap", "greeting", namespace) is None


def test_workflow_succeeds(cluster: Cluster, namespace: str, debian_pods: str) -> None:
    """A Workflow's second step gets what the first one found out."""
    cluster.apply(WORKFLOW.format(namespace=namespace, image=debian_pods), namespace)

    def ended() -> str:
        status = cluster.get("workflow", "two-steps", namespace).get("status", {})
        phase: str = status.get("phase", "")
        return f"{phase} {status.get('message', '')}".strip() if phase not in ("", "Pending", "Running") else ""

    assert cluster.wait_for("the end of the Workflow", ended, 90) == "Succeeded"


def test_built_image_runs(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """A Dockerfile's image runs; it is built anew when a file that it copies has changed, and only then."""
    dockerfile, greeting = tmp_path / "Dockerfile", tmp_path / "greeting"
    dockerfile.write_text(DOCKERFILE, encoding="utf-8")
    look = "tail -1 /etc/motd; cat /etc/issue; id -u"
    references = []
    for number, text in enumerate(("hello", "goodbye")):
        greeting.write_text(f"{text}\n", encoding="utf-8")
        reference = cluster.build_image(tmp_path, dockerfile, "localhost/greeting:1")
        (tmp_path / "other").touch()
        assert cluster.build_image(tmp_path, dockerfile, "localhost/greeting:1") == reference
        cluster.load_image(reference)
        printed = run_pod(cluster, namespace, "localhost/greeting:1", f"greeting-{number}", f"({look}) 2>&1")
        assert printed == f"{text}\ncat: /etc/issue: No such file or directory\n10001\n"
        references.append(reference)
        # What no pod uses is collected now, but for the images.
        cluster.kubectl("delete", "pod", "--all", f"--namespace={namespace}")
    assert references[0] != references[1]


@pytest.mark.parametrize("kind", UNKNOWN_FIELDS)
def test_unknown_fields_are_refused(cluster: Cluster, kind: str) -> None:
    """The API server names a field that a kind does not have."""
    version, spec, field = UNKNOWN_FIELDS[kind]
    manifest = f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: wrong}}, spec: {spec}}}"
    with pytest.raises(Refused, match=re.escape(f'unknown field "{field}"')):
        cluster.dry_run_strict(manifest)


def test_second_cluster_is_refused(cluster: Cluster) -> None:
    """One cluster a machine: a second start says so and harms nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "up"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "a cluster runs already: end it with `python -m cluster down`\n"
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"
