"""Stop if nothing has checked the answers, or if generation could lose a file of a person.

Another `_extensions` replaces the extension that checks the answers.
"""

import json
import sys
from pathlib import Path

EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"
OVERLAYS = Path("variants")

# A raw string in triple quotes can hold a JSON list or object, which contains no three bare quotes in a
# row, and starts and ends with none.
if EXTENSION not in json.loads(r"""{{ cookiecutter._extensions | jsonify }}"""):
    sys.exit("_extensions is a setting of this template, not a question, and cannot be given; leave it out.")

# The hook after generation moves and removes what is in these folders.
VARIANTS = json.loads(r"""{{ cookiecutter._variants | jsonify }}""")
taken = [OVERLAYS] if OVERLAYS.is_symlink() or OVERLAYS.is_file() else [OVERLAYS / name for name in VARIANTS]
for path in taken:
    if path.exists() or path.is_symlink():
        sys.exit(
            f"{Path.cwd().name}/{path} is there already, and generation needs its place: move your files away, "
            "or remove what an interrupted generation left."
        )
