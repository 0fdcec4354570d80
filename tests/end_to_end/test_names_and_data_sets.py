"""A project named after a reserved word of SQL and Python, and a project on CIFAR-10."""

import re

from .conftest import RESERVED_WORD
from .project import Project, chain, step_lines


def test_from_the_first_step_to_a_prediction(named_projects: dict[str, tuple[Project, str]]) -> None:
    """A project of this name runs all steps, with one epoch, and predicts."""
    project, output = named_projects[RESERVED_WORD]
    assert step_lines(output, chain(project)) == chain(project)
    assert f"model {RESERVED_WORD}, version 1, stage staging" in output
    assert re.search(r"^an image it had never seen: predicted \w+, true \w+$", output, re.MULTILINE)


def test_projects_are_separate(named_projects: dict[str, tuple[Project, str]]) -> None:
    """Projects on the same servers have separate schemas and roles."""
    names = {project.schema for project, _ in named_projects.values()}
    project, _ = named_projects[RESERVED_WORD]
    with project.database("training-deployer") as database:
        owners = database.query(
            "SELECT nspname, array_agg(DISTINCT rolname::text) FROM pg_class "
            "JOIN pg_namespace n ON relnamespace = n.oid JOIN pg_roles r ON relowner = r.oid "
            "WHERE nspname = ANY(%s) AND relkind = 'r' AND relname NOT LIKE 'databasechangelog%%' GROUP BY nspname",
            (list(names),),
        )
    assert dict(owners) == {name: [f"{name}_owner"] for name in names}


def test_cifar10(named_projects: dict[str, tuple[Project, str]]) -> None:
    """50,200 colour images in the file format of CIFAR-10 are packed, trained on and predicted, offline."""
    project, output = named_projects["cifar"]
    assert step_lines(output, chain(project)) == chain(project)
    with project.database("trainer") as database:
        rows, shape = database.query(
            "SELECT (SELECT sum(row_count) FROM {schema}.dataset_batch), shape FROM {schema}.dataset"
        )[0]
        image = database.value(
            "SELECT substr(features, 1, 3072) FROM {schema}.dataset_batch WHERE split = 'holdout' LIMIT 1"
        )
    assert (rows, shape) == (50200, "32,32,3")
    with project.database("inference-app") as app:
        answer = app.value("SELECT {schema}.run_inference_task(%s, 'cifar', 'staging')", (image,))
        classes = app.value("SELECT classes FROM {schema}.model_info")
    assert answer["label"] in classes
    assert len(classes) == len(answer["probabilities"]) == 10
