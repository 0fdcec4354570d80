--liquibase formatted sql

--changeset project:dataset_encoding
-- How a row of the source table becomes numbers, as JSON: see docs/data.md.
ALTER TABLE "${schema}".dataset ADD COLUMN encoding text;
--rollback ALTER TABLE "${schema}".dataset DROP COLUMN encoding;

--changeset project:as_bytes
-- The inside of a float8[] as it lies in memory (20 bytes of head, then the numbers): byteasend copies and does not look.
CREATE FUNCTION "${schema}".as_bytes(numbers float8[]) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
ALTER FUNCTION "${schema}".as_bytes(float8[]) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".as_bytes(float8[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".as_bytes(float8[]) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".as_bytes(float8[]);

--changeset project:encode_block splitStatements:false stripComments:false
-- Encodes a block of rows and brings them into their order: row_count labels (int32), then row_count rows of float32.
--
-- numbers   row_count times as_bytes of: the row's place in the order, its label's number, a number a column
--           (NaN: NULL; a text is its place in the vocabulary, one behind the last where it is not in it)
-- encoding  JSON: see docs/data.md
--
-- It asks the database nothing: on Greenplum it runs on every segment.
CREATE FUNCTION "${schema}".encode_block(numbers bytea, row_count int, encoding text)
RETURNS bytea LANGUAGE plpython3u IMMUTABLE AS $python$
import json
import math

import numpy as np

# encode: begin
def row_values(columns, row):
    """Return a JSON object's values as (1, columns) float64: NaN is NULL, a text its place in the vocabulary."""
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object of columns and values")
    missing = [column["name"] for column in columns if column["name"] not in row]
    if missing:
        raise ValueError(f"the row has no column {missing[0]}; where its value is not known, give null")
    return np.array([[column_value(column, row[column["name"]]) for column in columns]], "f8")


def column_value(column, value):
    """Return one value as a number; a text that the vocabulary does not have is the number behind its last."""
    name, kind = column["name"], column["kind"]
    if value is None:
        return math.nan
    wanted = {"number": (int, float), "boolean": bool, "text": str}[kind]
    if not isinstance(value, wanted) or (kind == "number" and isinstance(value, bool)):
        told = {"number": "a number", "boolean": "true or false", "text": "text"}[kind]
        raise ValueError(f"column {name} must be {told}; {json.dumps(value)[:60]} was given")
    if kind == "text":
        # The database does not count the blanks at the end of a character(n).
        text = value.rstrip(" ") if column["type"].startswith("character(") else value
        vocabulary = column["vocabulary"]
        return vocabulary.index(text) if text in vocabulary else len(vocabulary)
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(value)) if column["type"] == "real" else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"column {name} must be a finite number; {json.dumps(value)[:60]} was given")
    return number


def encode_values(columns, values):
    """Return what the model takes, (n, width) float32, of row_values or a block of them, (n, columns) float64."""
    widths = [len(column["vocabulary"]) if column["kind"] == "text" else 1 for column in columns]
    starts = np.cumsum([0, *widths])
    encoded = np.zeros((len(values), starts[-1]), "<f4")
    scaled = [number for number, column in enumerate(columns) if column["kind"] != "text"]
    means = np.array([columns[number]["mean"] for number in scaled], "f8")
    deviations = np.array([columns[number]["deviation"] for number in scaled], "f8")
    given = (values[:, scaled] - means) / deviations
    encoded[:, starts[scaled]] = np.where(np.isnan(given), 0, given)
    for number, column in enumerate(columns):
        if column["kind"] == "text":
            places = values[:, number]
            known = np.flatnonzero(places < widths[number])
            encoded[known, starts[number] + places[known].astype("i8")] = 1
    return encoded
# encode: end

if SD.get("encoding") != encoding:
    SD["columns"], SD["encoding"] = json.loads(encoding)["columns"], encoding
