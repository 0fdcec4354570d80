--liquibase formatted sql

--changeset project:dataset_encoding
-- The encoding of the source table's rows, as JSON: see docs/reference/data.md.
ALTER TABLE "${schema}".dataset ADD COLUMN encoding text;
--rollback ALTER TABLE "${schema}".dataset DROP COLUMN encoding;

--changeset project:as_bytes
-- The bytes of a float8[] in memory: a header of 20 bytes, then the numbers. byteasend copies without checking.
CREATE FUNCTION "${schema}".as_bytes(numbers float8[]) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
ALTER FUNCTION "${schema}".as_bytes(float8[]) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".as_bytes(float8[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".as_bytes(float8[]) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".as_bytes(float8[]);

--changeset project:encode_block splitStatements:false stripComments:false
-- Encodes a block of rows and sorts them: returns row_count labels (int32), then row_count rows of float32.
--
-- numbers   row_count times as_bytes of: the row's position, the number of its label, one number per column (NaN for
--           NULL; for a text its place in the vocabulary, or the vocabulary's length for a word that is not in it)
-- encoding  JSON: see docs/reference/data.md
--
-- It never queries the database: on Greenplum it runs on every segment.
CREATE OR REPLACE FUNCTION "${schema}".encode_block(numbers bytea, row_count int, encoding text)
RETURNS bytea LANGUAGE plpython3u IMMUTABLE AS $python$
# begin database/python/encode.py (make sql writes this; edit that file)
import json
import math

import numpy as np


def row_values(columns: "Sequence[Column]", row: object) -> "npt.NDArray[np.float64]":
    """Return the values of a JSON object as (1, columns) float64: NaN for null, a text's place in the vocabulary.

    Keys that are no column are ignored. Raises ValueError, which names the column.
    """
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object of columns and values")
    missing = [column["name"] for column in columns if column["name"] not in row]
    if missing:
        raise ValueError(f"the row has no column {missing[0]}; give null for an unknown value")
    return np.array([[column_value(column, row[column["name"]]) for column in columns]], "f8")


def column_value(column: "Column", value: object) -> float:
    """Return one value as a number: NaN for null, for a text that is not in the vocabulary the vocabulary's length.

    Raises ValueError when the value is not of the column's kind, or no finite number.
    """
    name, kind = column["name"], column["kind"]
    if value is None:
        return math.nan
    if kind == "text" and isinstance(value, str):
        # The database ignores blanks at the end of a character(n).
        text = value.rstrip(" ") if column["type"].startswith("character(") else value
        vocabulary = column["vocabulary"]
        return vocabulary.index(text) if text in vocabulary else len(vocabulary)
    if kind == "text" or not isinstance(value, (int, float)) or isinstance(value, bool) != (kind == "boolean"):
        expected = {"number": "a number", "boolean": "true or false", "text": "text"}[kind]
        raise ValueError(f"column {name} must be {expected}; {json.dumps(value)[:60]} was given")
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(value)) if column["type"] == "real" else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"column {name} must be a finite number; {json.dumps(value)[:60]} was given")
    return number


def encode_values(columns: "Sequence[Column]", values: "npt.NDArray[np.float64]") -> "npt.NDArray[np.float32]":
    """Return the model's input, (n, width) little-endian float32, of rows as row_values returns them, (n, columns).

    Numbers and booleans are scaled by mean and deviation; NaN becomes 0. A text has one place per word of the
    vocabulary (one-hot); a word that is not in the vocabulary leaves all of them 0.
    """
    widths = [len(column["vocabulary"]) if column["kind"] == "text" else 1 for column in columns]
    starts = np.cumsum([0, *widths])
    encoded = np.zeros((len(values), starts[-1]), "<f4")
    numeric = [number for number, column in enumerate(columns) if column["kind"] != "text"]
    means = np.array([columns[number]["mean"] for number in numeric], "f8")
    deviations = np.array([columns[number]["deviation"] for number in numeric], "f8")
    scaled = (values[:, numeric] - means) / deviations
    encoded[:, starts[numeric]] = np.where(np.isnan(scaled), 0, scaled)
    for number, column in enumerate(columns):
        if column["kind"] == "text":
            places = values[:, number]
            known = np.flatnonzero(places < widths[number])
            encoded[known, starts[number] + places[known].astype("i8")] = 1
    return encoded
# end database/python/encode.py

if SD.get("encoding") != encoding:
    SD["columns"], SD["encoding"] = json.loads(encoding)["columns"], encoding
