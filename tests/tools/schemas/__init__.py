"""check-jsonschema, which carries the schemas of GitHub's and GitLab's files; requirements.txt pins it."""

import subprocess
import sys
from pathlib import Path

from tools.installed import CannotInstall, installed

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.txt"


def refusals(schema: str, file: Path) -> str:
    """Return what a bundled schema (vendor.gitlab-ci, vendor.github-workflows) says against a file, empty when nothing.

    Raises CannotInstall.
    """
    program = installed("check-jsonschema", [LOCK], _build) / "bin" / "check-jsonschema"
    command = [program, "--builtin-schema", schema, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def _build(target: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    # Relocatable: the folder gets its name when it is complete.
    for command in (
        [uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, "--allow-existing", target],
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--python",
            target / "bin" / "python",
            "-r",
            LOCK,
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotInstall(f"check-jsonschema cannot be installed; uv says:\n{done.stderr[-2000:]}")
