--liquibase formatted sql

--changeset project:predict_block splitStatements:false
-- SELECT batch_id, predict_block(features, labels, row_count, weights, config) FROM dataset_batch WHERE …
-- GROUP BY batch_id: the probabilities of each block's rows in class order, float32 after a header of 48 bytes.
-- Without COMBINEFUNC, so that the rows of a group keep their order.
CREATE AGGREGATE "${schema}".predict_block(
    features bytea, labels bytea, row_count int, weights bytea, config text
) (
    SFUNC = "${schema}".model_transition,
    STYPE = bytea,
    INITCOND = 'predict'
);
ALTER AGGREGATE "${schema}".predict_block(bytea, bytea, int, bytea, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".predict_block(bytea, bytea, int, bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".predict_block(bytea, bytea, int, bytea, text) TO "${schema}_trainer";
--rollback DROP AGGREGATE "${schema}".predict_block(bytea, bytea, int, bytea, text);
