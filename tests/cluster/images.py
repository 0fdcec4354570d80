"""Images in the node: its own two, and those that tests load."""

import hashlib
import platform
import tarfile
from pathlib import Path

from . import archives, layers
from .node import run
from .parts import parts
from .places import CONTAINERD, STATE

# With a tag other than latest, so that a kubelet never asks a registry for them.
PAUSE = "localhost/pause:1"
ARGOEXEC = "localhost/argoexec:1"
LOAD_SECONDS = 300


def pause() -> Path:
    """Return the archive of the image whose container holds a pod's namespaces."""
    return _program("pause", PAUSE, parts().pause / "pause")


def argoexec() -> Path:
    """Return the archive of Argo's executor image."""
    return _program("argoexec", ARGOEXEC, parts().argo / "argoexec")


def load(image: Path) -> None:
    """Load an image into the node once; `image` is an archive, or a reference to a built image."""
    marker = STATE / "loaded" / image.name
    if marker.exists() and marker.read_text(encoding="utf-8") == str(image):
        return
    if image.suffix == layers.REFERENCE:
        layers.share(image)
    else:
        run(["ctr", "--address", CONTAINERD, "--namespace", "k8s.io", "images", "import", image], LOAD_SECONDS)
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(str(image), encoding="utf-8")


def _program(name: str, image: str, program: Path) -> Path:
    """Return the archive of an image with one program; it is cached beside the program's folder."""
    folder = program.parent
    recipe_hash = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    target = folder.with_name(f"{folder.name}-{name}-{recipe_hash}.tar")
    if not target.exists():
        for outdated in target.parent.glob(f"{folder.name}-{name}*.tar"):
            outdated.unlink()
        layer = target.with_suffix(".layer")
        with tarfile.open(layer, "w") as tar:
            tar.add(program, f"bin/{name}", filter=_executable)
            # Argo's executor writes temporary files there, as the pod's user.
            temporary = tarfile.TarInfo("tmp")
            temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(temporary)
        config = {"Entrypoint": [f"/bin/{name}"], "Env": ["PATH=/bin"]}
        partial = target.with_suffix(".partial")
        archives.write(partial, [image], layer, platform.machine(), config)
        layer.unlink()
        partial.rename(target)
    return target


def _executable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = 0o755, 0, 0, "", ""
    return entry
