"""Ctrl-C that a library swallowed still stops a step."""

import os
import signal
import threading

import pytest

from pipeline import interrupts


def test_a_swallowed_interrupt_is_remembered(monkeypatch) -> None:
    monkeypatch.setattr(interrupts, "_received", threading.Event())
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.install()
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)