columns = SD["columns"]
record = np.dtype([("head", "V20"), ("numbers", "=f8", (2 + len(columns),))])
if len(numbers) != row_count * record.itemsize:
    raise ValueError(f"{len(numbers)} bytes were given; {row_count} rows of {len(columns)} columns are "
                     f"{row_count * record.itemsize}")
rows = np.frombuffer(numbers, record)["numbers"]
rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
return rows[:, 1].astype("<i4").tobytes() + encode_values(columns, rows[:, 2:]).tobytes()
$python$;
ALTER FUNCTION "${schema}".encode_block(bytea, int, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".encode_block(bytea, int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".encode_block(bytea, int, text) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".encode_block(bytea, int, text);

--changeset project:reencode_block splitStatements:false stripComments:false
-- A block of encoded rows as another model takes them: scaled as that one's training rows were, with its vocabularies.
-- The columns of `theirs` are among those of `ours`. (A 0 is a NULL, or the mean to seven digits: it stays 0.)
CREATE FUNCTION "${schema}".reencode_block(features bytea, row_count int, ours text, theirs text)
RETURNS bytea LANGUAGE plpython3u IMMUTABLE AS $python$
import json

import numpy as np


def parts(encoding):
    """Return {column: (its description, its first place in a row)} and the width of a row."""
    found, width = dict(), 0
    for column in json.loads(encoding)["columns"]:
        found[column["name"]] = column, width
        width += len(column["vocabulary"]) if column["kind"] == "text" else 1
    return found, width


given, width = parts(ours)
wanted, wanted_width = parts(theirs)
rows = np.frombuffer(features, "<f4").reshape(row_count, width).astype("f8")
changed = np.zeros((row_count, wanted_width))
for name, (column, start) in wanted.items():
    own, own_start = given[name]
    if column["kind"] == "text":
        for place, word in enumerate(column["vocabulary"]):
            if word in own["vocabulary"]:
                changed[:, start + place] = rows[:, own_start + own["vocabulary"].index(word)]
    else:
        values = rows[:, own_start]
        scaled = (values * own["deviation"] + own["mean"] - column["mean"]) / column["deviation"]
        changed[:, start] = np.where(values == 0, 0, scaled)
return changed.astype("<f4").tobytes()
$python$;
ALTER FUNCTION "${schema}".reencode_block(bytea, int, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".reencode_block(bytea, int, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".reencode_block(bytea, int, text, text) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".reencode_block(bytea, int, text, text);

--changeset project:evaluated_model
-- The model that was evaluated last, one row: what predict_row answers with. A copy lies on every segment, where a
-- function may ask no distributed table.
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
-- Probabilities in class order of one row, a JSON object as to_jsonb gives it, by the model that was evaluated last.
CREATE FUNCTION "${schema}".predict_row(raw_row jsonb) RETURNS real[] LANGUAGE plpython3u STABLE AS $python$
import json
import math
import signal

import numpy as np

# encode: begin
def row_values(columns, row):
    """Return a JSON object's values as (1, columns) float64: NaN is NULL, a text its place in the vocabulary."""
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object of columns and values")
    missing = [column["name"] for column in columns if column["name"] not in row]
    if missing:
        raise ValueError(f"the row has no column {missing[0]}; where its value is not known, give null")
    return np.array([[column_value(column, row[column["name"]]) for column in columns]], "f8")


def column_value(column, value):
    """Return one value as a number; a text that the vocabulary does not have is the number behind its last."""
    name, kind = column["name"], column["kind"]
    if value is None:
        return math.nan
    wanted = {"number": (int, float), "boolean": bool, "text": str}[kind]
    if not isinstance(value, wanted) or (kind == "number" and isinstance(value, bool)):
        told = {"number": "a number", "boolean": "true or false", "text": "text"}[kind]
        raise ValueError(f"column {name} must be {told}; {json.dumps(value)[:60]} was given")
    if kind == "text":
        # The database does not count the blanks at the end of a character(n).
        text = value.rstrip(" ") if column["type"].startswith("character(") else value
        vocabulary = column["vocabulary"]
        return vocabulary.index(text) if text in vocabulary else len(vocabulary)
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(value)) if column["type"] == "real" else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"column {name} must be a finite number; {json.dumps(value)[:60]} was given")
    return number


