"""Built images in the node, without a copy: it reads their layers where the builder keeps them.

To copy an image of three gigabytes into the node, and to remove it again, takes minutes. Builder and node keep a layer
the same way, as a folder that an overlay is made of: the node gets a snapshot whose folder is the builder's, read-only.
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
# What a file that refers to an image of the builder ends with.
REFERENCE = ".json"
# What keeps a snapshot from being collected: the configuration of its image names it.
NEEDS = "containerd.io/gc.ref.snapshot.overlayfs"


@dataclass(frozen=True)
class Layer:
    """A layer as the builder keeps it."""

    folder: Path
    digest: str
    size: int


def find(storage: Path, image: str) -> str | None:
    """Return the identifier of an image in the builder's store, None when there is none of the name."""
    found = [one["id"] for one in _list(storage / IMAGES) if image in (one.get("names") or [])]
    return found[0] if found else None


def refer(note: Path, storage: Path, image: str) -> None:
    """Write a reference to an image of the builder's store."""
    content = {"storage": str(storage), "image": image, "identifier": find(storage, image)}
    note.write_text(json.dumps(content), encoding="utf-8")


def is_known(note: Path) -> bool:
    """Whether a reference is there, and the image that it names too."""
    if not note.exists():
        return False
    content = json.loads(note.read_text(encoding="utf-8"))
    return any(one["id"] == content["identifier"] for one in _list(Path(content["storage"]) / IMAGES))


def share(note: Path) -> None:
    """Let the node use the image of a reference. Raises CommandFailed."""
    content = json.loads(note.read_text(encoding="utf-8"))
    storage, identifier = Path(content["storage"]), content["identifier"]
    # The builder's name of a file is this text in base64.
    name = base64.b64encode(f"sha256:{identifier}".encode()).decode("ascii")
    config = (storage / "overlay-images" / identifier / f"={name}").read_bytes()
    layers = list(_layers(storage, identifier))
    parent = ""
    for layer in layers:
        parent = _snapshot(layer, parent)
    _control("images", "import", "--no-unpack", "-", stdin=_described(content["image"], config, layers))
    _control("content", "label", f"sha256:{identifier}", f"{NEEDS}={parent}")


def _layers(storage: Path, identifier: str) -> Iterator[Layer]:
    """Yield an image's layers, the lowest first."""
    (image,) = (one for one in _list(storage / IMAGES) if one["id"] == identifier)
    known = {one["id"]: one for one in _list(storage / "overlay-layers/layers.json")}
    chain = [image["layer"]]
    while parent := known[chain[-1]].get("parent"):
        chain.append(parent)
    for name in reversed(chain):
        yield Layer(storage / "overlay" / name / "diff", known[name]["diff-digest"], known[name]["diff-size"])


def _list(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def _snapshot(layer: Layer, parent: str) -> str:
    """Make a layer's snapshot upon its parent's, and return its name: the hash of the digests so far."""
    name = _digest(f"{parent} {layer.digest}".encode()) if parent else layer.digest
    if _is_there(name):
        return name
    upon = [parent] if parent else []
    (mount,) = json.loads(_control("snapshots", "prepare", "--mounts", f"{name}-active", *upon))
    options = dict(option.partition("=")[::2] for option in mount["Options"])
    folder = Path(options.get("upperdir", mount["Source"]))
    _control("snapshots", "commit", name, f"{name}-active")
    for words in (["--bind", layer.folder, folder], ["-o", "remount,bind,ro", folder]):
        node.run(node.command(["mount", *words]))
    return name


def _is_there(name: str) -> bool:
    try:
        _control("snapshots", "info", name)
    except CommandFailed:
        return False
    return True


def _described(image: str, config: bytes, layers: list[Layer]) -> bytes:
    """Return an image's archive without its layers: what names them, and the configuration."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob("application/vnd.oci.image.config.v1+json", config),
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    content = json.dumps(manifest).encode()
    entry = {**_blob(manifest["mediaType"], content), "annotations": {"io.containerd.image.name": image}}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index}
    files |= {f"blobs/{_digest(blob).replace(':', '/')}": blob for blob in (config, content)}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, blob in files.items():
            described = tarfile.TarInfo(name)
            described.size = len(blob)
            archive.addfile(described, io.BytesIO(blob))
    return written.getvalue()


def _blob(kind: object, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _control(*words: str, stdin: bytes = b"") -> str:
    done = subprocess.run([*CONTROL, *words], input=stdin, capture_output=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise CommandFailed(" ".join(("ctr", *words[:3])), done.stderr.decode(errors="replace"))
    return done.stdout.decode()
