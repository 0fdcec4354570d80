--liquibase formatted sql

--changeset project:open_model_without_files splitStatements:false stripComments:false
-- A model's weights are in its own file, its operators are those of ONNX, and a long batch can be cancelled.
CREATE OR REPLACE FUNCTION "${schema}".open_model(sha256 text, threads int) RETURNS void LANGUAGE plpython3u AS $python$
# begin database/python/signals.py (make sql writes this; edit that file)
import signal


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
# end database/python/signals.py
# begin database/python/onnx_operators.py (make sql writes this; edit that file)
# The operators of ONNX itself; others are code that somebody adds to ONNX Runtime.
OWN_SETS = ("", "ai.onnx", "ai.onnx.ml")
NOT_ONNX = "the file is not an ONNX file"
# Fields of the messages in onnx.proto: ModelProto's opset_import and functions, FunctionProto's opset_import, and
# OperatorSetIdProto's domain. A node may only use an operator of an imported set.
MODEL_IMPORT, MODEL_FUNCTION, FUNCTION_IMPORT, DOMAIN = 8, 25, 9, 1


def refuse_foreign_operators(content: "bytes | memoryview") -> None:
    """Raise ValueError when an ONNX file, or a function in it, imports other operators than those of ONNX itself."""
    for number, value in message_fields(memoryview(content)):
        if number == MODEL_IMPORT:
            refuse_foreign_set(value)
        elif number == MODEL_FUNCTION:
            for inner_number, inner in message_fields(value):
                if inner_number == FUNCTION_IMPORT:
                    refuse_foreign_set(inner)


def refuse_foreign_set(identifier: memoryview) -> None:
    """Raise ValueError unless an identifier of a set of operators (OperatorSetIdProto) names one of ONNX itself."""
    for number, domain in message_fields(identifier):
        name = bytes(domain).decode(errors="replace")
        if number == DOMAIN and name not in OWN_SETS:
            raise ValueError(
                f"the ONNX file imports the operators of {name[:100]!r}; "
                "only those of ai.onnx and ai.onnx.ml are allowed"
            )


def message_fields(message: memoryview) -> "Iterator[tuple[int, memoryview]]":
    """Yield number and content of each field of a protocol buffer's message; content is empty for plain numbers.

    Source: the encoding of protocol buffers (key = number << 3 | wire type). Raises ValueError for other bytes.
    """
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = varint(message, place)
            yield key >> 3, memoryview(b"")
            continue
        if kind not in (1, 2, 5):
            raise ValueError(NOT_ONNX)
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, place = varint(message, place)
        if size > len(message) - place:
            raise ValueError(NOT_ONNX)
        yield key >> 3, message[place : place + size]
        place += size


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the number of variable length at a place, and the place after it. Raises ValueError."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError(NOT_ONNX)
# end database/python/onnx_operators.py

import threading
import time

import numpy as np
import onnxruntime as ort

stored = plpy.execute(
    plpy.prepare(
        'SELECT onnx FROM "${schema}".model_version WHERE sha256 OPERATOR(pg_catalog.=) $1 LIMIT 1', ["pg_catalog.text"]
    ),
    [sha256],
)
refuse_foreign_operators(stored[0]["onnx"])
options = ort.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = threads
# A waiting thread must not burn the core of another session.
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
# A model that names files as its weights would read them in PGDATA; no file lies below a device.
options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/dev/null")
# ONNX Runtime's threads must not receive PostgreSQL's signals.
session = with_signals_blocked(
    lambda: ort.InferenceSession(stored[0]["onnx"], options, providers=["CPUExecutionProvider"])
)
images = session.get_inputs()[0]
shape = tuple(images.shape[1:])
dtype = np.dtype({"tensor(uint8)": "u1", "tensor(float)": "<f4"}[images.type])
row_bytes = int(np.prod(shape)) * dtype.itemsize
# Only a Loop may never end; the word elsewhere in the file merely starts a timer.
has_loop = b"Loop" in stored[0]["onnx"]


def run(rows):
    """Return the probabilities of up to 256 rows (n, *shape); a Loop ends with an error after 10 s."""
    if not has_loop:
        return session.run(None, {images.name: rows})[0]
    limited = ort.RunOptions()
    timer = threading.Timer(10, setattr, (limited, "terminate", True))
    # No thread but the server's own may receive its signals.
    with_signals_blocked(timer.start)
    try:
        return session.run(None, {images.name: rows}, limited)[0]
    finally:
        timer.cancel()
        timer.join()


def answer(features, row_count):
    """Return the probabilities of packed rows, (row_count, classes) float32; raise an SQL error for a wrong length."""
    if features is None or row_count is None or row_count < 1 or len(features) != row_count * row_bytes:
        length = "is NULL" if features is None else f"has {len(features)} bytes"
        plpy.error(
            f"features {length} for {row_count} rows; the model takes {row_bytes} bytes per row "
            f"({'×'.join(map(str, shape))} {'uint8' if dtype.itemsize == 1 else 'float32'})",
            sqlstate="22023",
        )
    rows = np.frombuffer(features, dtype).reshape((row_count, *shape))
    if row_count <= 256:
        return run(rows)
    # Larger batches are no faster and only grow ONNX Runtime's memory.
    answers, asked = [], time.monotonic()
    for low in range(0, row_count, 256):
        answers.append(run(rows[low:low + 256]))
        if time.monotonic() - asked > 0.1:
            # Only a query lets PostgreSQL cancel the statement: for a time-out, or for the end of the client.
            plpy.execute("SELECT 1")
            asked = time.monotonic()
    return np.concatenate(answers)


# A session keeps few models: memory is worth more than the 0.2 s that opening takes.
if len(GD) >= 8:
    GD.clear()
GD[sha256, threads] = answer
$python$;
--rollback changeSetId:open_model changeSetAuthor:project changeSetPath:003-predict.sql
