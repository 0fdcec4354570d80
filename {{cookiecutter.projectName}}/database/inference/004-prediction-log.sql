--liquibase formatted sql

--changeset project:prediction_log
-- Append-only: run_inference_task writes it, nothing changes it.
CREATE TABLE "${schema}".prediction_log (
    prediction_id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    predicted_at timestamptz NOT NULL DEFAULT now(),
    model text NOT NULL,
    version int NOT NULL,
    label text NOT NULL,
    probabilities real[] NOT NULL
);
CREATE INDEX prediction_log_predicted_at ON "${schema}".prediction_log (predicted_at);
ALTER TABLE "${schema}".prediction_log OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".prediction_log;

--changeset project:run_inference_task splitStatements:false stripComments:false
-- One prediction for the app: {prediction_id, label, probabilities, model, version}, kept in prediction_log.
CREATE FUNCTION "${schema}".run_inference_task(image bytea, model text, stage text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
    answer real[];
    answer_label text;
    new_id uuid;
BEGIN
    SELECT v.version, v.sha256, v.classes INTO served
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
    INSERT INTO "${schema}".prediction_log (model, version, label, probabilities)
    VALUES (model, served.version, answer_label, answer)
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
