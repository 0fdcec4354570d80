"""Roll back a model's stage, or a database's code.

--to_version N moves a stage to an older version of the model, also while MLflow is away. --to_tag T moves a database to
an older tag of its code.
"""

import contextlib
import itertools
import re
import sys
from collections.abc import Iterator

import psycopg2.errors

from pipeline import doctor, liquibase
from pipeline.databases import Connection, binding, has_relation, query, session
from pipeline.errors import StepError
from pipeline.registry import aliases
from pipeline.settings import chosen_stage, settings
from pipeline.tracking import impatient, load_mlflow, registered_alias, step_run

DATABASES = {"inference": doctor.inference_database, "training": doctor.training_database}
TARGETS = "--to_version N (a model's version) or --to_tag T (a tag of a database's code)"
# deploy_inference_db may hold the alias's lock while it asks MLflow.
LOCK_SECONDS = 60
NAME = r'(?:"[^"]+"|[\w$]+)'
TABLE = rf"{NAME}(?:\s*\.\s*{NAME})?"
DROP_TABLE = re.compile(rf"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?({TABLE}(?:\s*,\s*{TABLE})*)", re.IGNORECASE)
ALTER_TABLE = re.compile(rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({TABLE})([^;]*)", re.IGNORECASE)
DROP_COLUMN = re.compile(
    rf"\bDROP\s+(?!CONSTRAINT\b|DEFAULT\b|NOT\b|IDENTITY\b|EXPRESSION\b)(?:COLUMN\s+)?(?:IF\s+EXISTS\s+)?({NAME})",
    re.IGNORECASE,
)
# Statements that may delete rows; those of Liquibase's own table do not count.
DELETES = re.compile(
    r"\b(TRUNCATE|DELETE\s+FROM(?!\s+\S*databasechangelog)|DROP\s+SCHEMA|DROP\s+MATERIALIZED\s+VIEW|EXECUTE\s+')",
    re.IGNORECASE,
)


def run(to_version: int, to_tag: str, stage: str, database: str, drop_data: str) -> str:
    """Roll back to a version of the model or to a tag of a database's code.

    Args:
        to_version: the version of the model that answers for the stage from now on
        to_tag: a tag of the database's code; deploy_training_db and deploy_inference_db print theirs
        stage: staging or production; empty for the project's own
        database: inference or training: the database whose code goes back to the tag
        drop_data: true allows dropping tables and columns that hold rows; true or false

    Raises:
        StepError: a value is not allowed, the database lacks the version or tag, or rows would be lost.
    """
    if to_version < 0:
        raise StepError(f"to_version is {to_version}; allowed is the number of a version, from 1")
    if bool(to_version) == bool(to_tag):
        mistake = "both --to_version and --to_tag were given" if to_tag else "no target was given"
        raise StepError(f"rollback: {mistake}; name exactly one of {TARGETS}")
    if database not in DATABASES:
        raise StepError(f"database is {database!r}; allowed is {' or '.join(DATABASES)}")
    if drop_data not in ("true", "false"):
        raise StepError(f"drop_data is {drop_data!r}; allowed is true or false")
    own_stage = chosen_stage(stage)
    if to_tag:
        if stage:
            raise StepError("--stage belongs to --to_version: a tag has no stage")
        return _roll_back_code(to_tag, database, drop_data == "true")
    if database != "inference" or drop_data == "true":
        raise StepError("--database and --drop_data belong to --to_tag: versions are in the inference database alone")
    return _roll_back_model(to_version, own_stage)


def _roll_back_model(version: int, stage: str) -> str:
    """Move the stage's alias to a stored version, in the database and then in MLflow's registry."""
    doctor.require(doctor.inference_database)
    connection = session("inference-deployer")
    with connection, _lock_awaited(stage):
        _require_version(connection, version)
        query(connection, f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        alias = aliases.lock(connection, stage)
        if alias is None:
            raise StepError(
                f"no version of {settings().model} holds {stage} in the inference database, so there is nothing to "
                f"roll back; `promote_model --version {version} --stage {stage}` and deploy_inference_db give it one"
            )
        if alias.version != version:
            aliases.roll_back(connection, stage, version)
    # The transaction is over: every prediction comes from that version now.
    warning = _update_registry(connection, stage, alias.version, version)
    if warning:
        print(f"rollback: {warning}", file=sys.stderr)
    if alias.version == version:
        return f"version {version} holds {stage} already"
    return (
        f"version {version} now holds {stage}, which version {alias.version} held; "
        f"promote_model does not promote version {alias.version} again by itself"
    )


@contextlib.contextmanager
def _lock_awaited(stage: str) -> Iterator[None]:
    """Raise StepError when the alias's lock is not released in time."""
    try:
        yield
    except psycopg2.errors.LockNotAvailable as error:
        raise StepError(f"another command has been changing {stage} for {LOCK_SECONDS} s: try again") from error


def _require_version(connection: Connection, version: int) -> None:
    """Raise StepError when the inference database does not hold the version."""
    if not has_relation(connection, "model_alias"):
        raise StepError(f"{binding('inference-deployer').where} holds no model: deploy_inference_db was not run there")
    rows = query(
        connection,
        "SELECT version FROM {schema}.model_version WHERE model = %s ORDER BY version",
        (settings().model,),
    )
    stored = [row[0] for row in rows]
    if version not in stored:
        raise StepError(
            f"the inference database holds no version {version} of {settings().model}; "
            f"it holds {', '.join(map(str, stored)) or 'none'}"
        )


def _update_registry(connection: Connection, stage: str, before: int, version: int) -> str | None:
    """Move the alias in MLflow's registry and log the rollback; return a warning when that was not possible.

    `before` is the version that held the stage in the database.
    """
    later = "deploy_inference_db will tell it"
    finding = doctor.mlflow_server()
    if not finding.is_there:
        return f"MLflow's registry does not know yet: {finding.detail}; {later}"
    try:
        with impatient(), connection:
            alias = aliases.lock(connection, stage)
            if alias is None or alias.version != version:
                return f"{stage} was changed again meanwhile"
            registered = registered_alias(stage)
            registry_version = int(registered.version) if registered else None
            if registry_version == version and not alias.rolled_back_from:
                return None
            rolled_back_from = dict(alias.rolled_back_from)
            if registry_version not in (version, None):
                # The registry may have promoted a version that the database does not hold yet.
                rolled_back_from.setdefault(str(registry_version), aliases.now())
            if not aliases.update_registry(stage, version, rolled_back_from):
                return f"MLflow's registry has no version {version}; {stage} stays version {registry_version} there"
            aliases.follow_registry(connection, stage, version)
            with step_run("rollback"):
                _log(stage=stage, **{"from": registry_version if before == version else before, "to": version})
    except StepError as error:
        return f"MLflow's registry may not know yet: {error}; {later}"
    return None


def _log(**facts: object) -> None:
    """Log facts of the rollback; `mlflow run` has logged the step's parameters under their own names."""
    load_mlflow().log_params({f"rolled_back_{name}": fact for name, fact in facts.items()})


def _roll_back_code(tag: str, database: str, drop_data: bool) -> str:
    """Roll back a database's changelog to a tag, and log the rollback."""
    doctor.require(doctor.java, doctor.liquibase_program, DATABASES[database])
    name, folder = f"{database}-deployer", f"database/{database}"
    where = f"{binding(name).where}: schema {settings().schema}"
    changes = liquibase.deployed(name)
    in_force = changes[0].tag if changes else liquibase.EMPTY
    if tag == in_force:
        return f"{where} is at tag {tag} already"
    tags = list(dict.fromkeys(change.tag for change in changes if change.tag)) or [liquibase.EMPTY]
    if tag not in tags:
        raise StepError(f"{where} has no tag {tag!r}; its tags, newest first, are {', '.join(tags)}")
    undone = [change.name for change in itertools.takewhile(lambda change: change.tag != tag, changes)]
    plan = liquibase.run(name, folder, "rollback-sql", f"--tag={tag}")
    _require_all(undone, plan, database)
    lost = _lost(session(name), plan)
    if lost and not drop_data:
        raise StepError(
            f"{where}: going back to tag {tag} would drop what holds rows: {', '.join(lost)}; save them (pg_dump), "
            "then give --drop_data true"
        )
    liquibase.take_turn(name)
    liquibase.run(name, folder, "rollback", f"--tag={tag}")
    before = in_force or "no tag"
    warning = _log_code(database=database, dropped=", ".join(lost) or "nothing", **{"from": before, "to": tag})
    if warning:
        print(f"rollback: {warning}", file=sys.stderr)
    return (
        f"{where} is back at tag {tag} (it was at {before}), {len(undone)} changes undone; deploy_{database}_db "
        "deploys the checked-out commit's code again, so revert that commit too"
    )


def _require_all(undone: list[str], plan: str, database: str) -> None:
    """Raise StepError when the checked-out changelog lacks a change to undo, which Liquibase would skip silently."""
    planned = {match.strip() for match in re.findall(r"^-- Rolling Back ChangeSet: (.+)$", plan, re.MULTILINE)}
    missing = [change for change in undone if change not in planned]
    if missing:
        raise StepError(
            f"database/{database} does not hold the deployed change {missing[0]}, so it cannot be undone; check out "
            "the commit that was deployed last, roll back, then revert it"
        )


def _lost(connection: Connection, plan: str) -> list[str]:
    """Return the tables and columns with rows that the statements would drop, with their row counts."""
    statements = re.sub(r"^\s*--.*$", "", plan, flags=re.MULTILINE)
    lost: list[str] = []
    with connection:
        # Resolve names as Liquibase's session does.
        query(connection, "SET LOCAL search_path = {schema}")
        for names in DROP_TABLE.findall(statements):
            for table in re.findall(TABLE, names):
                rows = _count(connection, table, "*")
                if rows:
                    lost.append(f"table {_plain(table)} (rows: {rows})")
        for table, actions in ALTER_TABLE.findall(statements):
            for column in DROP_COLUMN.findall(actions):
                rows = _count(connection, table, column)
                if rows:
                    lost.append(f"column {_plain(column)} of table {_plain(table)} (values: {rows})")
    return lost + [f"the rows that {' '.join(statement.split())} deletes" for statement in DELETES.findall(statements)]


def _count(connection: Connection, table: str, column: str) -> int:
    """Return how many values a column holds (`*`: how many rows a table has); 0 when it does not exist."""
    relation = query(connection, "SELECT to_regclass(%s)::text", (table,))[0][0]
    if relation is None:
        return 0
    if column != "*":
        column_exists = query(
            connection,
            "SELECT 1 FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s AND NOT attisdropped",
            (relation, _plain(column)),
        )
        if not column_exists:
            return 0
    return int(query(connection, f"SELECT count({column}) FROM {relation}")[0][0])


def _plain(name: str) -> str:
    """Return a name in SQL without its schema and quotes."""
    return name.split(".")[-1].strip().strip('"')


def _log_code(**facts: object) -> str | None:
    """Log a rollback of code; return a warning when that was not possible."""
    finding = doctor.mlflow_server()
    if not finding.is_there:
        return f"not logged in MLflow: {finding.detail}"
    try:
        with impatient(), step_run("rollback", liquibase_tag=str(facts["to"])):
            _log(**facts)
    except StepError as error:
        return f"not logged in MLflow: {error}"
    return None
