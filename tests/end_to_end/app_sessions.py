"""Sessions of the app that ask for predictions while a rollback is committed."""

import math
import threading
import time
from typing import NamedTuple

from .project import Project

IMAGE = bytes(range(64))
TASK = "SELECT {schema}.run_inference_task(%s, 'rolled_back', 'staging')"
PREDICT = "SELECT {schema}.predict(%s, 'rolled_back', 'staging')"
VERSION = "SELECT version FROM {schema}.model_alias WHERE alias = 'staging'"


class Call(NamedTuple):
    """One call: start and end in seconds, probabilities, and the version if the function returns it."""

    start: float
    end: float
    probabilities: list[float]
    version: int | None


class Caller(threading.Thread):
    """Calls a function repeatedly in one session of the app until the event `stop` is set."""

    def __init__(self, project: Project, statement: str, stop: threading.Event) -> None:
        super().__init__()
        self.project, self.statement, self.stop = project, statement, stop
        self.calls: list[Call] = []

    def run(self) -> None:
        """Call and record."""
        with self.project.database("inference-app") as app:
            while not self.stop.is_set():
                start = time.monotonic()
                answer = app.value(self.statement, (IMAGE,))
                end = time.monotonic()
                result = (answer["probabilities"], answer["version"]) if isinstance(answer, dict) else (answer, None)
                self.calls.append(Call(start, end, *result))


class Watcher(threading.Thread):
    """Measures when the alias moved: after `not_before` and until `committed`, in seconds."""

    def __init__(self, project: Project, version: int) -> None:
        super().__init__()
        self.project, self.version = project, version
        self.not_before = self.committed = 0.0

    def run(self) -> None:
        """Query the alias as often as possible."""
        with self.project.database("inference-deployer") as database:
            deadline = time.monotonic() + 120
            while not self.committed and time.monotonic() < deadline:
                start = time.monotonic()
                if database.value(VERSION) == self.version:
                    self.committed = time.monotonic()
                else:
                    self.not_before = start


class Served(NamedTuple):
    """The calls around a rollback, its time, its output, and the probabilities of each version."""

    callers: list[Caller]
    watcher: Watcher
    probabilities: dict[int, list[float]]
    output: str

    def version(self, call: Call) -> int | None:
        """Return the version that gave an answer, by its probabilities."""
        for version, expected in self.probabilities.items():
            if all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(call.probabilities, expected, strict=True)):
                return version
        return None
