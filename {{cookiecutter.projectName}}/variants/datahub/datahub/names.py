"""DataHub's names of the project's tables, tags and owner, the same as in the recipes of the databases."""

# DataHub's package is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

# This folder has no __init__.py: Python then prefers DataHub's own package `datahub` where both are on the path.

import datahub.emitter.mce_builder as builder
from datahub.configuration.common import ConfigModel
from pydantic import Field

from pipeline.databases import binding
from pipeline.settings import settings

# The binding of each database.
ROLES = {"training": "trainer", "inference": "inference-app"}
PLATFORM = "postgres"


class ProjectConfig(ConfigModel):
    """Configuration that a recipe may set for every source of this project: DataHub's fabric, and names of tags."""

    env: str = builder.DEFAULT_ENV
    tags: list[str] = Field(default_factory=list)


def instance(database: str) -> str:
    """Return the platform instance of the training or inference database."""
    return f"{settings().project_name}-{database}"


def table(database: str, name: str, env: str, schema: str = "") -> str:
    """Return the urn of a table or view; the project's schema is the default."""
    full = f"{binding(ROLES[database]).database}.{schema or settings().schema}.{name}"
    urn: str = builder.make_dataset_urn_with_platform_instance(PLATFORM, full, instance(database), env)
    return urn


def owner() -> str:
    """Return the urn of the project's owner."""
    urn: str = builder.make_group_urn(settings().owner)
    return urn


def tags(names: list[str]) -> list[str]:
    """Return the urns of tags."""
    return [builder.make_tag_urn(name) for name in names]
