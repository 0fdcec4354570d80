--liquibase formatted sql

--changeset project:open_model splitStatements:false stripComments:false
-- Opens the model with this hash for the session: GD[sha256, threads](features, row_count) then returns an array
-- (row_count, classes) of float32. The app may call neither this function nor answer_row and answer_batch: predict and
-- predict_batch call them with the rights of the owner, who alone may read the weights.
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
    return np.concatenate([
        session.run(None, {images.name: rows[low:low + 256]})[0] for low in range(0, row_count, 256)
    ])


# A session keeps few models: memory is worth more than the 0.2 s that opening takes.
if len(GD) >= 8:
    GD.clear()
GD[sha256, threads] = answer
$python$;
ALTER FUNCTION "${schema}".open_model(text, int) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".open_model(text, int) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".open_model(text, int);

--changeset project:answer_row splitStatements:false stripComments:false
-- The calling thread alone computes one row: waking a second thread takes longer than it saves.
CREATE OR REPLACE FUNCTION "${schema}".answer_row(features bytea, sha256 text)
RETURNS real[] LANGUAGE plpython3u AS $python$
answer = GD.get((sha256, 1))
if answer is None:
    plpy.execute(plpy.prepare('SELECT "${schema}".open_model($1, 1)', ["pg_catalog.text"]), [sha256])
    answer = GD[sha256, 1]
return answer(features, 1)[0].tolist()
$python$;
ALTER FUNCTION "${schema}".answer_row(bytea, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".answer_row(bytea, text) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".answer_row(bytea, text);

--changeset project:answer_batch splitStatements:false stripComments:false
-- All cores compute many rows. Returns the bytes of a real[]: see as_real.
CREATE OR REPLACE FUNCTION "${schema}".answer_batch(features bytea, row_count int, sha256 text)
RETURNS bytea LANGUAGE plpython3u AS $python$
import struct

answer = GD.get((sha256, 0))
if answer is None:
    plpy.execute(plpy.prepare('SELECT "${schema}".open_model($1, 0)', ["pg_catalog.text"]), [sha256])
    answer = GD[sha256, 0]
values = answer(features, row_count).astype("=f4", copy=False)
# PostgreSQL's array: dimensions, offset of the data (0: no NULLs), type real, length, lower bound, values.
return struct.pack("=iiIii", 1, 0, 700, values.size, 1) + values.tobytes()
$python$;
ALTER FUNCTION "${schema}".answer_batch(bytea, int, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".answer_batch(bytea, int, text) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".answer_batch(bytea, int, text);

--changeset project:as_real
-- Returns the real[] whose bytes these are: byteasend copies without checking. PL/Python builds an array by writing and
-- reading each number as text, which takes longer than a small model. (For one row a list is faster.)
-- Any bytes but those of answer_batch could crash the server, so only the owner may call it.
CREATE FUNCTION "${schema}".as_real(inside bytea) RETURNS real[] LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
ALTER FUNCTION "${schema}".as_real(bytea) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".as_real(bytea) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".as_real(bytea);

--changeset project:predict_batch splitStatements:false stripComments:false
-- This function and predict run with the rights of the owner. They name every type, operator, function and table with
-- its schema, so that no schema in the caller's search_path can replace one. (SET search_path, as in other functions,
-- would take a third of the time of a one-row prediction.)
--
-- Returns the probabilities, in class order, row after row, of row_count packed rows. Each call looks up the alias: a
-- promotion or a rollback takes effect at the next call.
CREATE FUNCTION "${schema}".predict_batch(features bytea, row_count int, model text, stage text)
RETURNS real[] LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    current_sha256 pg_catalog.text;
BEGIN
    SELECT v.sha256 INTO current_sha256
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model OPERATOR(pg_catalog.=) v.model
        AND a.version OPERATOR(pg_catalog.=) v.version
    WHERE a.model OPERATOR(pg_catalog.=) predict_batch.model AND a.alias OPERATOR(pg_catalog.=) predict_batch.stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no version of model "%" holds the alias "%": promote one first', model, stage
        USING ERRCODE = 'no_data_found';
    END IF;
    RETURN "${schema}".as_real("${schema}".answer_batch(features, row_count, current_sha256));
END
$$;
ALTER FUNCTION "${schema}".predict_batch(bytea, int, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict_batch(bytea, int, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict_batch(bytea, int, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".predict_batch(bytea, int, text, text);

--changeset project:predict splitStatements:false stripComments:false
-- Returns the probabilities of one row in class order. It repeats the look-up of predict_batch, because a call of that
-- function would take a third of the time.
CREATE FUNCTION "${schema}".predict(features bytea, model text, stage text)
RETURNS real[] LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    current_sha256 pg_catalog.text;
BEGIN
    SELECT v.sha256 INTO current_sha256
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model OPERATOR(pg_catalog.=) v.model
        AND a.version OPERATOR(pg_catalog.=) v.version
    WHERE a.model OPERATOR(pg_catalog.=) predict.model AND a.alias OPERATOR(pg_catalog.=) predict.stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no version of model "%" holds the alias "%": promote one first', model, stage
        USING ERRCODE = 'no_data_found';
    END IF;
    RETURN "${schema}".answer_row(features, current_sha256);
END
$$;
ALTER FUNCTION "${schema}".predict(bytea, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict(bytea, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict(bytea, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".predict(bytea, text, text);
