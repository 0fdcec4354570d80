"""Keep the files that fit the answers, under the names they go by, and drop the others."""

import json
import shutil
import sys
from pathlib import Path

PROJECT = Path.cwd().resolve()

# A JSON object can stand in a raw string in triple quotes: it holds no three bare quotes in a row,
# and neither begins nor ends with one.
ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")


def inside(path: str) -> Path:
    """Return the path within the project; exit with a sentence when it leads anywhere else."""
    target = (PROJECT / path).resolve()
    if PROJECT not in target.parents:
        sys.exit(f"_layout names {path!r}, which is not inside the project, so the project is not complete.")
    return target


def drop(path: Path) -> None:
    """Remove a file or a folder, unless it went with its own folder; leave no empty folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    tidy(path.parent)


def tidy(folder: Path) -> None:
    """Remove a folder that is empty now, and those around it."""
    while folder != PROJECT and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


kept = {}
for name, rule in ANSWERS["_layout"].items():
    source, target = inside(name), inside(rule.get("rename", name))
    if all(ANSWERS[option] in values for option, values in rule["when"].items()):
        kept[source] = target
    else:
        drop(source)

# Renamed last: a new name may be the name of a file that was dropped.
for source, target in kept.items():
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        tidy(source.parent)

print(f"cd {PROJECT.name} && make demo")
