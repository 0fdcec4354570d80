"""Generated projects on real servers: two PostgreSQL clusters, Liquibase and MLflow, nothing replaced."""
