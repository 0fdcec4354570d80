--liquibase formatted sql

--changeset project:model_version
CREATE TABLE "${schema}".model_version (
    model text NOT NULL,
    version int NOT NULL CHECK (version > 0),
    onnx bytea NOT NULL,
    sha256 text NOT NULL CHECK (sha256 = encode(sha256(onnx), 'hex')),
    classes text[] NOT NULL,
    input_shape int[] NOT NULL,
    input_dtype text NOT NULL,
    metrics jsonb NOT NULL,
    training_statistics jsonb NOT NULL,
    samples jsonb NOT NULL,
    data_hash text NOT NULL,
    git_commit text NOT NULL,
    mlflow_run text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version)
);
CREATE INDEX model_version_sha256 ON "${schema}".model_version (sha256);
ALTER TABLE "${schema}".model_version ALTER COLUMN onnx SET STORAGE EXTERNAL;
ALTER TABLE "${schema}".model_version OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".model_version;

--changeset project:model_alias
-- The version behind an alias (staging, production). Promotion and rollback change this row. registry_version is the
-- version in MLflow's registry when both agreed last. rolled_back_from holds the versions that lost the alias in
-- rollbacks unknown to the registry, each with its time.
CREATE TABLE "${schema}".model_alias (
    model text NOT NULL,
    alias text NOT NULL,
    version int NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    registry_version int,
    rolled_back_from jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES "${schema}".model_version (model, version)
);
ALTER TABLE "${schema}".model_alias OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".model_alias;

--changeset project:model_alias_history
-- version is NULL when the alias was removed.
CREATE TABLE "${schema}".model_alias_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    alias text NOT NULL,
    version int,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE "${schema}".model_alias_history OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".model_alias_history;

--changeset project:record_model_alias splitStatements:false stripComments:false
CREATE FUNCTION "${schema}".record_model_alias() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO "${schema}".model_alias_history (model, alias, version, changed_by)
        VALUES (OLD.model, OLD.alias, NULL, session_user);
    ELSIF TG_OP = 'INSERT' OR NEW.version <> OLD.version THEN
        INSERT INTO "${schema}".model_alias_history (model, alias, version, changed_by)
        VALUES (NEW.model, NEW.alias, NEW.version, session_user);
    END IF;
    RETURN NULL;
END
$$;
ALTER FUNCTION "${schema}".record_model_alias() OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".record_model_alias() FROM PUBLIC;
CREATE TRIGGER record_model_alias
AFTER INSERT OR UPDATE OR DELETE ON "${schema}".model_alias
FOR EACH ROW EXECUTE FUNCTION "${schema}".record_model_alias();
/* liquibase rollback
DROP TRIGGER record_model_alias ON "${schema}".model_alias;
DROP FUNCTION "${schema}".record_model_alias();
*/

--changeset project:model_info
-- What the app may read about the served models: everything but the weights.
CREATE VIEW "${schema}".model_info AS
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
    a.changed_at
FROM "${schema}".model_alias AS a
INNER JOIN "${schema}".model_version AS v ON a.model = v.model AND a.version = v.version;
ALTER VIEW "${schema}".model_info OWNER TO "${schema}_owner";
GRANT SELECT ON "${schema}".model_info TO "${schema}_app";
--rollback DROP VIEW "${schema}".model_info;