def encode_values(columns, values):
    """Return what the model takes, (n, width) float32, of row_values or a block of them, (n, columns) float64."""
    widths = [len(column["vocabulary"]) if column["kind"] == "text" else 1 for column in columns]
    starts = np.cumsum([0, *widths])
    encoded = np.zeros((len(values), starts[-1]), "<f4")
    scaled = [number for number, column in enumerate(columns) if column["kind"] != "text"]
    means = np.array([columns[number]["mean"] for number in scaled], "f8")
    deviations = np.array([columns[number]["deviation"] for number in scaled], "f8")
    given = (values[:, scaled] - means) / deviations
    encoded[:, starts[scaled]] = np.where(np.isnan(given), 0, given)
    for number, column in enumerate(columns):
        if column["kind"] == "text":
            places = values[:, number]
            known = np.flatnonzero(places < widths[number])
            encoded[known, starts[number] + places[known].astype("i8")] = 1
    return encoded
# encode: end

def opened_model():
    """Return the evaluated model, compiled, with its columns; kept while this session trains no other with it.

    `evaluate` builds it: what it refuses to build is refused here.
    """
    if "which" not in SD:
        SD["which"] = plpy.prepare('SELECT run_hash FROM "${schema}".evaluated_model')
        SD["model"] = plpy.prepare('SELECT encoding, weights, config FROM "${schema}".evaluated_model')
        # Without a table it runs in this very process, whose model is wanted.
        SD["open"] = plpy.prepare(
            'SELECT "${schema}".evaluate($1, $2, 1, $3, $4)', ["bytea", "bytea", "bytea", "text"]
        )
    found = plpy.execute(SD["which"])
    if not found:
        plpy.error("no model has been evaluated: run `python -m pipeline evaluate_model`")
    run_hash = found[0]["run_hash"]
    kept = SD.get("kept")
    if kept and kept["run_hash"] == run_hash and kept["token"] == kept["entry"]["token"]:
        return kept
    model = plpy.execute(SD["model"])[0]
    columns = json.loads(model["encoding"])["columns"]
    nothing = encode_values(columns, np.full((1, len(columns)), np.nan))
    plpy.execute(SD["open"], [nothing.tobytes(), np.zeros(1, "<i4").tobytes(), model["weights"], model["config"]])
    entry = GD["entry"]
    import tensorflow as tf

    answer = tf.function(lambda rows: entry["model"](rows, training=False), autograph=False)
    SD["kept"] = dict(run_hash=run_hash, columns=columns, entry=entry, token=entry["token"], answer=answer)
    return SD["kept"]


kept = opened_model()
features = encode_values(kept["columns"], row_values(kept["columns"], json.loads(raw_row)))
# TensorFlow's threads must not receive PostgreSQL's signals.
harmless = set(signal.Signals) - {
    signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGKILL, signal.SIGSTOP,
}
before = signal.pthread_sigmask(signal.SIG_BLOCK, harmless)
try:
    return kept["answer"](features).numpy()[0].tolist()
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
$python$;
ALTER FUNCTION "${schema}".predict_row(jsonb) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict_row(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict_row(jsonb) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".predict_row(jsonb);

--changeset project:predict splitStatements:false stripComments:false
-- SELECT predict(t.*) FROM t: the same of a row of the source table.
CREATE FUNCTION "${schema}".predict(raw_row anyelement) RETURNS real[] LANGUAGE sql STABLE AS $$
SELECT "${schema}".predict_row(to_jsonb(raw_row))
$$;
ALTER FUNCTION "${schema}".predict(anyelement) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict(anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict(anyelement) TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".predict(anyelement);
