"""Images in the node: those that it cannot do without, and what is brought in."""

import hashlib
import platform
import tarfile
from pathlib import Path

from . import archives, layers
from .node import run
from .parts import parts
from .places import CONTAINERD, STATE

# A tag other than latest: a kubelet never asks a registry for them.
PAUSE = "localhost/pause:1"
ARGOEXEC = "localhost/argoexec:1"
LOAD_SECONDS = 300


def pause() -> Path:
    """Return the archive of the image that holds a pod's namespaces."""
    return _program("pause", PAUSE, parts().pause / "pause")


def argoexec() -> Path:
    """Return the archive of Argo's executor."""
    return _program("argoexec", ARGOEXEC, parts().argo / "argoexec")


def load(image: Path) -> None:
    """Bring an image into the node, once: an archive's, or the one that a reference to a built image names."""
    note = STATE / "loaded" / image.name
    if note.exists() and note.read_text(encoding="utf-8") == str(image):
        return
    if image.suffix == layers.REFERENCE:
        layers.share(image)
    else:
        run(["ctr", "--address", CONTAINERD, "--namespace", "k8s.io", "images", "import", image], LOAD_SECONDS)
    note.parent.mkdir(exist_ok=True)
    note.write_text(str(image), encoding="utf-8")


def _program(name: str, image: str, program: Path) -> Path:
    """Return the archive of an image that holds one program; it lies beside the program's own folder."""
    folder = program.parent
    how = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    target = folder.with_name(f"{folder.name}-{name}-{how}.tar")
    if not target.exists():
        for older in target.parent.glob(f"{folder.name}-{name}*.tar"):
            older.unlink()
        layer = target.with_suffix(".layer")
        with tarfile.open(layer, "w") as tar:
            tar.add(program, f"bin/{name}", filter=_runnable)
            # Argo's executor writes what it creates to a file there first, as whatever user a pod has.
            temporary = tarfile.TarInfo("tmp")
            temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(temporary)
        config = {"Entrypoint": [f"/bin/{name}"], "Env": ["PATH=/bin"]}
        partial = target.with_suffix(".partial")
        archives.write(partial, [image], layer, platform.machine(), config)
        layer.unlink()
        partial.rename(target)
    return target


def _runnable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = 0o755, 0, 0, "", ""
    return entry
