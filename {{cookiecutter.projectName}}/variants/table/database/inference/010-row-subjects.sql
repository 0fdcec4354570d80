--liquibase formatted sql

--changeset project:run_inference_task_of_a_row_for_a_subject splitStatements:false stripComments:false
-- Like run_inference_task without a subject, for a raw row.
CREATE FUNCTION "${schema}".run_inference_task(given jsonb, model text, stage text, subject text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('${schema}.subject', coalesce(left(subject, 255), ''), true);
    answer := "${schema}".run_inference_task(given, model, stage);
    PERFORM set_config('${schema}.subject', '', true);
    RETURN answer;
END
$$;
ALTER FUNCTION "${schema}".run_inference_task(jsonb, text, text, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".run_inference_task(jsonb, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".run_inference_task(jsonb, text, text, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".run_inference_task(jsonb, text, text, text);