columns = SD["columns"]
record = np.dtype([("head", "V20"), ("numbers", "=f8", (2 + len(columns),))])
if len(numbers) != row_count * record.itemsize:
    raise ValueError(
        f"numbers has {len(numbers)} bytes; {row_count} rows of {len(columns)} columns are "
        f"{row_count * record.itemsize}"
    )
rows = np.frombuffer(numbers, record)["numbers"]
rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
return rows[:, 1].astype("<i4").tobytes() + encode_values(columns, rows[:, 2:]).tobytes()
$python$;
ALTER FUNCTION "${schema}".encode_block(bytea, int, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".encode_block(bytea, int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".encode_block(bytea, int, text) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".encode_block(bytea, int, text);

--changeset project:reencode_block splitStatements:false stripComments:false
-- Encodes a block of encoded rows again, as another model expects them: scaled by the statistics of that model's
-- training rows, with its vocabularies. All columns of `theirs` are columns of `ours`. (A 0 is NULL, or the mean to
-- seven digits: it stays 0.)
CREATE OR REPLACE FUNCTION "${schema}".reencode_block(features bytea, row_count int, ours text, theirs text)
RETURNS bytea LANGUAGE plpython3u IMMUTABLE AS $python$
import json

import numpy as np


def layout(encoding):
    """Return {name: (column, its first place in a row)} and the width of a row."""
    columns, width = {}, 0
    for column in json.loads(encoding)["columns"]:
        columns[column["name"]] = column, width
        width += len(column["vocabulary"]) if column["kind"] == "text" else 1
    return columns, width


our_columns, width = layout(ours)
their_columns, their_width = layout(theirs)
rows = np.frombuffer(features, "<f4").reshape(row_count, width).astype("f8")
encoded = np.zeros((row_count, their_width))
for name, (column, start) in their_columns.items():
    own, own_start = our_columns[name]
    if column["kind"] == "text":
        for place, word in enumerate(column["vocabulary"]):
            if word in own["vocabulary"]:
                encoded[:, start + place] = rows[:, own_start + own["vocabulary"].index(word)]
    else:
        values = rows[:, own_start]
        scaled = (values * own["deviation"] + own["mean"] - column["mean"]) / column["deviation"]
        encoded[:, start] = np.where(values == 0, 0, scaled)
return encoded.astype("<f4").tobytes()
$python$;
ALTER FUNCTION "${schema}".reencode_block(bytea, int, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".reencode_block(bytea, int, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".reencode_block(bytea, int, text, text) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".reencode_block(bytea, int, text, text);

--changeset project:evaluated_model
-- One row: the model that was evaluated last, which predict_row uses. Every Greenplum segment has a copy, because a
-- function there may not query a distributed table.
CREATE TABLE "${schema}".evaluated_model (
    only_row boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
    run_hash text NOT NULL,
    config text NOT NULL,
    weights bytea NOT NULL,
    encoding text NOT NULL
) ${replicated};
ALTER TABLE "${schema}".evaluated_model ALTER COLUMN weights SET STORAGE EXTERNAL;
ALTER TABLE "${schema}".evaluated_model OWNER TO "${schema}_owner";
GRANT SELECT, INSERT, DELETE ON "${schema}".evaluated_model TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".evaluated_model;

--changeset project:predict_row splitStatements:false stripComments:false
-- Returns the probabilities, in class order, of one row: a JSON object as to_jsonb returns it. The model that was
-- evaluated last answers.
CREATE OR REPLACE FUNCTION "${schema}".predict_row(raw_row jsonb) RETURNS real[] LANGUAGE plpython3u STABLE AS $python$
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
# begin database/python/encode.py (make sql writes this; edit that file)
import json
import math

import numpy as np


def row_values(columns: "Sequence[Column]", row: object) -> "npt.NDArray[np.float64]":
    """Return the values of a JSON object as (1, columns) float64: NaN for null, a text's place in the vocabulary.

    Keys that are no column are ignored. Raises ValueError, which names the column.
    """
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object of columns and values")
    missing = [column["name"] for column in columns if column["name"] not in row]
    if missing:
        raise ValueError(f"the row has no column {missing[0]}; give null for an unknown value")
    return np.array([[column_value(column, row[column["name"]]) for column in columns]], "f8")


def column_value(column: "Column", value: object) -> float:
    """Return one value as a number: NaN for null, for a text that is not in the vocabulary the vocabulary's length.

    Raises ValueError when the value is not of the column's kind, or no finite number.
    """
    name, kind = column["name"], column["kind"]
    if value is None:
        return math.nan
    if kind == "text" and isinstance(value, str):
        # The database ignores blanks at the end of a character(n).
        text = value.rstrip(" ") if column["type"].startswith("character(") else value
        vocabulary = column["vocabulary"]
        return vocabulary.index(text) if text in vocabulary else len(vocabulary)
    if kind == "text" or not isinstance(value, (int, float)) or isinstance(value, bool) != (kind == "boolean"):
        expected = {"number": "a number", "boolean": "true or false", "text": "text"}[kind]
        raise ValueError(f"column {name} must be {expected}; {json.dumps(value)[:60]} was given")
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(value)) if column["type"] == "real" else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"column {name} must be a finite number; {json.dumps(value)[:60]} was given")
    return number


