--liquibase formatted sql

--changeset project:model_info_inputs
-- inputs: the statistics of the training rows, for the app to mark rows that are unlike all of them.
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
    v.encoding,
    v.training_statistics -> 'inputs' AS inputs
FROM "${schema}".model_alias AS a
INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version;
/* liquibase rollback
DROP VIEW "${schema}".model_info;
CREATE VIEW "${schema}".model_info AS
    SELECT
    a.model, a.alias, a.version, v.classes, v.input_shape, v.input_dtype, v.metrics, v.samples, v.data_hash,
    v.git_commit, v.created_at, a.changed_at, v.encoding
    FROM "${schema}".model_alias AS a
    INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version;
ALTER VIEW "${schema}".model_info OWNER TO "${schema}_owner";
GRANT SELECT ON "${schema}".model_info TO "${schema}_app";
*/
