"""Trees of files: resources, and how they come from and go to folders and archives.

Whatever is read from an archive is kept in memory under a path that was checked; nothing is ever
extracted to a path that an archive names.
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
# What one archive may hold: an accelerator is a few hundred small files.
MOST_FILES = 20_000
MOST_BYTES = 200_000_000

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

_LONGEST_PATH = 4096
_DEEPEST_PATH = 100

# The zip format knows no earlier time; the same answers give the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class InvalidTree(ValueError):
    """A tree that cannot be read or written; the text is one sentence."""


# What the standard library raises for archives that are damaged, or none at all.
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    ArithmeticError, LookupError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    """A file: its path within the tree (with slashes), its bytes, and its permission bits.

    `charset` is set by UseEncoding alone. `origin` counts the runs of fragments: a resource belongs
    to the fragment that is running, or to one that it invoked, if its number is not smaller.
    `ancestor` is what the file held when it was read.
    """

    path: str
    content: bytes
    mode: int = REGULAR
    charset: str | None = None
    origin: int = 0
    ancestor: bytes | None = None


def normal_path(path: str) -> str:
    """Return the path with single slashes. Raises InvalidTree when it leaves the tree or is empty."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # Half a character (a lone surrogate) can stand in JSON, and in no archive.
    too_long = len(path) > _LONGEST_PATH or len(parts) > _DEEPEST_PATH
    if not parts or path.startswith("/") or ".." in parts or too_long or _UNWRITABLE.search(path):
        raise InvalidTree(f"{path[:200]!r} is not a path within the project")
    return "/".join(parts)


def placed(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Return resources by normal path.

    Raises InvalidTree when a path leaves the tree, occurs twice, or is a file and a folder at once.
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
                raise InvalidTree(f"{folder!r} is a file, and a folder for {path!r}")
    return files


# Folders


def read_folder(folder: Path) -> list[Resource]:
    """Return the regular files below a folder, sorted by path, with their permission bits.

    Links, `.git` and what the folder's own `.gitignore` files exclude are left out, as
    `tanzu accelerator generate-from-local` leaves them out. Raises OSError.
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
    """Whether a path is ignored: of the file nearest to it that says anything, the last line that does."""
    for prefix, spec in reversed(rules):
        for pattern in reversed(list(spec.patterns)):
            if pattern.include is not None and _means(pattern, path[len(prefix) :]):
                return pattern.include
    return False


def _means(pattern: Pattern, path: str) -> bool:
    """Whether a line means the path itself: it does not hold for what is below, since nobody goes there."""
    found = pattern.match_file(path)
    if found is None:
        return False
    # The group is the slash behind a folder that was matched.
    return "ps_d" not in found.match.groupdict() or found.match.end("ps_d") in (-1, len(path))


def write_folder(resources: Iterable[Resource], folder: Path) -> None:
    """Write resources below a folder, with their permission bits whatever the umask says.

    Raises InvalidTree before anything is written, and OSError.
    """
    files = placed(resources)
    for path, resource in files.items():
        _make_folders(folder, path.split("/")[:-1])
        target = folder / path
        # A link that stands there is replaced, not followed.
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
    # Permission bits are Unix's.
    info.create_system = 3
    return info


def read_zip(content: bytes) -> list[Resource]:
    """Return what a zip archive holds. Raises InvalidTree, also for an unsafe path or a link."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _limited(len(entries), sum(entry.file_size for entry in entries))
            return list(placed(_from_zip(archive, entry) for entry in entries).values())
    except _DAMAGED as error:
        raise _refusal("zip", error) from error


def _from_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Resource:
    kind, mode = (entry.external_attr >> 16) & 0o170000, (entry.external_attr >> 16) & 0o777
    if kind not in (0, 0o100000):
        raise InvalidTree(f"{entry.filename!r} is not a plain file")
    return Resource(normal_path(entry.filename), archive.read(entry), mode or REGULAR)


def read_tar(content: bytes) -> list[Resource]:
    """Return the regular files in a tar archive, packed or not, links and devices left out.

    Raises InvalidTree, also for a path that leaves the tree.
    """
    found: list[Resource] = []
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(content)), mode="r:") as archive:
            for count, member in enumerate(archive, start=1):
                size += abs(member.size)
                _limited(count, size)
                # The folder itself is an entry as well: `./`.
                if member.isfile():
                    file = archive.extractfile(member)
                    data = file.read() if file is not None else b""
                    found.append(Resource(normal_path(member.name), data, member.mode & 0o777))
    except _DAMAGED as error:
        raise _refusal("tar", error) from error
    return list(placed(found).values())


def _unpacked(content: bytes) -> bytes:
    """Return what a packed archive unpacks to; its headers may be as long as it likes, so they are limited too."""
    packings: dict[bytes, Callable[[io.BytesIO], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
        b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ\0": lzma.LZMAFile,
    }
    opened = next((opened for start, opened in packings.items() if content.startswith(start)), None)
    if opened is None:
        return content
    most = MOST_BYTES * 5 // 4
    with opened(io.BytesIO(content)) as file:
        unpacked = file.read(most + 1)
    _limited(1, MOST_BYTES + 1 if len(unpacked) > most else 0)
    return unpacked


def _refusal(kind: str, error: Exception) -> InvalidTree:
    if isinstance(error, InvalidTree):
        return error
    return InvalidTree(f"not a {kind} archive: {' '.join(str(error).split())}")


def _limited(files: int, size: int) -> None:
    if files > MOST_FILES or size > MOST_BYTES:
        raise InvalidTree(
            f"an archive may hold {MOST_FILES} files of {MOST_BYTES} bytes together, and this one holds more"
        )
