"""Memory of processes, read from /proc."""

import contextlib
import pathlib
import re


def anonymous_memory(process: int) -> float:
    """Return RssAnon in KiB. Raises ProcessLookupError if the process has ended."""
    # A process that is about to end has no such line.
    match = re.search(r"^RssAnon:\s+(\d+) kB$", _read(process, "status"), re.MULTILINE)
    if not match:
        raise ProcessLookupError(f"process {process} has ended")
    return float(match.group(1))


def session_memory(backend: int) -> float:
    """Return RssAnon in KiB of a backend and its current parallel workers.

    Raises ProcessLookupError if the backend has ended.
    """
    total = anonymous_memory(backend)
    title = re.compile(rf"parallel worker for PID {backend}\b")
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        with contextlib.suppress(ProcessLookupError):
            if title.search(_read(process, "cmdline")):
                total += anonymous_memory(process)
    return total


def _read(process: int, name: str) -> str:
    try:
        return pathlib.Path(f"/proc/{process}/{name}").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError as error:
        raise ProcessLookupError(f"process {process} has ended") from error
