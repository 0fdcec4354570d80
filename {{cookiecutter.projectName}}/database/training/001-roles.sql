--liquibase formatted sql

-- The rollback also revokes rights outside the schema: those on the source table.
--changeset project:roles splitStatements:false stripComments:false
-- The owner role owns all objects of the changelog; it can neither log in nor act as a superuser.
-- deploy_training_db grants the trainer role to the login of the `trainer` binding.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '${schema}_owner') THEN
        CREATE ROLE "${schema}_owner" NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '${schema}_trainer') THEN
        CREATE ROLE "${schema}_trainer" NOLOGIN;
    END IF;
END
$$;
GRANT USAGE, CREATE ON SCHEMA "${schema}" TO "${schema}_owner";
GRANT USAGE ON SCHEMA "${schema}" TO "${schema}_trainer";
/* liquibase rollback
DROP OWNED BY "${schema}_trainer";
REVOKE ALL ON SCHEMA "${schema}" FROM "${schema}_owner", "${schema}_trainer";
DROP ROLE "${schema}_owner";
DROP ROLE "${schema}_trainer";
*/
