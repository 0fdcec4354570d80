"""A watched step shows its elapsed time; an unwatched one prints nothing."""

import io
import re
import sys
import threading

from pipeline import progress


class Stream(io.StringIO):
    """A stream that says when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        """Write the text and set `written`."""
        count = super().write(text)
        self.written.set()
        return count


def test_a_watched_step_shows_its_elapsed_time(monkeypatch) -> None:
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv(progress.WATCHED, "1")
    with progress.elapsed_time("train_model", 0.01):
        assert stream.written.wait(30)
    assert re.match(r"train_model: \d+ s\n", stream.getvalue())


def test_an_unwatched_step_prints_nothing(monkeypatch, capsys) -> None:
    monkeypatch.delenv(progress.WATCHED, raising=False)
    threads = threading.active_count()
    with progress.elapsed_time("train_model", 0.001):
        assert threading.active_count() == threads
    assert capsys.readouterr().err == ""
