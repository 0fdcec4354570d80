"""A DataHub source: the model's lineage, from packed rows over training run and model version to SQL functions.

The facts come from MLflow's registry and from both databases. Runs, versions and the registered model have the same
names as in DataHub's own MLflow source, so that both describe the same entities.
"""

# DataHub's package is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

import datetime
from collections.abc import Iterable
from typing import Any

import datahub.emitter.mce_builder as builder
import names
from datahub.api.entities.dataprocess.dataprocess_instance import DataProcessInstance, InstanceRunResult
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.ingestion.api.common import PipelineContext
from datahub.ingestion.api.decorators import config_class, platform_name
from datahub.ingestion.api.source import Source, SourceReport
from datahub.ingestion.api.workunit import MetadataWorkUnit
from datahub.metadata.schema_classes import (
    AuditStampClass,
    DataPlatformInstanceClass,
    DataProcessInstanceInputClass,
    DataProcessInstanceOutputClass,
    DataProcessInstancePropertiesClass,
    EdgeClass,
    GlobalTagsClass,
    MLHyperParamClass,
    MLMetricClass,
    MLTrainingRunPropertiesClass,
    OwnerClass,
    OwnershipClass,
    OwnershipTypeClass,
    SubTypesClass,
    TagAssociationClass,
    _Aspect,
)
from datahub.sdk import DataFlow, DataJob, MLModel, MLModelGroup
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipeline.databases import query, session
from pipeline.errors import StepError
from pipeline.settings import settings
from pipeline.tracking import answering

MLFLOW = "mlflow"
# The tables that the inference functions read and write.
READ, WRITTEN = ("model_alias", "model_version"), ("prediction_log",)
# Of two functions with the same name the later one counts: it takes the rows of a table.
FUNCTIONS = """
SELECT DISTINCT ON (proname) proname, pg_get_function_identity_arguments(oid), obj_description(oid, 'pg_proc')
FROM pg_proc
WHERE
    pronamespace = %s::regnamespace
    AND proname ~ '^(predict|run_inference)'
    AND has_function_privilege(oid, 'EXECUTE')
ORDER BY proname, oid DESC
"""