def encode_values(columns: "Sequence[Column]", values: "npt.NDArray[np.float64]") -> "npt.NDArray[np.float32]":
    """Return the model's input, (n, width) little-endian float32, of rows as row_values returns them, (n, columns).

    Numbers and booleans are scaled by mean and deviation; NaN becomes 0. A text has one place per word of the
    vocabulary (one-hot); a word that is not in the vocabulary leaves all of them 0.
    """
    widths = [len(column["vocabulary"]) if column["kind"] == "text" else 1 for column in columns]
    starts = np.cumsum([0, *widths])
    encoded = np.zeros((len(values), starts[-1]), "<f4")
    numeric = [number for number, column in enumerate(columns) if column["kind"] != "text"]
    means = np.array([columns[number]["mean"] for number in numeric], "f8")
    deviations = np.array([columns[number]["deviation"] for number in numeric], "f8")
    scaled = (values[:, numeric] - means) / deviations
    encoded[:, starts[numeric]] = np.where(np.isnan(scaled), 0, scaled)
    for number, column in enumerate(columns):
        if column["kind"] == "text":
            places = values[:, number]
            known = np.flatnonzero(places < widths[number])
            encoded[known, starts[number] + places[known].astype("i8")] = 1
    return encoded
# end database/python/encode.py


def opened_model():
    """Return the evaluated model, compiled, with its columns; cached until this session trains another model with it.

    `evaluate` builds the model, so it also refuses here what it refuses to build.
    """
    if "which" not in SD:
        SD["which"] = plpy.prepare('SELECT run_hash FROM "${schema}".evaluated_model')
        SD["model"] = plpy.prepare('SELECT encoding, weights, config FROM "${schema}".evaluated_model')
        # Without FROM, `evaluate` runs in this process and leaves its model in GD.
        SD["open"] = plpy.prepare(
            'SELECT "${schema}".evaluate($1, $2, 1, $3, $4)', ["bytea", "bytea", "bytea", "text"]
        )
    evaluated = plpy.execute(SD["which"])
    if not evaluated:
        plpy.error("no model has been evaluated: run `./run evaluate_model`")
    run_hash = evaluated[0]["run_hash"]
    opened = SD.get("opened")
    if opened and opened["run_hash"] == run_hash and opened["token"] == opened["entry"]["token"]:
        return opened
    model = plpy.execute(SD["model"])[0]
    columns = json.loads(model["encoding"])["columns"]
    nulls = encode_values(columns, np.full((1, len(columns)), np.nan))
    plpy.execute(SD["open"], [nulls.tobytes(), np.zeros(1, "<i4").tobytes(), model["weights"], model["config"]])
    entry = GD["entry"]
    import tensorflow as tf

    answer = tf.function(lambda rows: entry["model"](rows, training=False), autograph=False)
    SD["opened"] = dict(run_hash=run_hash, columns=columns, entry=entry, token=entry["token"], answer=answer)
    return SD["opened"]


opened = opened_model()
features = encode_values(opened["columns"], row_values(opened["columns"], json.loads(raw_row)))
# TensorFlow's threads must not receive PostgreSQL's signals.
return with_signals_blocked(lambda: opened["answer"](features).numpy()[0].tolist())
$python$;
ALTER FUNCTION "${schema}".predict_row(jsonb) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict_row(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict_row(jsonb) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".predict_row(jsonb);

--changeset project:predict splitStatements:false stripComments:false
-- SELECT predict(t.*) FROM t: the probabilities of a row of the source table.
CREATE FUNCTION "${schema}".predict(raw_row anyelement) RETURNS real[] LANGUAGE sql STABLE AS $$
SELECT "${schema}".predict_row(to_jsonb(raw_row))
$$;
ALTER FUNCTION "${schema}".predict(anyelement) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict(anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict(anyelement) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".predict(anyelement);
