--liquibase formatted sql

--changeset project:predict_block splitStatements:false
-- Returns a state: a header of 48 bytes, then the probabilities, float32 (rows, classes). Group by batch_id: within a
-- block the order is that of its features, between the blocks of a group it is unspecified. There is no COMBINEFUNC,
-- because joining partial states would mix the rows of different blocks.
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
