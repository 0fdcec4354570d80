"""Container images as archives in the format of `docker save`, written without a builder."""

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
    """Write the archive of an image with one layer, which is a tar file."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    image_config = {
        "architecture": ARCHITECTURES[machine],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "created": CREATED,
        # A builder expects one entry per layer, and identifies a layer by its time.
        "history": [{"created": CREATED, "created_by": "test"}],
    }
    config_file = json.dumps(image_config).encode()
    name = f"{hashlib.sha256(config_file).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": list(names), "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as archive:
        for file_name, content in ((name, config_file), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file_name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        archive.add(layer, "layer.tar")
