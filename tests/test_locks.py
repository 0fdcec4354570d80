"""The lock files suit every Python of the supported distributions and name no registry."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BODY, ROOT, Sandbox, in_body

# Versions that override the requirements of packages: an input of `make lock`, not a lock.
OVERRIDES = BODY / "requirements" / "overrides.txt"
LOCKS = [ROOT / "requirements.txt", *sorted({*BODY.rglob("requirements/*.txt")} - {OVERRIDES})]
# Pure Python packages without a wheel; pip builds one.
SOURCES = {"kubeflow": ["kfp-server-api"], "pgadmin": ["flask-principal", "jsonformatter"]}
# Debian 12, Ubuntu 24.04, Debian 13.
PYTHONS = ["3.11", "3.12", "3.13"]


def test_every_role_has_a_lock() -> None:
    """A role with a .in but no .txt would be installed without a lock."""
    roles = {path.stem for path in BODY.rglob("requirements/*.in")}
    assert roles == {
        "app", "audit", "datahub", "inference-db", "kubeflow", "lock", "mlflow-server", "notebook", "pgadmin",
        "pipeline", "training-db", "ui",
    }  # fmt: skip
    assert {path.stem for path in LOCKS} == {"requirements", *roles}


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_each_python_has_wheels(lock: Path, python: str, tmp_path: Path) -> None:
    """Slow because pip queries the index; it shows that a fresh machine needs no compiler."""
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    for package in SOURCES.get(lock.stem, []):
        command += ["--no-binary", package]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_36"]
    completed = subprocess.run(
        [*command, "--target", tmp_path / "target", "-r", lock], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    wanted = {line.split("==")[0] for line in lock.read_text().splitlines() if re.match(r"[a-z0-9].*==", line)}
    assert wanted
    assert "Would install" in completed.stderr


def test_locks_contain_no_registry_address() -> None:
    """The machine that installs chooses the registry."""
    for path in [*LOCKS, BODY / "local" / "package-lock.json"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!\w)(https?://|--index-url|--extra-index-url|--find-links)", text), path


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_package_is_pinned_with_a_hash(lock: Path) -> None:
    """pip refuses an unhashed line too, but only when it installs."""
    entries = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8"))
    pinned = [entry for entry in entries if re.match(r"[A-Za-z0-9]", entry)]
    assert pinned
    for entry in pinned:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_lock_of_notebooks_contains_the_pipelines() -> None:
    """A notebook runs the steps in its own environment. If this fails, run `make lock` again."""
    pinned = {
        role: set(re.findall(r"^[a-z0-9.-]+==[^ ]+", in_body(f"requirements/{role}.txt").read_text(), re.MULTILINE))
        for role in ("notebook", "pipeline")
    }
    assert pinned["pipeline"] - pinned["notebook"] == set()
    assert len(pinned["notebook"] - pinned["pipeline"]) > 10


def test_the_locks_contain_the_overrides() -> None:
    """An override in no lock has no effect."""
    overrides = [line for line in OVERRIDES.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert overrides
    locks = "".join(in_body(f"requirements/{role}.txt").read_text(encoding="utf-8") for role in ("app", "ui"))
    for override in overrides:
        assert locks.count(f"\n{override} \\\n") == 2, override


@pytest.mark.slow
def test_a_project_adds_a_package(sandbox: Sandbox) -> None:
    """Slow because uv is installed and asks the registry that pip knows."""
    generated = sandbox.run("cookiecutter", "--no-input", "--default-config", ROOT)
    assert generated.returncode == 0, generated.stderr
    requirements = sandbox.output / "image-classifier" / "requirements"
    before = {path.name: path.read_text(encoding="utf-8") for path in requirements.iterdir()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-C", requirements.parent, "lock", "ADD=humanize==4.13.0"]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert "requirements/pipeline.txt: humanize 4.13.0\n" in completed.stderr
    after = {path.name: path.read_text(encoding="utf-8") for path in requirements.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"pipeline.in", "pipeline.txt"}
    assert after["pipeline.in"] == f"{before['pipeline.in']}humanize==4.13.0\n"
    # Nothing else in the lock file changes.
    added = re.search(r"^humanize==4\.13\.0 \\\n(?: .*\n)+", after["pipeline.txt"], re.MULTILINE)
    assert added
    assert added[0].count("--hash=sha256:") == 2
    assert after["pipeline.txt"].replace(added[0], "") == before["pipeline.txt"]
