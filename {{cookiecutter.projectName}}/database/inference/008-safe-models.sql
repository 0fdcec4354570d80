--liquibase formatted sql

--changeset project:open_model_without_files splitStatements:false stripComments:false
-- A model's weights are in its own file, and a long batch can be cancelled.
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

import time

import numpy as np
import onnxruntime as ort

stored = plpy.execute(
    plpy.prepare(
        'SELECT onnx FROM "${schema}".model_version WHERE sha256 OPERATOR(pg_catalog.=) $1 LIMIT 1', ["pg_catalog.text"]
    ),
    [sha256],
)
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
        return session.run(None, {images.name: rows})[0]
    # Larger batches are no faster and only grow ONNX Runtime's memory.
    answers, asked = [], time.monotonic()
    for low in range(0, row_count, 256):
        answers.append(session.run(None, {images.name: rows[low:low + 256]})[0])
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
