"""Stop if nothing has checked the answers: another `_extensions` replaces the extension that checks them."""

import json
import sys

EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"

# A raw string in triple quotes can hold a JSON list or object, which contains no three bare quotes in a
# row, and starts and ends with none.
if EXTENSION not in json.loads(r"""{{ cookiecutter._extensions | jsonify }}"""):
    sys.exit("_extensions is a setting of this template, not a question, and cannot be given; leave it out.")
