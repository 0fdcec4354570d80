"""The programs of the cluster and the definitions of its kinds, built once a machine from pinned Go modules.

Each folder of modules/, and tests/tools/argo, pins one program's modules; its build.yaml says what is made of them.
"""

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tools import argo, go_modules, ytt
from tools.installed import installed

MODULES = Path(__file__).resolve().parent / "modules"
DEFINITIONS = "definitions.json"
EXECUTOR = argo.HERE / "executor" / "signal_linux.go"


@dataclass(frozen=True)
class Parts:
    """The folders that hold the parts."""

    argo: Path
    carvel: Path
    kapp_controller: Path
    kubernetes: Path
    pause: Path
    ytt: Path
    others: Path

    @property
    def definitions(self) -> list[Path]:
        """The files with definitions of kinds."""
        return [folder / DEFINITIONS for folder in (self.argo, self.kapp_controller, self.others)]


@functools.cache
def parts() -> Parts:
    """Build what is not there yet: a quarter of an hour the first time. Raises CannotInstall."""
    return Parts(
        argo=_installed("argo", argo.HERE, [EXECUTOR], _argoexec),
        carvel=_installed("carvel", MODULES / "carvel"),
        kapp_controller=_installed("kapp-controller", MODULES / "kapp-controller"),
        kubernetes=_installed("kubernetes", MODULES / "kubernetes"),
        pause=installed("cluster-pause", [MODULES / "pause/go.mod", MODULES / "pause/main.go"], _pause),
        ytt=ytt.folder(),
        others=_installed("definitions", MODULES / "definitions"),
    )


def _installed(
    name: str, folder: Path, more: Sequence[Path] = (), also: Callable[[Path], None] = lambda target: None
) -> Path:
    """Return the folder with what a build.yaml names."""
    pinned = [folder / file for file in ("go.mod", "go.sum", "build.yaml")]

    def build(target: Path) -> None:
        wanted = yaml.safe_load((folder / "build.yaml").read_text(encoding="utf-8"))
        for program, made in wanted.get("programs", {}).items():
            variables = {made["version"]: _version(folder, wanted["module"])} if "version" in made else {}
            go_modules.build(folder, target / program, made["package"], variables)
        if "definitions" in wanted:
            _write_definitions(folder, wanted["definitions"], target / DEFINITIONS)
        also(target)

    return installed(f"cluster-{name}", [*pinned, *more], build)


def _version(folder: Path, module: str) -> str:
    """Return the version of a module that go.mod requires."""
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", (folder / "go.mod").read_text("utf-8"), re.M)
    assert found, f"{folder}/go.mod requires no {module}"
    # Kubernetes calls itself v1.33.0; Carvel's tools compare versions and want 0.64.2.
    return found[1] if module.startswith("k8s.io/") else found[1].removeprefix("v")


def _argoexec(target: Path) -> None:
    """Build Argo's executor from a copy of its module: the published one lacks a file for Linux."""
    published = go_modules.sources(argo.HERE, [argo.MODULE])[argo.MODULE]
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "argo"
        shutil.copytree(published, copy, copy_function=shutil.copyfile)
        for folder in (copy, *filter(Path.is_dir, copy.rglob("*"))):
            folder.chmod(0o755)
        shutil.copy(EXECUTOR, copy / "workflow" / "executor" / "osspecific")
        go_modules.build(copy, target / "argoexec", "./cmd/argoexec")


def _pause(target: Path) -> None:
    go_modules.build(MODULES / "pause", target / "pause", ".")


def _write_definitions(folder: Path, wanted: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write definitions of kinds as one list, without their descriptions: two thirds of what the API server reads."""
    modules = go_modules.sources(folder, [one["module"] for one in wanted])
    files = [modules[one["module"]] / one["folder"] / file for one in wanted for file in one["files"]]
    texts = (file.read_text(encoding="utf-8") for file in files)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = [document for text in texts for document in yaml.load_all(text, loader) if document]
    items = [_plain(document) for document in documents]
    target.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return a definition without descriptions; a field of that name is an object and stays."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _plain(one) for key, one in value.items() if key != "description" or not isinstance(one, str)}
