"""Messages about the rows that `fit` and `evaluate` have seen, while their statement runs."""

import os
import struct
import time
from typing import TYPE_CHECKING

from database.python.state import HEADER

if TYPE_CHECKING:
    from typing import Any

# The client looks for messages that start so: pipeline/training/row_progress.py.
HEARTBEAT = "rows seen"
SECONDS_BETWEEN_HEARTBEATS = 1


def is_heartbeat_due(session: "dict[str, Any]") -> bool:
    """Return whether the last message of this session is a second old; the next one then counts as sent."""
    now = time.monotonic()
    if now - session.get("heartbeat_at", 0.0) < SECONDS_BETWEEN_HEARTBEATS:
        return False
    session["heartbeat_at"] = now
    return True


def heartbeat(state: bytes) -> str:
    """Return the message for a state: the aggregate, this process, and the rows it has seen."""
    task, _, rows, _, _ = struct.unpack_from(HEADER, state)
    return f"{HEARTBEAT}: {task.rstrip(bytes(1)).decode()} {os.getpid()} {rows}"
