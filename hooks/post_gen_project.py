"""Move the files of the variants that fit the answers into the project, and remove the other variants."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path.cwd().resolve()
OVERLAYS = "variants"

# A raw string in triple quotes can hold a JSON object, which contains no three bare quotes in a row, and
# starts and ends with none.
ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")


def inside(path: Path) -> Path:
    """Return the path; exit with a sentence unless it lies within the project."""
    if PROJECT not in path.resolve().parents:
        sys.exit(f"{path} is not inside the project, so the project is not complete.")
    return path


def overlays(folder: Path, fits: bool = True) -> Iterator[tuple[Path, Path, bool]]:
    """Yield each file of the variants in a folder, its path in the project, and whether it fits the answers.

    A variant within a variant fits if both do.
    """
    for name, when in ANSWERS["_variants"].items():
        variant = inside(folder / OVERLAYS / name)
        chosen = fits and all(ANSWERS[option] in values for option, values in when.items())
        if (variant / OVERLAYS).is_dir():
            yield from overlays(variant, chosen)
        for path in sorted(variant.rglob("*")):
            relative = path.relative_to(variant)
            if path.is_file() and relative.parts[0] != OVERLAYS:
                yield path, inside(PROJECT / relative), chosen


def tidy(folder: Path) -> None:
    """Remove a folder if it is empty, and then its empty parents."""
    while folder != PROJECT and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


files = list(overlays(PROJECT))
# An earlier generation with other answers may have left files of variants that no longer fit.
for _, target, chosen in files:
    if not chosen:
        target.unlink(missing_ok=True)
        tidy(target.parent)
for source, target, chosen in files:
    if chosen:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
for name in ANSWERS["_variants"]:
    shutil.rmtree(PROJECT / OVERLAYS / name, ignore_errors=True)
tidy(PROJECT / OVERLAYS)

print(f"cd {PROJECT.name} && make demo")
