"""The version that a stage serves: the alias in the inference database, its alias in MLflow, rollbacks of both.

MLflow's registry decides, and the database follows. A rollback goes the other way, because it must work without
MLflow: the database first, the registry when it answers. A caller that reads or writes the registry's alias holds the
lock on the database's row meanwhile, so that stale knowledge does not overwrite a rollback.
"""

import datetime
from typing import TYPE_CHECKING, NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline.databases import query
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import answering, has_registered_model, load_mlflow

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Alias(NamedTuple):
    """A row of model_alias.

    `rolled_back_from` has the rollbacks that the registry does not know yet: {version: ISO time}.
    """

    version: int
    registry_version: int | None
    rolled_back_from: dict[str, str]

    def registry_lags(self, registered: "ModelVersion | None", stage: str) -> bool:
        """Return whether the registry's alias is still the one from before a rollback, and was not set again since."""
        version = int(registered.version) if registered else None
        if not self.rolled_back_from or version == self.version or version != self.registry_version:
            return False
        # A person may have promoted the same version again.
        promoted_at = _tagged_time(registered, _promoted_tag(stage))
        rolled_back_at = self.rolled_back_from.get(str(version))
        if promoted_at is None or rolled_back_at is None:
            return True
        return promoted_at < datetime.datetime.fromisoformat(rolled_back_at)


def lock(connection: Connection, stage: str) -> Alias | None:
    """Lock the database's alias until the transaction ends, and return it; None when no version holds it."""
    rows = query(
        connection,
        "SELECT version, registry_version, rolled_back_from FROM {schema}.model_alias "
        "WHERE model = %s AND alias = %s FOR UPDATE",
        (settings().model, stage),
    )
    return Alias(*rows[0]) if rows else None


def roll_back(connection: Connection, stage: str, version: int) -> None:
    """Move the database's alias to another version, and record the rollback for the registry; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.model_alias SET version = %(version)s, changed_at = now(), "
        "rolled_back_from = (rolled_back_from || jsonb_build_object(version::text, now())) - %(version)s::text "
        "WHERE model = %(model)s AND alias = %(stage)s",
        {"version": version, "model": settings().model, "stage": stage},
    )


def follow_registry(connection: Connection, stage: str, version: int) -> None:
    """Give the database's alias to the version that holds the registry's; the caller commits."""
    query(
        connection,
        "INSERT INTO {schema}.model_alias AS current (model, alias, version, registry_version) "
        "VALUES (%(model)s, %(stage)s, %(version)s, %(version)s) ON CONFLICT (model, alias) DO UPDATE SET "
        "version = excluded.version, registry_version = excluded.version, rolled_back_from = '{}', "
        "changed_at = CASE WHEN current.version = excluded.version THEN current.changed_at ELSE now() END",
        {"model": settings().model, "stage": stage, "version": version},
    )


def remove(connection: Connection, stage: str) -> None:
    """Remove the database's alias, as the registry has none; the caller commits."""
    query(
        connection,
        "DELETE FROM {schema}.model_alias WHERE model = %s AND alias = %s",
        (settings().model, stage),
    )


def update_registry(stage: str, version: int, rolled_back_from: dict[str, str]) -> bool:
    """Move MLflow's alias too, and mark the versions rolled back from; False when the registry lacks the version.

    The alias moves last: after an interruption, the next call does everything again. Raises StepError.
    """
    if registered_version(version) is None:
        return False
    mark_rolled_back(stage, rolled_back_from)
    with answering():
        clear_rolled_back(stage, version)
        load_mlflow().MlflowClient().set_registered_model_alias(settings().model, stage, str(version))
    return True


def mark_rolled_back(stage: str, rolled_back_from: dict[str, str]) -> None:
    """Mark registered versions as rolled back from, so that promote_model refuses them. Raises StepError."""
    client = load_mlflow().MlflowClient()
    for version, time in rolled_back_from.items():
        if registered_version(int(version)) is not None:
            with answering():
                client.set_model_version_tag(settings().model, version, _rolled_back_tag(stage), time)


def clear_rolled_back(stage: str, version: int) -> None:
    """Remove the mark from a version that a person wants after all."""
    if rolled_back_at(stage, version):
        load_mlflow().MlflowClient().delete_model_version_tag(settings().model, str(version), _rolled_back_tag(stage))


def record_manual_promotion(stage: str, version: int) -> None:
    """Record that a person gives the alias to this version now, whatever happened to it before."""
    clear_rolled_back(stage, version)
    client = load_mlflow().MlflowClient()
    client.set_model_version_tag(settings().model, str(version), _promoted_tag(stage), now())


def rolled_back_at(stage: str, version: int) -> str | None:
    """Return the ISO time of the last rollback from a registered version, None when there was none."""
    time = _tagged_time(registered_version(version), _rolled_back_tag(stage))
    return time.isoformat() if time else None


def now() -> str:
    """Return the current time as an ISO string in UTC, as the tags have it."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def registered_version(version: int) -> "ModelVersion | None":
    """Return a version from the registry, None when the registry lacks it. Raises StepError."""
    mlflow = load_mlflow()
    client = mlflow.MlflowClient()
    with answering():
        if not has_registered_model(client):
            return None
        try:
            registered: ModelVersion = client.get_model_version(settings().model, str(version))
            return registered
        except mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def require_version(version: int) -> "ModelVersion":
    """Return a version from the registry. Raises StepError when the registry lacks it."""
    registered = registered_version(version)
    if registered is None:
        raise StepError(f"MLflow has no version {version} of the model {settings().model}")
    return registered


def _tagged_time(registered: "ModelVersion | None", tag: str) -> datetime.datetime | None:
    """Return the time with a time zone that a tag holds, else None; anybody may write tags in MLflow."""
    text = registered.tags.get(tag, "") if registered else ""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else None


def _rolled_back_tag(stage: str) -> str:
    return f"rolled_back_from.{stage}"


def _promoted_tag(stage: str) -> str:
    return f"promoted.{stage}"
