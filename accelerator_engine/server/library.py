"""The accelerators and fragments that the server offers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from accelerator_engine.engine import Accelerator, load
from accelerator_engine.server.limits import shortened
from accelerator_engine.server.problems import Problem
from accelerator_engine.tree import Resource, read_folder


class InvalidLibrary(ValueError):
    """Folders cannot be served; the text is one sentence."""


@dataclass(frozen=True)
class Library:
    """The folders of accelerators and fragments by name; every request reads them again.

    `local_files` has the folders `accelerators` and `fragments`, which contain more of them by folder
    name; explicitly named ones win. Raises InvalidLibrary.
    """

    accelerators: Mapping[str, Path] = field(default_factory=dict)
    fragments: Mapping[str, Path] = field(default_factory=dict)
    local_files: Path | None = None

    def __post_init__(self) -> None:
        """Check that the folders exist. Raises InvalidLibrary."""
        for folder in (*self.accelerators.values(), *self.fragments.values()):
            if not folder.is_dir():
                raise InvalidLibrary(f"{folder} is not a folder")
        if self.local_files and not any((self.local_files / kind).is_dir() for kind in ("accelerators", "fragments")):
            raise InvalidLibrary(f"{self.local_files} has neither a folder accelerators nor a folder fragments")

    def accelerator_folders(self) -> dict[str, Path]:
        """Return the current folders of the accelerators."""
        return {**self._local("accelerators"), **self.accelerators}

    def fragment_folders(self) -> dict[str, Path]:
        """Return the current folders of the fragments."""
        return {**self._local("fragments"), **self.fragments}

    def _local(self, kind: str) -> dict[str, Path]:
        if self.local_files is None:
            return {}
        try:
            paths = list((self.local_files / kind).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {path.name: path for path in paths if path.is_dir() and not path.name.startswith(".")}


def named_folders(arguments: Iterable[str]) -> dict[str, Path]:
    """Parse arguments `NAME=FOLDER`, or `FOLDER`, whose name is the folder's. Raises InvalidLibrary."""
    folders: dict[str, Path] = {}
    for argument in arguments:
        name, sign, folder = argument.partition("=")
        # The name of a folder may contain the sign.
        if not sign or Path(argument).is_dir():
            name, folder = Path(argument).resolve().name, argument
        if not name or not folder:
            raise InvalidLibrary(f"{argument!r} has to be NAME=FOLDER or FOLDER")
        if name in folders:
            raise InvalidLibrary(f"there is more than one folder for {name!r}")
        folders[name] = Path(folder)
    return folders


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raise Problem for unreadable files, without their path, which clients need not know."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Problem(400, "UnreadableFiles", f"the files of {name!r} cannot be read: {reason}") from error


def load_served(library: Library, name: str) -> Accelerator:
    """Load an accelerator of the library. Raises Problem and InvalidManifest."""
    return load(served_files(library, name), name, fragment_finder(library, {}))


def served_files(library: Library, name: str) -> list[Resource]:
    """Return the files of an accelerator of the library. Raises Problem."""
    folders = library.accelerator_folders()
    if name not in folders:
        raise Problem(404, "NotFound", f"there is no accelerator {shortened(name)!r}")
    with _readable(name):
        return read_folder(folders[name])


def fragment_finder(library: Library, sent: Mapping[str, list[Resource]]) -> Callable[[str], list[Resource]]:
    """Return a function that finds fragments: first the sent ones, then those of the library."""
    folders = library.fragment_folders()

    def find(name: str) -> list[Resource]:
        if name in sent:
            return sent[name]
        folder = folders[name]
        with _readable(name):
            return read_folder(folder)

    return find
