"""Builds images from Dockerfiles with this machine's package registries, and caches them.

A build mounts this machine's settings of pip, npm and apt. So Dockerfiles name no registries, and all that an image
keeps of the settings is empty files as mount points.
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
# Enough for the layers of one image of three gigabytes and of its stages.
REQUIRED_FREE_BYTES = 10 << 30
# The path in a build container.
CA_BUNDLE = "/run/host/ca-certificates.crt"
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "no-index")
NPM_SETTINGS = re.compile(r"(.*:)?(registry|proxy|https-proxy|noproxy|strict-ssl|_auth.*|username|always-auth)\s*=")
NEVER_COPIED = {".git", "__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"}


def build_image(context: Path, dockerfile: Path, tag: str, **build_args: str) -> Path:
    """Return the reference of an image for `images.load`; build the image if the cache does not have it.

    The cache's key is the tag, the Dockerfile, the files of the context that it copies, and its arguments. The default
    of the argument BASE is `debian_image`. Raises ClusterError with the last lines of a failed build.
    """
    base = debian_image.archive()
    storage, folder = base.parent.parent / "cluster-layers", base.parent.parent / "cluster-images"
    arguments = {"BASE": debian_image.fixed_name(), **build_args}
    name = tag.replace("/", "_").replace(":", "_")
    folder.mkdir(exist_ok=True)
    reference = folder / f"{name}-{_digest(context, dockerfile, tag, arguments)}{layers.REFERENCE}"
    with _exclusive_lock(folder):
        if not layers.is_valid(reference):
            for outdated in folder.glob(f"{name}-*"):
                outdated.unlink()
            _build(context, dockerfile, tag, arguments, base, storage)
            layers.write_reference(reference, storage, tag)
    return reference


@contextlib.contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time build; others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(context: Path, dockerfile: Path, tag: str, arguments: dict[str, str]) -> str:
    """Return a hash of all inputs of an image."""
    digest = hashlib.sha256(f"{tag}\0{sorted(arguments.items())}\0".encode())
    for path in [dockerfile, *_copied(context, dockerfile)]:
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        name = os.path.relpath(path, context)
        digest.update(f"{name}\0{path.lstat().st_mode}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _copied(context: Path, dockerfile: Path) -> list[Path]:
    """Return the files that a Dockerfile copies from its context."""
    files: set[Path] = set()
    for pattern in _sources(dockerfile.read_text(encoding="utf-8")):
        for match in context.glob(pattern) if pattern not in ("", ".") else [context]:
            files.update(_files(match))
    return sorted(files)


def _sources(text: str) -> Iterator[str]:
    """Yield the source patterns of COPY and ADD."""
    joined = re.sub(r"\\\n(\s*#.*\n)*", " ", text)
    for instruction, rest in re.findall(r"(?mi)^\s*(COPY|ADD)\s+(.*)$", joined):
        words = rest.split()
        if any(word.startswith("--from=") for word in words):
            continue
        paths = [word for word in words if not word.startswith("--")]
        if paths[0].startswith(("[", "<<")) or "$" in rest:
            raise ClusterError(
                f"this form of {instruction} is not supported; use plain relative paths: {instruction} {rest}"
            )
        yield from (path.strip("/").removeprefix("./") for path in paths[:-1])


def _files(root: Path) -> Iterator[Path]:
    """Yield a file itself, or the files below a folder."""
    if root.is_symlink() or root.is_file():
        yield root
        return
    for path in root.rglob("*"):
        if not NEVER_COPIED.intersection(path.relative_to(root).parts) and (path.is_symlink() or path.is_file()):
            yield path


def _build(context: Path, dockerfile: Path, tag: str, arguments: dict[str, str], base: Path, storage: Path) -> None:
    if storage.exists() and not node.is_running() and not _is_useful(storage, arguments["BASE"]):
        # Layers only save time, but a running node may read them.
        shutil.rmtree(storage)
    with tempfile.TemporaryDirectory() as work:
        buildah = _buildah(storage, Path(work))
        if arguments["BASE"] == debian_image.fixed_name() and not layers.find(storage, arguments["BASE"]):
            _run([*buildah, "pull", "--quiet", *_policy(Path(work)), f"docker-archive:{base}:{arguments['BASE']}"])
        build_args = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        volumes = [f"--volume={file}:{path}:ro" for file, path in _settings(Path(work))]
        # With this machine's network, so that a build reaches the registries in the same way.
        options = ["--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=docker"]
        files = [f"--file={dockerfile}", f"--tag={tag}", *_policy(Path(work))]
        _run([*buildah, "bud", *options, *build_args, *volumes, *files, str(context)])


def _is_useful(storage: Path, base: str) -> bool:
    """Return whether the layers are built on this base, and leave enough free space."""
    has_space = shutil.disk_usage(storage).free >= REQUIRED_FREE_BYTES
    return has_space and layers.find(storage, base) is not None


def _buildah(storage: Path, work: Path) -> list[str]:
    """Return the command of buildah, in a mount namespace of its own, so that it leaves no mounts."""
    return ["unshare", "--mount", "buildah", f"--root={storage}", f"--runroot={work}/run", "--storage-driver=overlay"]


def _policy(work: Path) -> list[str]:
    """Return the option that accepts unsigned images; all of them are built here."""
    path = work / "policy.json"
    path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="ascii")
    return [f"--signature-policy={path}"]


def _run(words: list[str]) -> None:
    result = subprocess.run(words, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if result.returncode:
        last_lines = "\n".join((result.stdout + result.stderr).splitlines()[-25:])
        raise ClusterError(f"buildah {words[6]} failed; its last lines are\n{last_lines}")


def _settings(work: Path) -> Iterator[tuple[Path, str]]:
    """Write this machine's package manager settings to files; yield each file and its path in a container."""
    bundle = next((Path(path) for path in _ca_bundles() if Path(path).is_file()), None)
    ca_bundle = CA_BUNDLE if bundle else ""
    if bundle:
        yield bundle, CA_BUNDLE
    contents = {
        "/etc/pip.conf": _pip_config(ca_bundle),
        "/root/.npmrc": _npm_config(ca_bundle),
        "/etc/apt/apt.conf.d/99host": _apt_config(ca_bundle),
    }
    for container_path, content in contents.items():
        path = work / container_path.replace("/", "_")
        path.touch(mode=0o600)
        path.write_text(content, encoding="utf-8")
        yield path, container_path