@platform_name("In-database model", id=MLFLOW)
@config_class(names.ProjectConfig)
class ModelLineage(Source):
    """Describes the registered versions, their training runs and the SQL functions that predict with them."""

    def __init__(self, config: names.ProjectConfig, context: PipelineContext) -> None:
        super().__init__(context)
        self.config = config
        self.report = SourceReport()

    @classmethod
    def create(cls, config_dict: dict[str, Any], ctx: PipelineContext) -> "ModelLineage":
        """Return the source for a recipe's configuration."""
        return cls(names.ProjectConfig.model_validate(config_dict), ctx)

    def get_workunits_internal(self) -> Iterable[MetadataWorkUnit]:
        """Yield functions, registered model, and each version with its run; report a StepError as a failure."""
        try:
            yield from self._workunits()
        except StepError as error:
            self.report.failure(title="No lineage", message="The model's lineage is not known", context=str(error))

    def _workunits(self) -> Iterable[MetadataWorkUnit]:
        client = MlflowClient()
        with answering():
            versions = list(client.search_model_versions(f"name = '{settings().model}'"))
            if not versions:
                raise StepError(f"MLflow knows no version of {settings().model} yet: run `make pipeline`")
            # The search returns no aliases.
            registered = client.get_registered_model(settings().model)
            runs = {version.version: client.get_run(_training_run(version)) for version in versions}
        flow, jobs = self._functions()
        yield from flow.as_workunits()
        for job in jobs:
            yield from job.as_workunits()
        group = MLModelGroup(
            id=registered.name,
            platform=MLFLOW,
            env=self.config.env,
            description=registered.description or settings().description,
            owners=[names.owner()],
            tags=names.tags(self.config.tags),
        )
        yield from group.as_workunits()
        served = _served()
        for version in versions:
            run = runs[version.version]
            aliases = [alias for alias, number in registered.aliases.items() if str(number) == str(version.version)]
            answering_jobs = [str(job.urn) for job in jobs] if int(version.version) in served else []
            model = self._version(version, run, group, aliases, answering_jobs)
            yield from self._run(run, str(model.urn))
            yield from model.as_workunits()

    def _functions(self) -> tuple[DataFlow, list[DataJob]]:
        """Return the inference database's functions that predict with a model and that the app's role may call."""
        connection = session(names.ROLES["inference"])
        with connection:
            rows = query(connection, FUNCTIONS, (f'"{settings().schema}"',))
        flow = DataFlow(
            name=f"{connection.info.dbname}.{settings().schema}",
            platform=names.PLATFORM,
            platform_instance=names.instance("inference"),
            env=self.config.env,
            display_name=f"functions of {settings().schema}",
            owners=[names.owner()],
            tags=names.tags(["inference", *self.config.tags]),
        )
        jobs = [
            DataJob(
                name=name,
                flow=flow,
                display_name=f"{name}({arguments})",
                description=comment or f"Predicts with the version that holds the stage: {name}({arguments})",
                subtype="Function",
                owners=[names.owner()],
                tags=names.tags(["inference", *self.config.tags]),
                inlets=[names.table("inference", table, self.config.env) for table in READ],
                outlets=[names.table("inference", table, self.config.env) for table in WRITTEN]
                if name == "run_inference_task"
                else [],
            )
            for name, arguments, comment in rows
        ]
        return flow, jobs

    def _version(
        self, version: ModelVersion, run: Run, group: MLModelGroup, aliases: list[str], answering_jobs: list[str]
    ) -> MLModel:
        return MLModel(
            id=f"{version.name}_{version.version}",
            platform=MLFLOW,
            version=str(version.version),
            aliases=aliases,
            env=self.config.env,
            name=f"{version.name} {version.version}",
            description=version.description or settings().description,
            hyper_params={name: str(value) for name, value in run.data.params.items()},
            training_metrics={name: str(value) for name, value in run.data.metrics.items()},
            custom_properties=dict(version.tags),
            created=_moment(version.creation_timestamp),
            owners=[names.owner()],
            tags=names.tags([*aliases, *self.config.tags]),
            model_group=str(group.urn),
            training_jobs=[_run_urn(run)],
            downstream_jobs=answering_jobs,
        )

    def _run(self, run: Run, model: str) -> Iterable[MetadataWorkUnit]:
        """Yield a training run, which consumes the packed rows and produces the version."""
        for aspect in self._run_aspects(run, model):
            yield MetadataChangeProposalWrapper(entityUrn=_run_urn(run), aspect=aspect).as_workunit()
        instance = _instance(run)
        for event in instance.start_event_mcp(run.info.start_time):
            yield event.as_workunit()
        if run.info.end_time:
            result = InstanceRunResult.SUCCESS if run.info.status == "FINISHED" else InstanceRunResult.FAILURE
            for event in instance.end_event_mcp(run.info.end_time, result, result_type=MLFLOW):
                yield event.as_workunit()

    def _run_aspects(self, run: Run, model: str) -> list[_Aspect]:
        started = AuditStampClass(time=run.info.start_time, actor=names.owner())
        rows = names.table("training", "dataset_batch", self.config.env)
        return [
            DataProcessInstancePropertiesClass(
                name=run.info.run_name or run.info.run_id,
                created=started,
                customProperties={
                    name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")
                },
            ),
            DataPlatformInstanceClass(platform=builder.make_data_platform_urn(MLFLOW)),
            SubTypesClass(typeNames=["ML Training Run"]),
            DataProcessInstanceInputClass(inputs=[rows], inputEdges=[EdgeClass(destinationUrn=rows)]),
            DataProcessInstanceOutputClass(outputs=[model], outputEdges=[EdgeClass(destinationUrn=model)]),
            MLTrainingRunPropertiesClass(
                id=run.info.run_id,
                hyperParams=[MLHyperParamClass(name=name, value=str(value)) for name, value in run.data.params.items()],
                trainingMetrics=[
                    MLMetricClass(name=name, value=str(value)) for name, value in run.data.metrics.items()
                ],
            ),
            GlobalTagsClass([TagAssociationClass(urn) for urn in names.tags(["training", *self.config.tags])]),
            OwnershipClass([OwnerClass(owner=names.owner(), type=OwnershipTypeClass.TECHNICAL_OWNER)]),
        ]

    def get_report(self) -> SourceReport:
        """Return the report that DataHub prints at the end."""
        return self.report


def _instance(run: Run) -> DataProcessInstance:
    return DataProcessInstance(id=run.info.run_id, orchestrator=MLFLOW)


def _run_urn(run: Run) -> str:
    return str(_instance(run).urn)


def _training_run(version: ModelVersion) -> str:
    """Return the id of the MLflow run that trained a version. Raises StepError.

    The version's own run is the parent of all steps of the training. The training database stores the run of the
    training alone under the hash in the version's tag.
    """
    connection = session(names.ROLES["training"])
    statement = "SELECT mlflow_run FROM {schema}.training_run WHERE run_hash = %s"
    with connection:
        rows = query(connection, statement, (version.tags.get("run_hash"),))
    # A version trained in another database, or registered by a person, has no row.
    run_id = (rows[0][0] if rows else None) or version.run_id
    if run_id is None:
        raise StepError(f"MLflow names no run for version {version.version} of {version.name}")
    return str(run_id)


def _served() -> set[int]:
    """Return the versions that hold a stage in the inference database."""
    connection = session(names.ROLES["inference"])
    with connection:
        return {int(number) for (number,) in query(connection, "SELECT version FROM {schema}.model_info")}


def _moment(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
