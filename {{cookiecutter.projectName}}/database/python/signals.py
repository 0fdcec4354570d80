"""Keeps PostgreSQL's signals away from the threads of a library."""

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")


def with_signals_blocked(action: "Callable[[], Result]") -> "Result":
    """Return the result of `action`, which may start threads: they inherit the mask and receive no signal.

    Only signals that report a fault of the thread itself stay open, and those that cannot be blocked.
    """
    blocked = set(signal.Signals) - {
        signal.SIGSEGV,
        signal.SIGFPE,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGKILL,
        signal.SIGSTOP,
    }
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        return action()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
