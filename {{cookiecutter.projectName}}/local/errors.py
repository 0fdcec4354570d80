"""The one exception that a person is meant to read, and how a program reports it."""

import sys
from collections.abc import Callable


class LocalError(Exception):
    """Something is missing or does not work; its text says what, where, and which command fixes it."""


def exit_status(program: str, command: Callable[[], int | None]) -> int:
    """Run a command and return the exit status; a mistake becomes one sentence after the program's name."""
    try:
        return command() or 0
    except LocalError as error:
        print(f"{program}: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 1
