"""What DataHub calls the project's tables and owner: the same as in the recipes of the databases."""

# This folder is no package with an __init__.py: the package datahub, DataHub's own, then comes first wherever the
# project's folder is looked through for modules.

import datahub.emitter.mce_builder as builder
from datahub.configuration.common import ConfigModel
from pydantic import Field

from pipeline.databases import binding
from pipeline.settings import settings

# The binding of each database.
ROLES = {"training": "trainer", "inference": "inference-app"}
PLATFORM = "postgres"


class ProjectConfig(ConfigModel):
    """What a recipe may say of every source of this project: DataHub's fabric, and names of tags."""

    env: str = builder.DEFAULT_ENV
    tags: list[str] = Field(default_factory=list)


def instance(database: str) -> str:
    """Return the platform instance of the training or inference database."""
    return f"{settings().project_name}-{database}"


def table(database: str, name: str, env: str, schema: str = "") -> str:
    """Return the urn of a table or view, of the project's schema where no other is named."""
    full = f"{binding(ROLES[database]).database}.{schema or settings().schema}.{name}"
    return builder.make_dataset_urn_with_platform_instance(PLATFORM, full, instance(database), env)


def owner() -> str:
    """Return the urn of the project's owner."""
    return builder.make_group_urn(settings().owner)


def tags(names: list[str]) -> list[str]:
    """Return the urns of tags."""
    return [builder.make_tag_urn(name) for name in names]
