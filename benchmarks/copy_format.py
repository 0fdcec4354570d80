"""PostgreSQL's binary COPY format, for an export to a client and an import from it."""

import struct
from collections.abc import Iterable, Iterator

import numpy as np

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = struct.pack(">h", -1)
FLOAT4 = 700


def read(copied: memoryview) -> Iterator[list[memoryview]]:
    """Yield the fields of every row; none may be NULL."""
    position = len(HEADER)
    while (fields := struct.unpack_from(">h", copied, position)[0]) != -1:
        position += 2
        row = []
        for _ in range(fields):
            start = position + 4
            position = start + struct.unpack_from(">i", copied, position)[0]
            row.append(copied[start:position])
        yield row


def write(rows: Iterable[tuple[bytes, ...]]) -> bytes:
    """Return rows of binary fields as one COPY stream."""
    parts = [HEADER]
    for row in rows:
        parts.append(struct.pack(">h", len(row)))
        for field in row:
            parts += [struct.pack(">i", len(field)), field]
    return b"".join([*parts, END])


def real_array(values: np.ndarray) -> bytes:
    """Return the values as PostgreSQL's binary real[], flattened to one dimension."""
    elements = np.empty(values.size, [("length", ">i4"), ("value", ">f4")])
    elements["length"], elements["value"] = 4, values.ravel()
    return struct.pack(">iiIii", 1, 0, FLOAT4, values.size, 1) + elements.tobytes()
