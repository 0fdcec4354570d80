--liquibase formatted sql

--changeset project:model_encoding
-- How a raw row becomes the model's input: {label, key, columns}. It was measured on the training rows and belongs to
-- the version, so that a version reads rows in the same way after a rollback to it.
ALTER TABLE "${schema}".model_version ADD COLUMN encoding jsonb;
--rollback ALTER TABLE "${schema}".model_version DROP COLUMN encoding;

--changeset project:model_info_encoding
CREATE OR REPLACE VIEW "${schema}".model_info AS
SELECT
    a.model,
    a.alias,
    a.version,
    v.classes,
    v.input_shape,
    v.input_dtype,
    v.metrics,
    v.samples,
    v.data_hash,
    v.git_commit,
    v.created_at,
    a.changed_at,
    v.encoding
FROM "${schema}".model_alias AS a
INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version;
/* liquibase rollback
DROP VIEW "${schema}".model_info;
CREATE VIEW "${schema}".model_info AS
    SELECT
    a.model, a.alias, a.version, v.classes, v.input_shape, v.input_dtype, v.metrics, v.samples, v.data_hash,
    v.git_commit, v.created_at, a.changed_at
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version;
ALTER VIEW "${schema}".model_info OWNER TO "${schema}_owner";
GRANT SELECT ON "${schema}".model_info TO "${schema}_app";
*/

--changeset project:setting_model
-- The model and stage that predict and predict_row use without arguments; deploy_inference_db writes them.
ALTER TABLE "${schema}".setting ADD COLUMN model text, ADD COLUMN stage text;
--rollback ALTER TABLE "${schema}".setting DROP COLUMN model, DROP COLUMN stage;

