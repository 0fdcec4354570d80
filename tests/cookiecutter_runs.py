"""Runs of cookiecutter, shared by the tests of generation, refusals and hooks."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import ROOT, Sandbox

from accelerator_engine.options import Option

# A question for accelerator.yaml, which a test adds to a copy of the template.
FLAVOUR = """\
    - name: flavour
      x-group: Tools
      label: Flavour
      description: The flavour, plain or sweet
      dataType: string
      inputType: select
      choices: [{text: Plain, value: plain}, {text: Sweet, value: sweet}]
      defaultValue: plain
      required: true
      validationRegex: '^(plain|sweet)(?![\\s\\S])'

"""


def files(folder: Path) -> Iterator[Path]:
    """Return every file and link, without the caches of tools, which a clone of the template does not have."""
    for path in folder.rglob("*"):
        is_cache = any(part == "__pycache__" or part.endswith("_cache") for part in path.parts)
        if not is_cache and (path.is_symlink() or not path.is_dir()):
            yield path


def variants() -> dict[str, Any]:
    """Return the answers per variant that keep it."""
    return json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_variants"]


def refusal(name: str, answer: str, option: Option) -> str:
    """Return the message that refuses an answer."""
    start = f"{name} cannot be {answer[:60]!r}" + (f"… ({len(answer)} characters)" if len(answer) > 60 else "")
    description = option.description
    return f"{start}; allowed is {description[0].lower()}{description[1:]}, for example {option.default}."


def cookiecutter(sandbox: Sandbox, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run cookiecutter on the template in the output folder."""
    return sandbox.run("cookiecutter", ROOT, *arguments, stdin=stdin)
