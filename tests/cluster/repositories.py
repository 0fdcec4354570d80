"""Git repositories on this machine that kapp-controller and pods read from a git server."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .errors import CommandFailed
from .places import HOST_ADDRESS, REPOSITORIES
from .processes import Process
from .waiting import wait_for

PORT = 9418
SERVER = Process("git-daemon")
IDENTITY = {"NAME": "Test", "EMAIL": "test@example.com"}


@dataclass(frozen=True)
class Repository:
    """A bare repository, served to the cluster; `push` commits without a checkout."""

    name: str

    @property
    def folder(self) -> Path:
        """The path of the bare repository."""
        return REPOSITORIES / f"{self.name}.git"

    @property
    def url(self) -> str:
        """The URL for pods and kapp-controller."""
        return f"git://{HOST_ADDRESS}/{self.name}.git"

    @classmethod
    def serve(cls, name: str) -> "Repository":
        """Create the repository if it does not exist, and serve it."""
        repository = cls(name)
        if not repository.folder.exists():
            _git("init", "--quiet", "--bare", "--initial-branch=main", str(repository.folder))
        if SERVER.pid is None:
            options = ["--export-all", "--reuseaddr", f"--listen={HOST_ADDRESS}", f"--base-path={REPOSITORIES}"]
            SERVER.start(["/usr/lib/git-core/git-daemon", *options])
            wait_for("the git server", _listens, 20, SERVER.check)
        return repository

    def push(self, folder: Path, message: str = "change", branch: str = "main") -> str:
        """Commit a folder's files as the next commit of a branch, and return the commit.

        This does not change the folder, leaves out ignored files, and commits even without a change.
        """
        with tempfile.TemporaryDirectory() as work:
            index = {"GIT_DIR": str(self.folder), "GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": f"{work}/index"}
            _git("add", "--all", ".", folder=folder, variables=index)
            tree = _git("write-tree", variables=index)
            parent = self.head(branch)
            commit = _git("commit-tree", tree, "-m", message, *(["-p", parent] if parent else []), variables=index)
            _git("update-ref", f"refs/heads/{branch}", commit, variables=index)
        return commit

    def head(self, branch: str = "main") -> str:
        """Return the commit of a branch, empty if there is no such branch."""
        with contextlib.suppress(CommandFailed):
            return _git(
                "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", variables={"GIT_DIR": str(self.folder)}
            )
        return ""

    def remove(self) -> None:
        """Delete the repository; reading it fails from now on."""
        shutil.rmtree(self.folder)


def _git(*words: str, folder: Path = Path("/"), variables: Mapping[str, str] = MappingProxyType({})) -> str:
    people = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in IDENTITY.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Without the user's git settings, such as signatures and hooks.
    environment = {**inherited, **people, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", **variables}
    result = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode:
        raise CommandFailed(f"git {words[0]}", result.stderr or result.stdout)
    return result.stdout.strip()


def _listens() -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST_ADDRESS, PORT), 1):
        return True
    return False
