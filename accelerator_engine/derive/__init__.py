"""Files derived from accelerator.yaml: cookiecutter.json, template.yaml, docs/reference/options.md and the version
that a project records."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from accelerator_engine.derive.backstage import template_yaml
from accelerator_engine.derive.cookiecutter import cookiecutter_json
from accelerator_engine.derive.options_page import options_page
from accelerator_engine.derive.provenance import PROVENANCE, provenance_yaml
from accelerator_engine.derive.tables import Plan, combined, plan, variants_of

__all__ = ["Plan", "combined", "derived", "plan", "stale", "variants_of"]

_FILES: dict[str, Callable[[Plan], str]] = {
    "cookiecutter.json": cookiecutter_json,
    "template.yaml": template_yaml,
    "docs/reference/options.md": options_page,
    PROVENANCE: provenance_yaml,
}


def derived(root: Path) -> dict[Path, str]:
    """Return the text of each derived file. Raises InvalidManifest, and OSError."""
    tables = plan(root)
    return {root / name: make(tables) for name, make in _FILES.items()}


def stale(files: Mapping[Path, str]) -> Iterable[Path]:
    """Return the files whose text is not the derived one."""
    return [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
