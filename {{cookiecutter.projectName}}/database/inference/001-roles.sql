--liquibase formatted sql

--changeset project:roles splitStatements:false stripComments:false
-- The owner role owns all objects of the changelog; it can neither log in nor act as a superuser.
-- deploy_inference_db grants the app role to the login of the `inference-app` binding.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '${schema}_owner') THEN
        CREATE ROLE "${schema}_owner" NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '${schema}_app') THEN
        CREATE ROLE "${schema}_app" NOLOGIN;
    END IF;
END
$$;
GRANT USAGE, CREATE ON SCHEMA "${schema}" TO "${schema}_owner";
GRANT USAGE ON SCHEMA "${schema}" TO "${schema}_app";
/* liquibase rollback
REVOKE ALL ON SCHEMA "${schema}" FROM "${schema}_owner", "${schema}_app";
DROP ROLE "${schema}_owner";
DROP ROLE "${schema}_app";
*/
