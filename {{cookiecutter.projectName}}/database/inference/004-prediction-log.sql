--liquibase formatted sql

--changeset project:setting
-- One row: the settings of project.yaml, written by deploy_inference_db.
CREATE TABLE "${schema}".setting (
    only_row boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
    log_statistics boolean NOT NULL DEFAULT true,
    store_inputs boolean NOT NULL DEFAULT false,
    window_size int NOT NULL DEFAULT 500 CHECK (window_size > 0),
    retention_days int NOT NULL DEFAULT 90 CHECK (retention_days > 0)
);
INSERT INTO "${schema}".setting DEFAULT VALUES;
ALTER TABLE "${schema}".setting OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".setting;

--changeset project:prediction_log
-- Append-only: run_inference_task adds rows, and nothing changes them. For many predictions an administrator adds
-- partitions (one per month, say) and drops old ones; without them every row lies in the default partition.
CREATE TABLE "${schema}".prediction_log (
    prediction_id uuid NOT NULL DEFAULT gen_random_uuid(),
    predicted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    model text NOT NULL,
    version int NOT NULL,
    label text NOT NULL,
    probabilities real [] NOT NULL,
    statistics real [],
    input bytea,
    PRIMARY KEY (prediction_id, predicted_at)
) PARTITION BY RANGE (predicted_at);
CREATE TABLE "${schema}".prediction_log_default PARTITION OF "${schema}".prediction_log DEFAULT;
CREATE INDEX prediction_log_version ON "${schema}".prediction_log (model, version, predicted_at);
CREATE INDEX prediction_log_predicted_at ON "${schema}".prediction_log (predicted_at);
ALTER TABLE "${schema}".prediction_log OWNER TO "${schema}_owner";
ALTER TABLE "${schema}".prediction_log_default OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".prediction_log;

--changeset project:row_statistics splitStatements:false stripComments:false
-- Returns the statistics of one row that drift is measured by: mean, standard deviation and the means of up to eight
-- parts. pipeline/data/mini_batches.py computes them for the training rows.
CREATE OR REPLACE FUNCTION "${schema}".row_statistics(features bytea, input_dtype text) RETURNS real[]
LANGUAGE plpython3u IMMUTABLE STRICT AS $python$
import numpy as np

values = np.frombuffer(features, {"uint8": "u1", "float32": "<f4"}[input_dtype]).astype("f8")
parts = min(8, values.size)
starts = np.arange(parts) * values.size // parts
means = np.add.reduceat(values, starts) / np.diff([*starts, values.size])
return np.concatenate([[values.mean(), values.std()], means]).astype("f4").tolist()
$python$;
ALTER FUNCTION "${schema}".row_statistics(bytea, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".row_statistics(bytea, text) FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".row_statistics(bytea, text);

--changeset project:run_inference_task splitStatements:false stripComments:false
-- Predicts for the app and logs to prediction_log. Returns {prediction_id, label, probabilities, model, version}.
CREATE FUNCTION "${schema}".run_inference_task(image bytea, model text, stage text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
    setting record;
    answer real[];
    answer_label text;
    new_id uuid;
BEGIN
    SELECT v.version, v.sha256, v.classes, v.input_dtype INTO served
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version
    WHERE a.model = run_inference_task.model AND a.alias = run_inference_task.stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no version of model "%" holds the alias "%": promote one first', model, stage
        USING ERRCODE = 'no_data_found';
    END IF;
    answer := "${schema}".answer_row(image, served.sha256);
    SELECT served.classes[p.position] INTO answer_label
    FROM unnest(answer) WITH ORDINALITY AS p (probability, position)
    ORDER BY p.probability DESC, p.position LIMIT 1;
    SELECT s.log_statistics, s.store_inputs INTO setting FROM "${schema}".setting AS s;
    INSERT INTO "${schema}".prediction_log (model, version, label, probabilities, statistics, input)
    VALUES (
        model, served.version, answer_label, answer,
        CASE WHEN setting.log_statistics THEN "${schema}".row_statistics(image, served.input_dtype) END,
        CASE WHEN setting.store_inputs THEN image END
    )
    RETURNING prediction_id INTO new_id;
    RETURN jsonb_build_object(
        'prediction_id', new_id, 'label', answer_label, 'probabilities', to_jsonb(answer),
        'model', model, 'version', served.version
    );
END
$$;
ALTER FUNCTION "${schema}".run_inference_task(bytea, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".run_inference_task(bytea, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".run_inference_task(bytea, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".run_inference_task(bytea, text, text);
