"""Stop when the answers were not checked, which is so when somebody else's `_extensions` were used."""

import json
import sys

EXTENSION = "accelerator_engine.cookiecutter.AnswersExtension"

# A JSON list or object can stand in a raw string in triple quotes: it holds no three bare quotes in
# a row, and neither begins nor ends with one.
if EXTENSION not in json.loads(r"""{{ cookiecutter._extensions | jsonify }}"""):
    sys.exit("_extensions is a setting of this template, not a question, and cannot be given; leave it out.")
