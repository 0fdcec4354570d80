"""check-jsonschema, which bundles the schemas of GitHub's and GitLab's CI files; requirements.txt pins it."""

import subprocess
import sys
from pathlib import Path

from tools.installed import CannotInstall, installed

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.txt"


def refusals(schema: str, file: Path) -> str:
    """Return the errors of a file by a bundled schema (vendor.gitlab-ci, vendor.github-workflows); empty if valid.

    Raises CannotInstall.
    """
    program = installed("check-jsonschema", [LOCK], _build) / "bin" / "check-jsonschema"
    command = [program, "--builtin-schema", schema, file]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return result.stdout + result.stderr if result.returncode else ""


def _build(target: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    # Relocatable, because the folder is renamed when it is complete.
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
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise CannotInstall(f"check-jsonschema cannot be installed; uv says:\n{result.stderr[-2000:]}")
