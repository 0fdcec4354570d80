"""Builds images from Dockerfiles as this machine reaches its package registries, and keeps them in the cache.

How pip, npm and apt find their registries is this machine's business: its settings are mounted while an image is
built. No Dockerfile names them, and an image keeps nothing of them but empty files.
"""

import ast
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import debian_image, layers, node
from .errors import ClusterError

BUILD_SECONDS = 3600
# For one image of three gigabytes: its layers and those of its stages.
NEEDED_BYTES = 10 << 30
# Paths in a container that is built.
AUTHORITIES = "/run/host/ca-certificates.crt"
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "no-index")
NPM_SETTINGS = re.compile(r"(.*:)?(registry|proxy|https-proxy|noproxy|strict-ssl|_auth.*|username|always-auth)\s*=")
NEVER_COPIED = {".git", "__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"}


def build_image(context: Path, dockerfile: Path, tag: str, **build_args: str) -> Path:
    """Return the reference of an image, which `images.load` takes; built when the cache holds nothing like it.

    It is known by its Dockerfile, the files of the context that the Dockerfile copies, and its arguments; BASE is this
    machine's Debian unless it is given. Raises ClusterError, with the end of what the build printed.
    """
    base = debian_image.archive()
    storage, folder = base.parent.parent / "cluster-layers", base.parent.parent / "cluster-images"
    arguments = {"BASE": debian_image.fixed_name(), **build_args}
    name = tag.replace("/", "_").replace(":", "_")
    folder.mkdir(exist_ok=True)
    note = folder / f"{name}-{_digest(context, dockerfile, tag, arguments)}{layers.REFERENCE}"
    with _alone(folder):
        if not layers.is_known(note):
            for older in folder.glob(f"{name}-*"):
                older.unlink()
            _build(context, dockerfile, tag, arguments, base, storage)
            layers.refer(note, storage, tag)
    return note


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time build; the others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(context: Path, dockerfile: Path, tag: str, arguments: dict[str, str]) -> str:
    """Return the hash of all that an image is made from."""
    digest = hashlib.sha256(f"{tag}\0{sorted(arguments.items())}\0".encode())
    for path in [dockerfile, *_copied(context, dockerfile)]:
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        name = os.path.relpath(path, context)
        digest.update(f"{name}\0{path.lstat().st_mode}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _copied(context: Path, dockerfile: Path) -> list[Path]:
    """Return the files that a Dockerfile copies from its context."""
    found: set[Path] = set()
    for pattern in _sources(dockerfile.read_text(encoding="utf-8")):
        for match in context.glob(pattern) if pattern not in ("", ".") else [context]:
            found.update(_files(match))
    return sorted(found)


def _sources(text: str) -> Iterator[str]:
    """Yield what COPY and ADD take from the context."""
    joined = re.sub(r"\\\n(\s*#.*\n)*", " ", text)
    for instruction, rest in re.findall(r"(?mi)^\s*(COPY|ADD)\s+(.*)$", joined):
        words = rest.split()
        if any(word.startswith("--from=") for word in words):
            continue
        places = [word for word in words if not word.startswith("--")]
        if places[0].startswith(("[", "<<")) or "$" in rest:
            raise ClusterError(f"this form of {instruction} is not understood here: {instruction} {rest}")
        yield from (place.strip("/").removeprefix("./") for place in places[:-1])


def _files(place: Path) -> Iterator[Path]:
    if place.is_symlink() or place.is_file():
        yield place
        return
    for path in place.rglob("*"):
        if not NEVER_COPIED.intersection(path.relative_to(place).parts) and (path.is_symlink() or path.is_file()):
            yield path


def _build(context: Path, dockerfile: Path, tag: str, arguments: dict[str, str], base: Path, storage: Path) -> None:
    if storage.exists() and not node.is_there() and not _is_useful(storage, arguments["BASE"]):
        # Layers only save time; but a node may be reading them.
        shutil.rmtree(storage)
    with tempfile.TemporaryDirectory() as work:
        buildah = _buildah(storage, Path(work))
        if arguments["BASE"] == debian_image.fixed_name() and not layers.find(storage, arguments["BASE"]):
            _run([*buildah, "pull", "--quiet", *_policy(Path(work)), f"docker-archive:{base}:{arguments['BASE']}"])
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        settings = [f"--volume={source}:{place}:ro" for source, place in _settings(Path(work))]
        # By the host's network and without namespaces of its own: registries are reached as this machine reaches them.
        how = ["--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=docker"]
        files = [f"--file={dockerfile}", f"--tag={tag}", *_policy(Path(work))]
        _run([*buildah, "bud", *how, *given, *settings, *files, str(context)])


def _is_useful(storage: Path, base: str) -> bool:
    """Whether the layers are built on this base, and leave room for others."""
    room = shutil.disk_usage(storage).free >= NEEDED_BYTES
    return room and layers.find(storage, base) is not None


def _buildah(storage: Path, work: Path) -> list[str]:
    """Return buildah's command; what it mounts on the way is gone when it ends."""
    return ["unshare", "--mount", "buildah", f"--root={storage}", f"--runroot={work}/run", "--storage-driver=overlay"]


def _policy(work: Path) -> list[str]:
    """Return the option that accepts images: there are none here but this machine's own."""
    path = work / "policy.json"
    path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="ascii")
    return [f"--signature-policy={path}"]


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise ClusterError(f"buildah {words[6]} failed; its last lines are\n{end}")


def _settings(work: Path) -> Iterator[tuple[Path, str]]:
    """Write this machine's settings of package managers into files and yield each with its place in a container."""
    bundle = next((Path(path) for path in _bundles() if Path(path).is_file()), None)
    if bundle:
        yield bundle, AUTHORITIES
    written = {
        "/etc/pip.conf": _pip(bool(bundle)),
        "/root/.npmrc": _npm(bool(bundle)),
        "/etc/apt/apt.conf.d/99host": _apt(bool(bundle)),
    }
    for place, content in written.items():
        path = work / place.replace("/", "_")
        path.touch(mode=0o600)
        path.write_text(content, encoding="utf-8")
        yield path, place


def _bundles() -> Iterator[str]:
    """Yield where this machine's certificate authorities may lie."""
    yield from filter(None, (os.environ.get(name) for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")))
    yield "/etc/ssl/certs/ca-certificates.crt"


def _pip(authorities: bool) -> str:
    listed = node.run([sys.executable, "-m", "pip", "config", "list"])
    lines = [f"cert = {AUTHORITIES}"] if authorities else []
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_SETTINGS:
            lines.append(f"{option} = {ast.literal_eval(value)}".replace("\n", "\n  "))
    return "\n".join(["[global]", *lines, ""])


def _npm(authorities: bool) -> str:
    own = Path.home() / ".npmrc"
    told = own.read_text(encoding="utf-8").splitlines() if own.exists() else []
    lines = [line for line in told if NPM_SETTINGS.match(line)]
    variables = {name.lower(): value for name, value in os.environ.items()}
    given = {
        key: variables.get(f"npm_config_{key.replace('-', '_')}") for key in ("registry", "https-proxy", "noproxy")
    }
    lines += [f"{key}={value}" for key, value in given.items() if value]
    return "\n".join([*lines, *([f"cafile={AUTHORITIES}"] if authorities else []), "update-notifier=false", ""])


def _apt(authorities: bool) -> str:
    dumped = node.run(["apt-config", "dump", "Acquire"]) if shutil.which("apt-config") else ""
    return dumped + (f'Acquire::https::CAInfo "{AUTHORITIES}";\n' if authorities else "")
