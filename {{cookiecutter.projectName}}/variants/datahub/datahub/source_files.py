"""A DataHub source: the files that the data set comes from, and their lineage to the packed rows."""

# DataHub's package is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

import csv
import datetime
import gzip
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Any

import names
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.ingestion.api.common import PipelineContext
from datahub.ingestion.api.decorators import config_class, platform_name
from datahub.ingestion.api.source import Source, SourceReport
from datahub.ingestion.api.workunit import MetadataWorkUnit
from datahub.metadata.schema_classes import DatasetLineageTypeClass, UpstreamClass, UpstreamLineageClass
from datahub.sdk import Dataset

from pipeline.settings import ROOT, settings

CHUNK = 1 << 20


class SourceFilesConfig(names.ProjectConfig):
    """Configuration of the source: glob patterns relative to the project's folder."""

    paths: list[str]


@platform_name("Source files", id="file")
@config_class(SourceFilesConfig)
class SourceFiles(Source):
    """Describes each file by its size, its hash and the columns of a CSV file."""

    def __init__(self, config: SourceFilesConfig, context: PipelineContext) -> None:
        super().__init__(context)
        self.config = config
        self.report = SourceReport()

    @classmethod
    def create(cls, config_dict: dict[str, Any], ctx: PipelineContext) -> "SourceFiles":
        """Return the source for a recipe's configuration."""
        return cls(SourceFilesConfig.model_validate(config_dict), ctx)

    def get_workunits_internal(self) -> Iterable[MetadataWorkUnit]:
        """Yield the files, then the lineage of the packed rows: from these files, or from project.yaml's table."""
        files = [self._file(path) for path in self._paths()]
        for file in files:
            yield from file.as_workunits()
        origins = [str(file.urn) for file in files]
        source = getattr(settings(), "source", None)
        if source is not None:
            origins = [names.table("training", source.table, self.config.env, source.schema)]
        if origins:
            upstreams = [UpstreamClass(dataset=urn, type=DatasetLineageTypeClass.TRANSFORMED) for urn in origins]
            yield MetadataChangeProposalWrapper(
                entityUrn=names.table("training", "dataset_batch", self.config.env),
                aspect=UpstreamLineageClass(upstreams=upstreams),
            ).as_workunit()

    def _paths(self) -> list[pathlib.Path]:
        matches = {
            pattern: sorted(path for path in ROOT.glob(pattern) if path.is_file()) for pattern in self.config.paths
        }
        for pattern in [pattern for pattern, paths in matches.items() if not paths]:
            self.report.info(title="No such file", message="A pattern matches no file of the project", context=pattern)
        return list(dict.fromkeys(path for paths in matches.values() for path in paths))

    def _file(self, path: pathlib.Path) -> Dataset:
        name = path.relative_to(ROOT).as_posix()
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        status = path.stat()
        return Dataset(
            platform="file",
            name=f"{settings().project_name}/{name}",
            env=self.config.env,
            display_name=name,
            custom_properties={"bytes": str(status.st_size), "sha256": digest.hexdigest()},
            last_modified=datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC),
            schema=[(column, "string") for column in columns(path)] or None,
            owners=[names.owner()],
            tags=names.tags(self.config.tags),
        )

    def get_report(self) -> SourceReport:
        """Return the report that DataHub prints at the end."""
        return self.report


def columns(path: pathlib.Path) -> list[str]:
    """Return the first line of a CSV file, compressed or not; an empty list for other files."""
    if not path.name.endswith((".csv", ".csv.gz")):
        return []
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])
