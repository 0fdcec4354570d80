"""Which version answers for a stage: the alias in the inference database, the alias in MLflow, rollbacks of both.

MLflow's registry decides, and the database follows. A rollback goes the other way, because it must work without
MLflow: the database first, the registry when it answers. Whoever asks or tells the registry holds the lock on
the database's row meanwhile, so that no older knowledge overwrites a rollback.
"""

import datetime
from typing import Any, NamedTuple

from pipeline.databases import query
from pipeline.settings import settings
from pipeline.tracking import answering, load_mlflow


class Alias(NamedTuple):
    """A row of model_alias; rolled_back_from: {version: time} of rollbacks that the registry does not know of."""

    version: int
    registry_version: int | None
    rolled_back_from: dict[str, str]

    def registry_lags(self, registered: Any, stage: str) -> bool:
        """Whether the registry still says what it said before a rollback; False when it was changed since."""
        version = int(registered.version) if registered else None
        if not self.rolled_back_from or version == self.version or version != self.registry_version:
            return False
        # A person may have promoted the same version again.
        promoted, left = _time(registered, _promoted(stage)), self.rolled_back_from.get(str(version))
        return promoted is None or left is None or promoted < datetime.datetime.fromisoformat(left)


def locked(connection: Any, stage: str) -> Alias | None:
    """Lock and return the database's alias until the transaction ends; None when no version holds it."""
    rows = query(
        connection,
        "SELECT version, registry_version, rolled_back_from FROM {schema}.model_alias "
        "WHERE model = %s AND alias = %s FOR UPDATE",
        (settings().model, stage),
    )
    return Alias(*rows[0]) if rows else None


def roll_back(connection: Any, stage: str, version: int) -> None:
    """Move the database's alias to another version and note what the registry must be told; the caller commits."""
    query(
        connection,
        "UPDATE {schema}.model_alias SET version = %(version)s, changed_at = now(), "
        "rolled_back_from = (rolled_back_from || jsonb_build_object(version::text, now())) - %(version)s::text "
        "WHERE model = %(model)s AND alias = %(stage)s",
        {"version": version, "model": settings().model, "stage": stage},
    )


def set_in_line(connection: Any, stage: str, version: int) -> None:
    """Make the database say what the registry says; the caller commits."""
    query(
        connection,
        "INSERT INTO {schema}.model_alias AS held (model, alias, version, registry_version) "
        "VALUES (%(model)s, %(stage)s, %(version)s, %(version)s) ON CONFLICT (model, alias) DO UPDATE SET "
        "version = excluded.version, registry_version = excluded.version, rolled_back_from = '{}', "
        "changed_at = CASE WHEN held.version = excluded.version THEN held.changed_at ELSE now() END",
        {"model": settings().model, "stage": stage, "version": version},
    )


def take_away(connection: Any, stage: str) -> None:
    """Leave the stage without a version, as the registry does; the caller commits."""
    query(
        connection,
        "DELETE FROM {schema}.model_alias WHERE model = %s AND alias = %s",
        (settings().model, stage),
    )


def tell_registry(stage: str, version: int, rolled_back_from: dict[str, str]) -> bool:
    """Move MLflow's alias, too, and mark what it was taken from; False when the registry has no such version.

    The alias moves last: whatever interrupts this, the next telling does all of it. Raises StepError.
    """
    if registered_version(version) is None:
        return False
    mark(stage, rolled_back_from)
    with answering():
        unmark(stage, version)
        load_mlflow().MlflowClient().set_registered_model_alias(settings().model, stage, str(version))
    return True


def mark(stage: str, rolled_back_from: dict[str, str]) -> None:
    """Mark registered versions as rolled back from: promote_model does not promote them by itself. Raises StepError."""
    client = load_mlflow().MlflowClient()
    for version, time in rolled_back_from.items():
        if registered_version(int(version)) is not None:
            with answering():
                client.set_model_version_tag(settings().model, version, _rolled_back(stage), time)


def unmark(stage: str, version: int) -> None:
    """Take the mark from a version that a person wants after all."""
    if rolled_back_at(stage, version):
        load_mlflow().MlflowClient().delete_model_version_tag(settings().model, str(version), _rolled_back(stage))


def promoted_by_hand(stage: str, version: int) -> None:
    """Note that a person gives the alias to this version now, whatever happened to it before."""
    unmark(stage, version)
    client = load_mlflow().MlflowClient()
    client.set_model_version_tag(settings().model, str(version), _promoted(stage), now())


def rolled_back_at(stage: str, version: int) -> str | None:
    """Return when a registered version was last rolled back from, None when it was not."""
    found = registered_version(version)
    return found.tags.get(_rolled_back(stage)) if found else None


def now() -> str:
    """Return the time as the tags hold it."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def registered_version(version: int) -> Any:
    """Return a version as the registry has it, None when it has not."""
    mlflow = load_mlflow()
    with answering():
        try:
            return mlflow.MlflowClient().get_model_version(settings().model, str(version))
        except mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def _time(registered: Any, tag: str) -> datetime.datetime | None:
    told = registered.tags.get(tag) if registered else None
    return datetime.datetime.fromisoformat(told) if told else None


def _rolled_back(stage: str) -> str:
    return f"rolled_back_from.{stage}"


def _promoted(stage: str) -> str:
    return f"promoted.{stage}"
