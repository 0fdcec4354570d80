"""Writes the API's OpenAPI description to app/openapi.json, for tools that read it from the repository.

`python -m app.openapi` writes the file; `python -m app.openapi --check` fails if the file is not up to date.
"""

import json
import pathlib
import sys
import typing
from collections.abc import Sequence

from app.authentication import Nobody
from app.endpoints import create_app
from app.predictions import Predictions
from app.settings import Settings, SettingsError, settings

FILE = pathlib.Path(__file__).with_name("openapi.json")


def main(arguments: Sequence[str]) -> int:
    """Write or check the file; return the exit status."""
    try:
        text = description(settings())
        if arguments not in ([], ["--check"]):
            raise SettingsError(f"`python -m app.openapi` takes --check or nothing, not {' '.join(arguments)!r}")
        if not arguments:
            FILE.write_text(text, encoding="utf-8")
        elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
            raise SettingsError("app/openapi.json is not up to date with the API: run `make openapi`")
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def description(chosen: Settings) -> str:
    """Return the file's text. It depends on the code, the project's name and its description only."""
    # Only a request or a shutdown uses `predictions`.
    app = create_app(chosen, typing.cast(Predictions, None), Nobody())
    return json.dumps(app.openapi(), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
