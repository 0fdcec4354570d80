"""The client of the current request, seen from the thread that works for it."""

import contextvars
from collections.abc import Callable


class Busy(Exception):
    """The server has too much to do; the text is one sentence."""


class ClientGone(Exception):
    """The client has closed its connection: nobody waits for the answer."""


def _never() -> bool:
    return False


# Returns whether the client of the current request has gone. Where there is no request, nobody goes.
is_gone: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar("is_gone", default=_never)


def require_client() -> None:
    """Raise ClientGone if the client of the current request has gone."""
    if is_gone.get()():
        raise ClientGone
