"""Move the files of the variants that fit the answers into the project, and remove the other variants."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path.cwd().resolve()
OVERLAYS = "variants"

# A raw string in triple quotes can hold a JSON object, which contains no three bare quotes in a row, and
# starts and ends with none.
ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")
# The extension sets it for `--skip-if-file-exists`: then a file that is there stays.
KEEPS_FILES = ANSWERS.get("_keepsFiles", False)


class Overlaid(NamedTuple):
    """A file of a variant, its path in the project, and whether the variant fits the answers."""

    source: Path
    target: Path
    is_chosen: bool


def inside(path: Path) -> Path:
    """Return the path. Raises OSError unless it lies within the project."""
    if PROJECT not in path.resolve().parents:
        raise OSError(f"{path} is not inside the project")
    return path


def overlays(folder: Path, fits: bool = True) -> Iterator[Overlaid]:
    """Yield each file of the variants in a folder; a variant within a variant fits if both do."""
    for name, when in ANSWERS["_variants"].items():
        variant = inside(folder / OVERLAYS / name)
        chosen = fits and all(ANSWERS[option] in values for option, values in when.items())
        if (variant / OVERLAYS).is_dir():
            yield from overlays(variant, chosen)
        for path in sorted(variant.rglob("*")):
            relative = path.relative_to(variant)
            if path.is_file() and relative.parts[0] != OVERLAYS:
                yield Overlaid(path, inside(PROJECT / relative), chosen)


def lay(files: Sequence[Overlaid]) -> None:
    """Move the files of the variants that fit to their places."""
    for source, target, is_chosen in files:
        if is_chosen and not (KEEPS_FILES and target.exists()):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)


def remove_unfit(files: Sequence[Overlaid]) -> list[Path]:
    """Remove what a generation with other answers left, and return what somebody else wrote at such a place.

    Only the template's own text is removed: a project without the template's CI may have a CI of its own.
    """
    fit = {target for _, target, is_chosen in files if is_chosen}
    unfit = [(source, target) for source, target, _ in files if target not in fit]
    for source, target in unfit:
        if not KEEPS_FILES and target.is_file() and target.read_bytes() == source.read_bytes():
            target.unlink()
            tidy(target.parent)
    return sorted({target for _, target in unfit if target.is_file()})


def tidy(folder: Path) -> None:
    """Remove a folder if it is empty, and then its empty parents."""
    while folder != PROJECT and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def remove_overlays() -> None:
    """Remove the folders of the variants, and no other folder."""
    for name in ANSWERS["_variants"]:
        folder = PROJECT / OVERLAYS / name
        if folder.is_dir() and folder.resolve() == folder and folder.parent == PROJECT / OVERLAYS:
            shutil.rmtree(folder)
    tidy(PROJECT / OVERLAYS)


try:
    try:
        files = list(overlays(PROJECT))
        others = remove_unfit(files)
        lay(files)
    finally:
        remove_overlays()
except OSError as error:
    reason = f"{error.filename2 or error.filename}: {error.strerror}" if error.strerror else str(error)
    sys.exit(f"{reason}, so the project is not complete: correct that and generate again.")

if others:
    names = ", ".join(str(path.relative_to(PROJECT)) for path in others)
    print(f"kept, although the template has no such file for these answers: {names}", file=sys.stderr)
print(f"cd {PROJECT.name} && make demo")
