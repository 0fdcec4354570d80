"""Runs pip, npm and apt-get, and reads their progress from their output."""

import pathlib
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence

from local.errors import LocalError


def run(
    command: Sequence[str],
    failure: str,
    environment: Mapping[str, str],
    folder: pathlib.Path | None = None,
    read: Callable[[str], None] = lambda line: None,
) -> str:
    """Run an installer and return its output; `read` gets each line as soon as it is printed.

    Raises LocalError with `failure` and the end of the output.
    """
    lines = []
    try:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, umask=0o022, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except FileNotFoundError as error:
        raise LocalError(f"{command[0]} is not there: run `python3 -m local install`") from error
    with process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            read(line.rstrip("\n"))
    if process.returncode:
        raise LocalError(f"{failure}; the end of the output of `{command[0]}`:\n{end_of(lines)}")
    return "".join(lines)


def end_of(lines: Sequence[str]) -> str:
    """Return the last lines of an installer's output, without apt's numbers for programs."""
    texts = [line.rstrip() for line in lines if line.strip() and not AptProgress.LINE.match(line)]
    return "\n".join(texts[-15:])


class PipProgress:
    """The progress of `pip install --progress-bar off`.

    pip names each package before it downloads it, but no package while it installs them. Meanwhile this class counts
    the complete packages in the environment's `site-packages`.
    """

    def __init__(self, lock_file: str, site_packages: pathlib.Path) -> None:
        self._wanted = len(re.findall(r"^[A-Za-z0-9][^\s=]*==", lock_file, re.MULTILINE))
        self._collected = 0
        self._file = ""
        self._site_packages = site_packages
        self._installs = False
        self._before = 0

    def read(self, line: str) -> None:
        """Update the progress from a line of pip's output."""
        if line.startswith("Ignoring "):  # a package for other systems
            self._wanted -= 1
        elif line.startswith("Collecting "):
            self._collected += 1
            self._file = line.removeprefix("Collecting ").split()[0].partition("=")[0]
        elif download := re.match(r"\s+Downloading (\S+?)-\S+ (\(.*\))", line):
            self._file = f"{download[1]} {download[2]}"
        elif line.startswith("Installing collected packages"):
            self._before = self._installed()
            self._installs = True

    def _installed(self) -> int:
        """Return the number of installed packages; pip's own are among them."""
        return sum(1 for _ in self._site_packages.glob("*.dist-info"))

    def report(self) -> str:
        """Return how many packages of how many, and which one is on its way."""
        if self._installs:
            return f"installed {self._installed() - self._before} of {self._collected} packages"
        if self._collected:
            return f"downloading package {self._collected} of {self._wanted}, {self._file}"
        return "creating the environment"


class AptProgress:
    """How far `apt-get -o APT::Status-Fd=1` is."""

    # Such as pmstatus:postgresql-15:57.1:Unpacking postgresql-15 (amd64)
    LINE = re.compile(r"(?:dl|pm)status:\S*?:(?P<percent>\d+)\.\d+:(?P<text>.*)")

    def __init__(self) -> None:
        self._report = "preparing"

    def read(self, line: str) -> None:
        """Update the progress from a line of apt's output."""
        if status := self.LINE.match(line):
            self._report = f"{status['percent']} %, {status['text'].strip()}"

    def report(self) -> str:
        """Return the percentage of the present phase, downloading or installing, and what apt does."""
        return self._report
