--liquibase formatted sql

--changeset project:registered_version
-- The versions of MLflow's registry that promote_model registered or a person adopted, with the SHA-256 of their ONNX
-- file and of their metadata. Steps use no other file of MLflow. Two servers of MLflow may give the same number.
-- run_hash is NULL where the version does not come from a training in this database.
CREATE TABLE "${schema}".registered_version (
    version int NOT NULL,
    onnx_sha256 text NOT NULL,
    metadata_sha256 text NOT NULL,
    run_hash text,
    adopted_by text,
    registered_by text NOT NULL DEFAULT session_user,
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version, onnx_sha256, metadata_sha256)
) ${replicated};
ALTER TABLE "${schema}".registered_version OWNER TO "${schema}_owner";
GRANT SELECT, INSERT ON "${schema}".registered_version TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".registered_version;
