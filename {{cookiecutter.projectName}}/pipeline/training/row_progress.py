"""Rows done within an epoch, from the messages that the aggregate `fit` sends while its statement runs."""

import re
import time
from collections.abc import Callable

from database.python.heartbeat import HEARTBEAT

MESSAGE = re.compile(rf"{HEARTBEAT}: fit (?P<process>\d+) (?P<rows>\d+)")


class RowProgress:
    """Shows the rows done, and rows per second; on Greenplum, each segment's process sends its own messages."""

    def __init__(self, epoch: int, rows: int, show: Callable[[str], None]) -> None:
        """Take the number of the epoch's rows, and the function that shows a text."""
        self.epoch, self.rows, self.show = epoch, rows, show
        self.rows_per_process: dict[str, int] = {}
        self.started = time.monotonic()

    def read(self, message: str) -> None:
        """Read a message of the database, and show the progress if it counts rows."""
        if match := MESSAGE.search(message):
            self.rows_per_process[match["process"]] = int(match["rows"])
            done = sum(self.rows_per_process.values())
            rate = done / max(time.monotonic() - self.started, 0.001)
            self.show(f"epoch {self.epoch}: {done:,} of {self.rows:,} rows, {rate:,.0f} rows per second")
