"""The base system of images: Debian 12 from its packages, with a working apt, as images named debian:12 are."""

import platform
import shutil
import subprocess
from pathlib import Path

from tools.installed import CannotInstall, installed

from . import archives

# A tag other than latest: a kubelet never asks a registry for it.
NAME = "localhost/debian:12"
HERE = Path(__file__).resolve()
SUITE = "bookworm"
# What a package manager fetched, and what the machine itself mounts.
LEFT_OUT = ("./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*")


def archive() -> Path:
    """Return the image's archive: a minute the first time. Raises CannotInstall."""
    return installed("cluster-debian", [HERE, HERE.with_name("archives.py")], _make) / "image.tar"


def fixed_name() -> str:
    """Return a name of the image that changes with it: layers built on another one are not taken for its."""
    return _fixed_name(archive().parent)


def _fixed_name(folder: Path) -> str:
    return f"{NAME}-{folder.name.removesuffix('.partial').rpartition('-')[2]}"


def _make(target: Path) -> None:
    root, layer = target / "root", target / "layer.tar"
    _run("debootstrap", "--variant=minbase", SUITE, root)
    # As a container's: no message of a service that cannot start.
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    for file in ("etc/resolv.conf", "etc/hostname"):
        (root / file).unlink(missing_ok=True)
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    _run("tar", "--numeric-owner", *excluded, "-C", root, "-cf", layer, ".")
    shutil.rmtree(root)
    config = {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    archives.write(target / "image.tar", [NAME, _fixed_name(target)], layer, platform.machine(), config)
    layer.unlink()


def _run(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise CannotInstall(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-1000:]}")
