"""Deploy the training database's code.

Liquibase deploys its changelog; the model's architecture is stored there.
"""

from pipeline import doctor, liquibase
from pipeline.data import source
from pipeline.databases import Connection, binding, grant_temporary_tables, insert, prepare_login, query, session
from pipeline.run_identity import git_commit
from pipeline.settings import settings
from pipeline.tracking import load_mlflow, step_run
from pipeline.user_code import Architecture, build_architecture


def run() -> str:
    """Update the training database and store the architecture. Raises StepError."""
    doctor.require(doctor.java, doctor.liquibase_program, doctor.training_database, doctor.deploying_role)
    data = source.describe()
    architecture = build_architecture(data.shape, len(data.classes), data.value_range)
    tag = liquibase.deploy("training-deployer", "database/training")
    connection = session("training-deployer")
    group = f"{settings().schema}_trainer"
    prepare_login(connection, group, binding("trainer").username)
    grant_temporary_tables(connection, group)
    source.grant(connection, group)
    _store(connection, architecture)
    with step_run("deploy_training_db", liquibase_tag=tag):
        load_mlflow().log_params({"liquibase_tag": tag, "architecture_hash": architecture.hash})
    return f"{binding('training-deployer').where}: schema {settings().schema} at tag {tag}"


def _store(connection: Connection, architecture: Architecture) -> None:
    """Make this architecture the newest; a stored one only gets a new date, see training_db.select_data."""
    with connection:
        is_stored = query(
            connection,
            "UPDATE {schema}.model_architecture SET deployed_at = now(), git_commit = %s "
            "WHERE architecture_hash = %s RETURNING 1",
            (git_commit(), architecture.hash),
        )
        if not is_stored:
            insert(
                connection,
                "model_architecture",
                {
                    "architecture_hash": architecture.hash,
                    "architecture": architecture.json,
                    "shape": ",".join(map(str, architecture.shape)),
                    "classes": architecture.classes,
                    "weight_count": architecture.weight_count,
                    "starting_weights": architecture.starting_weights or None,
                    "git_commit": git_commit(),
                },
            )
