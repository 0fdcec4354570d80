"""The certificates, keys and kubeconfigs of the cluster, created for each start."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from .node import run
from .places import API_SERVICE, KEYS, KUBECONFIG, NODE, NODE_ADDRESS, STATE

DAYS = "30"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
KUBELET_KUBECONFIG = STATE / "kubelet.kubeconfig"
SIGNED_BY_CA = ("-CA", KEYS / "authority.crt", "-CAkey", KEYS / "authority.key")


def make() -> None:
    """Create the CA, the certificates of API server, administrator and kubelet, and the key for service accounts."""
    KEYS.mkdir(mode=0o700)
    _certificate("authority", "/CN=in-database-ml-cluster", ["basicConstraints=critical,CA:true"], signer=[])
    names = f"DNS:kubernetes.default.svc,IP:{NODE_ADDRESS},IP:{API_SERVICE}"
    _certificate("apiserver", "/CN=kube-apiserver", [f"subjectAltName={names}"])
    _certificate("admin", "/O=system:masters/CN=admin", ["extendedKeyUsage=clientAuth"])
    use = "extendedKeyUsage=clientAuth,serverAuth"
    _certificate("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", [use, f"subjectAltName=IP:{NODE_ADDRESS}"])
    key = KEYS / "accounts.key"
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])
    run(["openssl", "pkey", "-in", key, "-pubout", "-out", KEYS / "accounts.pub"])
    _kubeconfig(KUBECONFIG, "admin")
    _kubeconfig(KUBELET_KUBECONFIG, "kubelet")


def _certificate(name: str, subject: str, extensions: Sequence[str], signer: Sequence[object] = SIGNED_BY_CA) -> None:
    """Create a key and its certificate; with an empty `signer` it is self-signed."""
    added = [word for extension in extensions for word in ("-addext", extension)]
    files: list[object] = ["-keyout", KEYS / f"{name}.key", "-out", KEYS / f"{name}.crt"]
    run(["openssl", "req", "-x509", *NEW_KEY, "-days", DAYS, "-subj", subject, *added, *signer, *files])


def _kubeconfig(path: Path, name: str) -> None:
    """Write the kubeconfig of a user, as JSON, which is also YAML."""

    def content(file: str) -> str:
        return base64.b64encode((KEYS / file).read_bytes()).decode("ascii")

    cluster = {"server": f"https://{NODE_ADDRESS}", "certificate-authority-data": content("authority.crt")}
    user = {"client-certificate-data": content(f"{name}.crt"), "client-key-data": content(f"{name}.key")}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(kubeconfig, indent=1), encoding="utf-8")
