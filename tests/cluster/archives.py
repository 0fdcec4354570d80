"""Archives of container images as Docker saves them, written without a builder."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CREATED = "2020-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(target: Path, names: Sequence[str], layer: Path, machine: str, config: Mapping[str, Any]) -> None:
    """Write an image of one layer, a tar file, as Docker saves images."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    described = {
        "architecture": ARCHITECTURES[machine],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "created": CREATED,
        # A builder counts the layers that are told of here, and knows them again by their time.
        "history": [{"created": CREATED, "created_by": "test"}],
    }
    settings = json.dumps(described).encode()
    name = f"{hashlib.sha256(settings).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": list(names), "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as archive:
        for file_name, content in ((name, settings), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file_name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        archive.add(layer, "layer.tar")
