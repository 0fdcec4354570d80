"""Loads built images into the node without a copy; the node reads their layers from the builder's storage.

Copying an image of three gigabytes into the node, and removing it, takes minutes. Builder and node both store a layer
as a folder of an overlay mount. So each layer becomes a snapshot of the node whose folder is the builder's, read-only.
"""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import node
from .errors import CommandFailed
from .places import CONTAINERD

CONTROL = ("ctr", "--address", str(CONTAINERD), "--namespace", "k8s.io")
SECONDS = 120
IMAGES = Path("overlay-images/images.json")
# The suffix of a file that refers to an image of the builder.
REFERENCE = ".json"
# A label of the image's configuration that protects a snapshot from garbage collection.
SNAPSHOT_LABEL = "containerd.io/gc.ref.snapshot.overlayfs"


@dataclass(frozen=True)
class Layer:
    """A layer in the builder's storage."""

    folder: Path
    digest: str
    size: int


def find(storage: Path, image: str) -> str | None:
    """Return the identifier of an image in the builder's storage, None if there is no image of this name."""
    identifiers = [entry["id"] for entry in _entries(storage / IMAGES) if image in (entry.get("names") or [])]
    return identifiers[0] if identifiers else None


def write_reference(reference: Path, storage: Path, image: str) -> None:
    """Write a file that refers to an image in the builder's storage."""
    content = {"storage": str(storage), "image": image, "identifier": find(storage, image)}
    reference.write_text(json.dumps(content), encoding="utf-8")


def is_valid(reference: Path) -> bool:
    """Return whether a reference and its image exist."""
    if not reference.exists():
        return False
    content = json.loads(reference.read_text(encoding="utf-8"))
    return any(entry["id"] == content["identifier"] for entry in _entries(Path(content["storage"]) / IMAGES))


def share(reference: Path) -> None:
    """Make the image of a reference available in the node. Raises CommandFailed."""
    content = json.loads(reference.read_text(encoding="utf-8"))
    storage, identifier = Path(content["storage"]), content["identifier"]
    # The builder names the file after its key in base64.
    name = base64.b64encode(f"sha256:{identifier}".encode()).decode("ascii")
    config = (storage / "overlay-images" / identifier / f"={name}").read_bytes()
    layers = list(_layers(storage, identifier))
    parent = ""
    for layer in layers:
        parent = _snapshot(layer, parent)
    _control("images", "import", "--no-unpack", "-", stdin=_archive(content["image"], config, layers))
    _control("content", "label", f"sha256:{identifier}", f"{SNAPSHOT_LABEL}={parent}")


def _layers(storage: Path, identifier: str) -> Iterator[Layer]:
    """Yield the layers of an image, lowest first."""
    (image,) = (entry for entry in _entries(storage / IMAGES) if entry["id"] == identifier)
    known = {entry["id"]: entry for entry in _entries(storage / "overlay-layers/layers.json")}
    chain = [image["layer"]]
    while parent := known[chain[-1]].get("parent"):
        chain.append(parent)
    for name in reversed(chain):
        yield Layer(storage / "overlay" / name / "diff", known[name]["diff-digest"], known[name]["diff-size"])


def _entries(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return entries


def _snapshot(layer: Layer, parent: str) -> str:
    """Create the snapshot of a layer on its parent's, and return its name, the chain ID of the layers so far."""
    name = _digest(f"{parent} {layer.digest}".encode()) if parent else layer.digest
    if _snapshot_exists(name):
        return name
    parents = [parent] if parent else []
    (mount,) = json.loads(_control("snapshots", "prepare", "--mounts", f"{name}-active", *parents))
    options = dict(option.partition("=")[::2] for option in mount["Options"])
    folder = Path(options.get("upperdir", mount["Source"]))
    _control("snapshots", "commit", name, f"{name}-active")
    for words in (["--bind", layer.folder, folder], ["-o", "remount,bind,ro", folder]):
        node.run(node.command(["mount", *words]))
    return name


def _snapshot_exists(name: str) -> bool:
    try:
        _control("snapshots", "info", name)
    except CommandFailed:
        return False
    return True


def _archive(image: str, config: bytes, layers: list[Layer]) -> bytes:
    """Return the OCI archive of an image without its layers: index, manifest and configuration."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob("application/vnd.oci.image.config.v1+json", config),
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    manifest_file = json.dumps(manifest).encode()
    entry = {**_blob(manifest["mediaType"], manifest_file), "annotations": {"io.containerd.image.name": image}}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index}
    files |= {f"blobs/{_digest(blob).replace(':', '/')}": blob for blob in (config, manifest_file)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, blob in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
    return buffer.getvalue()


def _blob(kind: object, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _control(*words: str, stdin: bytes = b"") -> str:
    result = subprocess.run([*CONTROL, *words], input=stdin, capture_output=True, timeout=SECONDS, check=False)
    if result.returncode:
        raise CommandFailed(" ".join(("ctr", *words[:3])), result.stderr.decode(errors="replace"))
    return result.stdout.decode()