--changeset project:encode_row splitStatements:false stripComments:false
-- Returns a row, as to_jsonb returns it, as one float64 per column (NaN for NULL; for a text its place in the
-- vocabulary, or the vocabulary's length for a word that is not in it), and as the bytes that the model takes. Keys
-- that are no column are ignored.
CREATE OR REPLACE FUNCTION "${schema}".encode_row(given jsonb, encoding jsonb, OUT raw float8[], OUT features bytea)
LANGUAGE plpython3u IMMUTABLE AS $python$
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
try:
    values = row_values(columns, json.loads(given or "null", parse_int=float))
    # The model and the statistics take float32.
    for column, value in zip(columns, values[0]):
        if column["kind"] == "number" and max(abs(value), abs(value - column["mean"]) / column["deviation"]) > 3e38:
            raise ValueError(f"column {column['name']} is too far from what it was in the training rows: {value:g}")
except ValueError as error:
    plpy.error(str(error), sqlstate="22023")
return {"raw": values[0].tolist(), "features": encode_values(columns, values).tobytes()}
$python$;
ALTER FUNCTION "${schema}".encode_row(jsonb, jsonb) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".encode_row(jsonb, jsonb) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".encode_row(jsonb, jsonb);

--changeset project:answer_encoded_row splitStatements:false stripComments:false
-- Returns the probabilities of a row that encode_row encoded. Numbers far from all training rows may overflow.
CREATE FUNCTION "${schema}".answer_encoded_row(features bytea, sha256 text)
RETURNS real[] LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer real[] := "${schema}".answer_row(features, sha256);
BEGIN
    IF 'NaN' = ANY (answer) THEN
        RAISE EXCEPTION 'the model has no answer to the row: its numbers are too far from those of the training rows'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN answer;
END
$$;
ALTER FUNCTION "${schema}".answer_encoded_row(bytea, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".answer_encoded_row(bytea, text) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".answer_encoded_row(bytea, text);

--changeset project:predict_row splitStatements:false stripComments:false
-- Returns the probabilities, in class order, of a raw row: values by column name, as to_jsonb(t) returns a row t.
CREATE FUNCTION "${schema}".predict_row(given jsonb, model text, stage text)
RETURNS real[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
BEGIN
    SELECT v.version, v.sha256, v.encoding INTO served
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version
    WHERE a.model = predict_row.model AND a.alias = predict_row.stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no version of model "%" holds the alias "%": promote one first', model, stage
        USING ERRCODE = 'no_data_found';
    END IF;
    IF served.encoding IS NULL THEN
        RAISE EXCEPTION 'version % of model "%" does not take rows of a table', served.version, model
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN (
        SELECT "${schema}".answer_encoded_row(e.features, served.sha256)
        FROM "${schema}".encode_row(given, served.encoding) AS e
    );
END
$$;
ALTER FUNCTION "${schema}".predict_row(jsonb, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict_row(jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict_row(jsonb, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".predict_row(jsonb, text, text);

--changeset project:predict_row_of_the_project splitStatements:false stripComments:false
CREATE FUNCTION "${schema}".predict_row(given jsonb)
RETURNS real[] LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT "${schema}".predict_row(predict_row.given, s.model, s.stage) FROM "${schema}".setting AS s
$$;
ALTER FUNCTION "${schema}".predict_row(jsonb) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict_row(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict_row(jsonb) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".predict_row(jsonb);

--changeset project:predict_any_row splitStatements:false stripComments:false
-- SELECT predict(t.*) FROM t, for any table t with the columns. It runs with the rights of the caller.
CREATE FUNCTION "${schema}".predict(given anyelement)
RETURNS real[] LANGUAGE sql STABLE AS $$
    SELECT "${schema}".predict_row(pg_catalog.to_jsonb(predict.given))
$$;
ALTER FUNCTION "${schema}".predict(anyelement) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict(anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict(anyelement) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".predict(anyelement);

--changeset project:run_inference_task_of_a_row splitStatements:false stripComments:false
-- Like run_inference_task for an image. The statistics of a row are its raw values. The input that is stored holds the
-- model's columns, numbers as they were read, so that later training can read it again.
CREATE FUNCTION "${schema}".run_inference_task(given jsonb, model text, stage text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
    setting record;
    encoded record;
    answer real[];
    answer_label text;
    stored_input jsonb;
    new_id uuid;
BEGIN
    SELECT v.version, v.sha256, v.classes, v.encoding INTO served
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version
    WHERE a.model = run_inference_task.model AND a.alias = run_inference_task.stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no version of model "%" holds the alias "%": promote one first', model, stage
        USING ERRCODE = 'no_data_found';
    END IF;
    IF served.encoding IS NULL THEN
        RAISE EXCEPTION 'version % of model "%" does not take rows of a table', served.version, model
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT e.raw, e.features INTO encoded FROM "${schema}".encode_row(given, served.encoding) AS e;
    answer := "${schema}".answer_encoded_row(encoded.features, served.sha256);
    SELECT served.classes[p.position] INTO answer_label
    FROM unnest(answer) WITH ORDINALITY AS p (probability, position)
    ORDER BY p.probability DESC, p.position LIMIT 1;
    SELECT s.log_statistics, s.store_inputs INTO setting FROM "${schema}".setting AS s;
    IF setting.store_inputs THEN
        SELECT jsonb_object_agg(
            c.described ->> 'name',
            CASE
                WHEN c.described ->> 'kind' = 'number' THEN to_jsonb(nullif(encoded.raw[c.position], 'NaN'))
                ELSE given -> (c.described ->> 'name')
            END
        ) INTO stored_input
        FROM jsonb_array_elements(served.encoding -> 'columns') WITH ORDINALITY AS c (described, position);
    END IF;
    INSERT INTO "${schema}".prediction_log (model, version, label, probabilities, statistics, input)
    VALUES (
        model, served.version, answer_label, answer,
        CASE
            WHEN setting.log_statistics
                THEN (
                    -- Zero stands for numbers too small for real.
                    SELECT array_agg(CASE WHEN abs(r.value) < 1e-37 THEN 0 ELSE nullif(r.value, 'NaN') END ORDER BY r.position)
                    FROM unnest(encoded.raw) WITH ORDINALITY AS r (value, position)
                )
        END,
        convert_to(stored_input::text, 'UTF8')
    )
    RETURNING prediction_id INTO new_id;
    RETURN jsonb_build_object(
        'prediction_id', new_id, 'label', answer_label, 'probabilities', to_jsonb(answer),
        'model', model, 'version', served.version
    );
END
$$;
ALTER FUNCTION "${schema}".run_inference_task(jsonb, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".run_inference_task(jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".run_inference_task(jsonb, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".run_inference_task(jsonb, text, text);
