"""Trees of files, read from and written to folders and archives.

Files of an archive stay in memory under a checked path; nothing is extracted to a path in the archive.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.pattern import Pattern

REGULAR = 0o644
EXECUTABLE = 0o755
# The limits of one archive; an accelerator has a few hundred small files.
MOST_FILES = 20_000
MOST_BYTES = 200_000_000

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

_LONGEST_PATH = 4096
_DEEPEST_PATH = 100

# The earliest time of the zip format; a constant time makes equal answers give equal bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class InvalidTree(ValueError):
    """A tree cannot be read or written; the text is one sentence."""


# The errors of the standard library for damaged archives and for other files.
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    ArithmeticError, LookupError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    """A file: its path within the tree (with slashes), its bytes, and its permission bits.

    Only UseEncoding sets `charset`. `origin` is the number of the invocation that added the file: a
    file belongs to an invocation, or to a nested one, if its origin is not smaller. `ancestor` is the
    content of the file before all transforms.
    """

    path: str
    content: bytes
    mode: int = REGULAR
    charset: str | None = None
    origin: int = 0
    ancestor: bytes | None = None


def normal_path(path: str) -> str:
    """Return the path with single slashes. Raises InvalidTree if it is empty or leaves the tree."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # JSON may hold a lone surrogate; an archive may not.
    too_long = len(path) > _LONGEST_PATH or len(parts) > _DEEPEST_PATH
    if not parts or path.startswith("/") or ".." in parts or too_long or _UNWRITABLE.search(path):
        raise InvalidTree(f"{path[:200]!r} is not a path within the project")
    return "/".join(parts)


def placed(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Return resources by normal path.

    Raises InvalidTree if a path leaves the tree, occurs twice, or is both a file and a folder.
    """
    files: dict[str, Resource] = {}
    for resource in resources:
        path = normal_path(resource.path)
        if path in files:
            raise InvalidTree(f"there is more than one file {path!r}")
        files[path] = resource
    for path in files:
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in files:
                raise InvalidTree(f"{folder!r} is a file and also a folder, for {path!r}")
    return files


# Folders


def read_folder(folder: Path) -> list[Resource]:
    """Return the regular files below a folder, sorted by path, with their permission bits.

    Like `tanzu accelerator generate-from-local`, it leaves out links, `.git`, and files that the
    folder's own `.gitignore` files exclude. Raises OSError.
    """
    return [
        Resource(path, (folder / path).read_bytes(), (folder / path).stat().st_mode & 0o777)
        for path in sorted(_paths(folder, "", []))
    ]


def _paths(folder: Path, prefix: str, rules: list[tuple[str, GitIgnoreSpec]]) -> Iterator[str]:
    ignore = folder / prefix / ".gitignore"
    if ignore.is_file():
        text = ignore.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        rules = [*rules, (prefix, GitIgnoreSpec.from_lines(text.replace("\r\n", "\n").split("\n")))]
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name == ".git" or _ignored(f"{path}/" if is_folder else path, rules):
                continue
            if is_folder:
                yield from _paths(folder, f"{path}/", rules)
            elif entry.is_file(follow_symlinks=False):
                yield path


def _ignored(path: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """Return whether the last matching line of the nearest .gitignore excludes a path."""
    for prefix, spec in reversed(rules):
        for pattern in reversed(list(spec.patterns)):
            if pattern.include is not None and _matches_path(pattern, path[len(prefix) :]):
                return pattern.include
    return False


def _matches_path(pattern: Pattern, path: str) -> bool:
    """Return whether a line matches the path itself, not a folder above it."""
    result = pattern.match_file(path)
    if result is None:
        return False
    # The group is the slash after a matched folder.
    return "ps_d" not in result.match.groupdict() or result.match.end("ps_d") in (-1, len(path))


def write_folder(resources: Iterable[Resource], folder: Path) -> None:
    """Write resources below a folder, with their permission bits whatever the umask is.

    Raises InvalidTree before it writes a file, and OSError.
    """
    files = placed(resources)
    for path, resource in files.items():
        _make_folders(folder, path.split("/")[:-1])
        target = folder / path
        # Replace an existing link instead of following it.
        target.unlink(missing_ok=True)
        target.write_bytes(resource.content)
        target.chmod(resource.mode)


def _make_folders(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        folder /= name
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(exist_ok=True)


# Archives


def zipped(resources: Iterable[Resource], root: str) -> bytes:
    """Return a zip archive with one root folder. Raises InvalidTree."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(f"{root}/", 0o40755 << 16 | 0x10), b"")
        for path, resource in placed(resources).items():
            archive.writestr(_entry(f"{root}/{path}", (0o100000 | resource.mode) << 16), resource.content)
    return buffer.getvalue()


def _entry(name: str, attributes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = attributes
    # 3 is Unix, which makes the permission bits count.
    info.create_system = 3
    return info


def read_zip(content: bytes) -> list[Resource]:
    """Return the files in a zip archive. Raises InvalidTree, also for an unsafe path or a link."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_limits(len(entries), sum(entry.file_size for entry in entries))
            return list(placed(_from_zip(archive, entry) for entry in entries).values())
    except _DAMAGED as error:
        raise _refusal("zip", error) from error


def _from_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Resource:
    kind, mode = (entry.external_attr >> 16) & 0o170000, (entry.external_attr >> 16) & 0o777
    if kind not in (0, 0o100000):
        raise InvalidTree(f"{entry.filename!r} is not a plain file")
    return Resource(normal_path(entry.filename), archive.read(entry), mode or REGULAR)


def read_tar(content: bytes) -> list[Resource]:
    """Return the regular files in a tar archive, compressed or not, without links and devices.

    Raises InvalidTree, also for a path that leaves the tree.
    """
    resources: list[Resource] = []
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(content)), mode="r:") as archive:
            for count, member in enumerate(archive, start=1):
                size += abs(member.size)
                _check_limits(count, size)
                # The root folder `./` is an entry too.
                if member.isfile():
                    file = archive.extractfile(member)
                    data = file.read() if file is not None else b""
                    resources.append(Resource(normal_path(member.name), data, member.mode & 0o777))
    except _DAMAGED as error:
        raise _refusal("tar", error) from error
    return list(placed(resources).values())


def _unpacked(content: bytes) -> bytes:
    """Return an archive without its compression. The size limit leaves room for the headers."""
    formats: dict[bytes, Callable[[io.BytesIO], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
        b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ\0": lzma.LZMAFile,
    }
    opener = next((opener for start, opener in formats.items() if content.startswith(start)), None)
    if opener is None:
        return content
    most = MOST_BYTES * 5 // 4
    with opener(io.BytesIO(content)) as file:
        unpacked = file.read(most + 1)
    _check_limits(1, MOST_BYTES + 1 if len(unpacked) > most else 0)
    return unpacked


def _refusal(kind: str, error: Exception) -> InvalidTree:
    if isinstance(error, InvalidTree):
        return error
    return InvalidTree(f"not a {kind} archive: {' '.join(str(error).split())}")


def _check_limits(files: int, size: int) -> None:
    if files > MOST_FILES or size > MOST_BYTES:
        raise InvalidTree(f"the archive exceeds {MOST_FILES} files, or {MOST_BYTES} bytes in total")
