"""The programs of the cluster and the definitions of its kinds, built once per machine from pinned Go modules.

Each folder of modules/, and tests/tools/argo, pins the modules of one program; its build.yaml lists the programs and
definitions to build from them.
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
    """The folders of the built parts."""

    argo: Path
    carvel: Path
    kapp_controller: Path
    kube_router: Path
    kubernetes: Path
    pause: Path
    ytt: Path
    other_definitions: Path

    @property
    def definitions(self) -> list[Path]:
        """The files with the definitions of kinds."""
        return [folder / DEFINITIONS for folder in (self.argo, self.kapp_controller, self.other_definitions)]


@functools.cache
def parts() -> Parts:
    """Build the missing parts; the first call takes a quarter of an hour. Raises CannotInstall."""
    return Parts(
        argo=_installed("argo", argo.HERE, [EXECUTOR], _argoexec),
        carvel=_installed("carvel", MODULES / "carvel"),
        kapp_controller=_installed("kapp-controller", MODULES / "kapp-controller"),
        kube_router=_installed("kube-router", MODULES / "kube-router"),
        kubernetes=_installed("kubernetes", MODULES / "kubernetes"),
        pause=installed("cluster-pause", [MODULES / "pause/go.mod", MODULES / "pause/main.go"], _pause),
        ytt=ytt.folder(),
        other_definitions=_installed("definitions", MODULES / "definitions"),
    )


def _installed(
    name: str, folder: Path, more_pinned: Sequence[Path] = (), extra_build: Callable[[Path], None] = lambda target: None
) -> Path:
    """Return the folder with the programs and definitions of a build.yaml; `extra_build` adds to it."""
    pinned = [folder / file for file in ("go.mod", "go.sum", "build.yaml")]

    def build(target: Path) -> None:
        recipe = yaml.safe_load((folder / "build.yaml").read_text(encoding="utf-8"))
        for program, source in recipe.get("programs", {}).items():
            variables = {source["version"]: _version(folder, recipe["module"])} if "version" in source else {}
            go_modules.build(folder, target / program, source["package"], variables)
        if "definitions" in recipe:
            _write_definitions(folder, recipe["definitions"], target / DEFINITIONS)
        extra_build(target)

    return installed(f"cluster-{name}", [*pinned, *more_pinned], build)


def _version(folder: Path, module: str) -> str:
    """Return the version of a module that go.mod requires."""
    match = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", (folder / "go.mod").read_text("utf-8"), re.M)
    assert match, f"{folder}/go.mod requires no {module}"
    # Kubernetes has versions such as v1.33.0; Carvel's tools expect versions such as 0.64.2.
    return match[1] if module.startswith("k8s.io/") else match[1].removeprefix("v")


def _argoexec(target: Path) -> None:
    """Build Argo's executor from a copy of its module, because the published module lacks a file for Linux."""
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


def _write_definitions(folder: Path, sources: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write definitions of kinds as one list, without descriptions, which are two thirds of the text."""
    modules = go_modules.sources(folder, [source["module"] for source in sources])
    files = [modules[source["module"]] / source["folder"] / name for source in sources for name in source["files"]]
    texts = (file.read_text(encoding="utf-8") for file in files)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = [document for text in texts for document in yaml.load_all(text, loader) if document]
    items = [_without_descriptions(document) for document in documents]
    target.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")


def _without_descriptions(value: Any) -> Any:
    """Remove all descriptions of a definition. A field named description is an object and stays."""
    if isinstance(value, list):
        return [_without_descriptions(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_descriptions(item)
        for key, item in value.items()
        if key != "description" or not isinstance(item, str)
    }
