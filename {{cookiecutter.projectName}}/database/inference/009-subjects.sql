--liquibase formatted sql

--changeset project:subjects splitStatements:false stripComments:false
-- The person or program that asked for a prediction or gave a label, as the app authenticated it; NULL in rows that are
-- older than the column. The setting ${schema}.subject carries it from the functions below to both columns.
ALTER TABLE "${schema}".prediction_log ADD COLUMN subject text;
ALTER TABLE "${schema}".prediction_log ALTER COLUMN subject
SET DEFAULT nullif(pg_catalog.current_setting('${schema}.subject', true), '');
ALTER TABLE "${schema}".prediction_label ADD COLUMN subject text;
ALTER TABLE "${schema}".prediction_label ALTER COLUMN subject
SET DEFAULT nullif(pg_catalog.current_setting('${schema}.subject', true), '');
CREATE INDEX prediction_log_subject ON "${schema}".prediction_log (subject);
CREATE INDEX prediction_label_subject ON "${schema}".prediction_label (subject);
/* liquibase rollback
ALTER TABLE "${schema}".prediction_label DROP COLUMN subject;
ALTER TABLE "${schema}".prediction_log DROP COLUMN subject;
*/

--changeset project:run_inference_task_for_a_subject splitStatements:false stripComments:false
-- Like run_inference_task without a subject, which is logged with the prediction.
CREATE FUNCTION "${schema}".run_inference_task(image bytea, model text, stage text, subject text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('${schema}.subject', coalesce(left(subject, 255), ''), true);
    answer := "${schema}".run_inference_task(image, model, stage);
    PERFORM set_config('${schema}.subject', '', true);
    RETURN answer;
END
$$;
ALTER FUNCTION "${schema}".run_inference_task(bytea, text, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".run_inference_task(bytea, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".run_inference_task(bytea, text, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".run_inference_task(bytea, text, text, text);

--changeset project:record_label_of_a_subject splitStatements:false stripComments:false
-- Like record_label without a subject, which is stored with the label.
CREATE FUNCTION "${schema}".record_label(prediction uuid, label text, subject text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('${schema}.subject', coalesce(left(subject, 255), ''), true);
    answer := "${schema}".record_label(prediction, label);
    PERFORM set_config('${schema}.subject', '', true);
    RETURN answer;
END
$$;
ALTER FUNCTION "${schema}".record_label(uuid, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".record_label(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".record_label(uuid, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".record_label(uuid, text, text);
