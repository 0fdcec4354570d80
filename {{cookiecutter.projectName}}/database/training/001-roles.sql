--liquibase formatted sql

-- The rollback also takes back rights on what lies outside of the schema: a table that is trained on.
--changeset project:roles splitStatements:false stripComments:false
-- The owner holds what the changelog creates and can neither log in nor act as a superuser.
-- The trainer group is granted to the login of the `trainer` binding by deploy_training_db.
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
