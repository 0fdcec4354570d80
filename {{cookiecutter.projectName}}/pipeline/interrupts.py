"""Ctrl-C: a step stops before it moves an alias, even if a library swallowed the exception.

Importing TensorFlow and exporting a model run code with bare `except` clauses, which catch KeyboardInterrupt too.
"""

import signal
import threading
from typing import NoReturn

_received = threading.Event()


def install() -> None:
    """Handle SIGINT from now on: remember it, and raise KeyboardInterrupt as Python's own handler does.

    A process that a shell starts in the background ignores SIGINT, and still does afterwards.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)


def check() -> None:
    """Raise KeyboardInterrupt if a person has pressed Ctrl-C."""
    if _received.is_set():
        raise KeyboardInterrupt


def _handle(number: int, frame: object) -> NoReturn:
    _received.set()
    raise KeyboardInterrupt
