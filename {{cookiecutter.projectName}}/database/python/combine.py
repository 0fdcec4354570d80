"""The combine function of the aggregates `fit` and `evaluate`: on Greenplum it joins the states of two segments."""

import struct

import numpy as np

from database.python.state import HEADER


def combine(state: "bytes | None", other: "bytes | None") -> "bytes | None":
    """Return two states as one: counts are added, weights and slots averaged by rows seen.

    A state that is only the aggregate's name has seen no row. Raises ValueError when the states differ in length.
    """
    if state is None or len(state) <= 8:
        return other
    if other is None or len(other) <= 8:
        return state
    header = struct.calcsize(HEADER)
    task, _, rows, loss_sum, correct = struct.unpack_from(HEADER, state)
    _, _, other_rows, other_loss_sum, other_correct = struct.unpack_from(HEADER, other)
    if len(state) != len(other):
        raise ValueError(f"two states of {len(state)} and {len(other)} bytes cannot be of one model")
    if task.rstrip(b"\0") == b"fit":
        share = rows / (rows + other_rows)
        weights = np.frombuffer(state, "<f4", offset=header).astype("f8")
        other_weights = np.frombuffer(other, "<f4", offset=header).astype("f8")
        body: bytes = (share * weights + (1 - share) * other_weights).astype("<f4").tobytes()
    else:
        counts = np.frombuffer(state, "<i8", offset=header)
        body = (counts + np.frombuffer(other, "<i8", offset=header)).tobytes()
    counted = rows + other_rows, loss_sum + other_loss_sum, correct + other_correct
    return struct.pack(HEADER, task, bytes(16), *counted) + body
