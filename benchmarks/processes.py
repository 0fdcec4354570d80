"""Memory of processes, as Linux tells it."""

import contextlib
import pathlib
import re


def anonymous_memory(process: int) -> float:
    """Return RssAnon in KiB. Raises ProcessLookupError when the process has ended."""
    # One that is about to end has no such line any more.
    found = re.search(r"^RssAnon:\s+(\d+) kB$", _read(process, "status"), re.MULTILINE)
    if not found:
        raise ProcessLookupError(f"process {process} has ended")
    return float(found.group(1))


def session_memory(backend: int) -> float:
    """Return RssAnon in KiB of a backend and the parallel workers that it has right now.

    Raises ProcessLookupError when the backend has ended.
    """
    found = anonymous_memory(backend)
    title = re.compile(rf"parallel worker for PID {backend}\b")
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        with contextlib.suppress(ProcessLookupError):
            if title.search(_read(process, "cmdline")):
                found += anonymous_memory(process)
    return found


def _read(process: int, name: str) -> str:
    try:
        return pathlib.Path(f"/proc/{process}/{name}").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError as error:
        raise ProcessLookupError(f"process {process} has ended") from error
