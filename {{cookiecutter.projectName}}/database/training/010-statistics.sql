--liquibase formatted sql

--changeset project:analyze_dataset_batch splitStatements:false stripComments:false
-- Without statistics, Greenplum expects one row of a new data set, and gathers it instead of training on the segments.
-- Only the owner of a table may run ANALYZE, so the trainer calls this function.
CREATE FUNCTION "${schema}".analyze_dataset_batch() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    ANALYZE "${schema}".dataset_batch;
END
$$;
ALTER FUNCTION "${schema}".analyze_dataset_batch() OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".analyze_dataset_batch() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".analyze_dataset_batch() TO "${schema}_trainer";
--rollback DROP FUNCTION "${schema}".analyze_dataset_batch();
