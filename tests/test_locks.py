"""The lock files hold for every Python of the supported distributions, and name no place to fetch from."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BODY, ROOT, in_body

# What no package's own wishes may change: read when the locks are made, installed by nobody.
OVERRIDES = BODY / "requirements" / "overrides.txt"
LOCKS = [ROOT / "requirements.txt", *sorted({*BODY.rglob("requirements/*.txt")} - {OVERRIDES})]
# What there is no wheel of: pure Python, which pip makes a wheel of.
SOURCES = {"kubeflow": ["kfp-server-api"], "pgadmin": ["flask-principal", "jsonformatter"]}
# Debian 12, Ubuntu 24.04, Debian 13.
PYTHONS = ["3.11", "3.12", "3.13"]


def test_every_role_has_a_lock() -> None:
    """A role's .in without its .txt would be installed unlocked."""
    roles = {path.stem for path in BODY.rglob("requirements/*.in")}
    assert roles == {
        "app", "datahub", "inference-db", "kubeflow", "mlflow-server", "notebook", "pgadmin", "pipeline", "training-db",
        "ui",
    }  # fmt: skip
    assert {path.stem for path in LOCKS} == {"requirements", *roles}


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_wheels_are_there_for_each_python(lock: Path, python: str, tmp_path: Path) -> None:
    """Slow where the index has to be asked; it shows that nothing has to be compiled on a fresh machine."""
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    for package in SOURCES.get(lock.stem, []):
        command += ["--no-binary", package]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_36"]
    done = subprocess.run(
        [*command, "--target", tmp_path / "target", "-r", lock], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wanted = {line.split("==")[0] for line in lock.read_text().splitlines() if re.match(r"[a-z0-9].*==", line)}
    assert len(wanted) > 3
    assert "Would install" in done.stderr


def test_no_registry_address_stands_in_a_lock() -> None:
    """Whoever installs decides where from."""
    for path in [*LOCKS, BODY / "local" / "package-lock.json"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!\w)(https?://|--index-url|--extra-index-url|--find-links)", text), path


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_everything_is_pinned_with_a_hash(lock: Path) -> None:
    """Pip refuses an unhashed line itself; this says so before anything is downloaded."""
    entries = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8"))
    pinned = [entry for entry in entries if re.match(r"[A-Za-z0-9]", entry)]
    assert pinned
    for entry in pinned:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_a_notebook_holds_what_the_steps_run_with() -> None:
    """It starts them in its own environment. Where this fails, `make lock` once more takes the versions over."""
    pinned = {
        role: set(re.findall(r"^[a-z0-9.-]+==[^ ]+", in_body(f"requirements/{role}.txt").read_text(), re.MULTILINE))
        for role in ("notebook", "pipeline")
    }
    assert pinned["pipeline"] - pinned["notebook"] == set()
    assert len(pinned["notebook"] - pinned["pipeline"]) > 10


def test_overrides_are_what_the_locks_hold() -> None:
    """An override that no lock took up would be a version that nobody runs."""
    overrides = [line for line in OVERRIDES.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert overrides
    held = "".join(in_body(f"requirements/{role}.txt").read_text(encoding="utf-8") for role in ("app", "ui"))
    for override in overrides:
        assert held.count(f"\n{override} \\\n") == 2, override
