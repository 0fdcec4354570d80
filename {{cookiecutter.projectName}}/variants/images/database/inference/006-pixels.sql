--liquibase formatted sql

--changeset project:model_info_pixels
-- pixels: the values of black and white in the rows that the version was trained on. NULL for 0 to 255 in versions that
-- were registered before they were measured. inputs: the statistics of its training rows.
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
    v.training_statistics -> 'pixels' AS pixels,
    v.training_statistics -> 'inputs' AS inputs
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
