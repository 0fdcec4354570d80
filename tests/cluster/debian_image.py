"""The base image: Debian 12, built from its packages, with a working apt, like the public image debian:12."""

import platform
import shutil
import subprocess
from pathlib import Path

from tools.installed import CannotInstall, installed

from . import archives

# With a tag other than latest, so that a kubelet never asks a registry for the image.
NAME = "localhost/debian:12"
HERE = Path(__file__).resolve()
SUITE = "bookworm"
# Caches of the package manager, and folders that a container mounts.
EXCLUDED = ("./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*")


def archive() -> Path:
    """Return the image's archive; the first call takes a minute. Raises CannotInstall."""
    return installed("cluster-debian", [HERE, HERE.with_name("archives.py")], _make) / "image.tar"


def fixed_name() -> str:
    """Return a name that changes with the image, so that a builder reuses no layers of an older one."""
    return _fixed_name(archive().parent)


def _fixed_name(folder: Path) -> str:
    return f"{NAME}-{folder.name.removesuffix('.partial').rpartition('-')[2]}"


def _make(target: Path) -> None:
    root, layer = target / "root", target / "layer.tar"
    _run("debootstrap", "--variant=minbase", SUITE, root)
    # As in public images: packages do not try to start their services.
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    for file in ("etc/resolv.conf", "etc/hostname"):
        (root / file).unlink(missing_ok=True)
    options = [f"--exclude={pattern}" for pattern in EXCLUDED]
    _run("tar", "--numeric-owner", *options, "-C", root, "-cf", layer, ".")
    shutil.rmtree(root)
    config = {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    archives.write(target / "image.tar", [NAME, _fixed_name(target)], layer, platform.machine(), config)
    layer.unlink()


def _run(*words: str | Path) -> None:
    result = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    if result.returncode:
        raise CannotInstall(f"{words[0]} failed: {(result.stderr or result.stdout).strip()[-1000:]}")