def _ca_bundles() -> Iterator[str]:
    """Yield the possible paths of this machine's CA certificates."""
    yield from filter(None, (os.environ.get(name) for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")))
    yield "/etc/ssl/certs/ca-certificates.crt"


def _pip_config(ca_bundle: str) -> str:
    settings = node.run([sys.executable, "-m", "pip", "config", "list"])
    lines = [f"cert = {ca_bundle}"] if ca_bundle else []
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_SETTINGS:
            lines.append(f"{option} = {ast.literal_eval(value)}".replace("\n", "\n  "))
    return "\n".join(["[global]", *lines, ""])


def _npm_config(ca_bundle: str) -> str:
    npmrc = Path.home() / ".npmrc"
    user_lines = npmrc.read_text(encoding="utf-8").splitlines() if npmrc.exists() else []
    lines = [line for line in user_lines if NPM_SETTINGS.match(line)]
    variables = {name.lower(): value for name, value in os.environ.items()}
    overrides = {
        key: variables.get(f"npm_config_{key.replace('-', '_')}") for key in ("registry", "https-proxy", "noproxy")
    }
    lines += [f"{key}={value}" for key, value in overrides.items() if value]
    return "\n".join([*lines, *([f"cafile={ca_bundle}"] if ca_bundle else []), "update-notifier=false", ""])


def _apt_config(ca_bundle: str) -> str:
    settings = node.run(["apt-config", "dump", "Acquire"]) if shutil.which("apt-config") else ""
    return settings + (f'Acquire::https::CAInfo "{ca_bundle}";\n' if ca_bundle else "")
