"""`python -m app.openapi` writes the description of the API to app/openapi.json, for who wants it without the API.

With --check it writes nothing, and exits with a sentence when what lies there is not what it would write.
"""

import json
import pathlib
import sys
import typing
from collections.abc import Sequence

from app.endpoints import create_app
from app.predictions import Predictions
from app.settings import Settings, SettingsError, settings

FILE = pathlib.Path(__file__).with_name("openapi.json")


def main(arguments: Sequence[str]) -> int:
    """Write or check the file; return the exit status."""
    try:
        text = described(settings())
        if arguments not in ([], ["--check"]):
            raise SettingsError(f"`python -m app.openapi` takes --check or nothing, not {' '.join(arguments)!r}")
        if not arguments:
            FILE.write_text(text, encoding="utf-8")
        elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
            raise SettingsError("app/openapi.json is not what the API is now: write it anew with `make openapi`")
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def described(chosen: Settings) -> str:
    """Return the description as it stands in the file; of the answers only name and description are in it."""
    # It is made of the operations' code alone: no database is asked.
    app = create_app(chosen, typing.cast(Predictions, None))
    return json.dumps(app.openapi(), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
