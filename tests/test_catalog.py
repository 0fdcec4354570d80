"""The catalog files of a generated project, checked by Backstage's own validators, and its documentation."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, in_body
from tools.backstage.scaffolder import Scaffolder
from tools.doors import accelerator

# Node and Backstage take some seconds to start.
pytestmark = pytest.mark.slow
LONGEST = "a-name-that-is-as-long-as-a-name-may-be1"
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "elsewhere": {"namespace": "machine-learning", "owner": "team-a"},
    "longest": {"projectName": LONGEST, "appPlatform": "kubernetes"},
    "postgresql": {"trainingDatabase": "postgresql"},
    "no-page": {"includeUi": False},
    "kubeflow": {"orchestrator": "kubeflow"},
}


@pytest.fixture(name="projects", scope="module")
def _projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One project per variant, generated in this process; test_parity.py proves that cookiecutter's are the same."""
    folders = {}
    for name, answers in VARIANTS.items():
        result = accelerator(ROOT, answers, tmp_path_factory.mktemp(name) / "output")
        assert result.folder, result.refusal
        folders[name] = result.folder
    return folders


def named(entities: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the entities by kind and name."""
    return {f"{entity['kind']} {entity['metadata']['name']}": entity for entity in entities}


@pytest.mark.parametrize("variant", VARIANTS)
def test_backstage_accepts_every_entity(scaffolder: Scaffolder, projects: dict[str, Path], variant: str) -> None:
    """Every entity is valid, and every name in it refers to another entity."""
    answers = {"projectName": "image-classifier", "includeUi": True, "owner": "ml-team", "namespace": "ml"}
    answers |= VARIANTS[variant]
    entities, messages = scaffolder.catalog(projects[variant] / "catalog-info.yaml")
    assert messages == []
    project = answers["projectName"]
    page = {f"Component {project}-ui"} if answers["includeUi"] else set()
    assert set(named(entities)) == page | {
        f"Location {project}",
        f"Location {project}-ui",
        f"System {project}",
        f"Component {project}-api",
        f"Component {project}-pipeline",
        f"API {project}-predictions",
        f"Resource {project}-training-db",
        f"Resource {project}-inference-db",
    }
    for entity in (entity for entity in entities if entity["kind"] != "Location"):
        assert entity["spec"]["owner"] == answers["owner"]
        assert entity["kind"] == "System" or entity["spec"]["system"] == project
    for entity in (entity for entity in entities if entity["kind"] == "Component"):
        annotations = entity["metadata"]["annotations"]
        assert annotations["backstage.io/kubernetes-namespace"] == answers["namespace"]
        assert annotations["backstage.io/kubernetes-label-selector"] == f"app.kubernetes.io/part-of={project}"


def test_the_pipeline_is_shown_by_its_orchestrator(scaffolder: Scaffolder, projects: dict[str, Path]) -> None:
    """The Argo plugin finds runs by the project's label; with Kubeflow there is no annotation of Argo."""
    for variant, wanted in (("default", "argo"), ("kubeflow", "kubeflow")):
        entities, _ = scaffolder.catalog(projects[variant] / "catalog-info.yaml")
        metadata = named(entities)["Component image-classifier-pipeline"]["metadata"]
        assert wanted in metadata["tags"]
        of_argo = {name: value for name, value in metadata["annotations"].items() if "argo" in name}
        selector = {"argo-workflows.cnoe.io/label-selector": "app.kubernetes.io/part-of=image-classifier"}
        assert of_argo == (selector if wanted == "argo" else {})
    assert "argo" not in "".join(path.read_text(encoding="utf-8") for path in projects["kubeflow"].glob("catalog-*"))


def test_the_two_pipeline_files_differ_only_in_tag_and_annotation() -> None:
    argo, kubeflow = (
        in_body("catalog-pipeline.yaml", name).read_text(encoding="utf-8") for name in ("argo", "kubeflow")
    )
    assert kubeflow == re.sub(r"\n +argo-workflows.*", "", argo).replace("[argo,", "[kubeflow,")


def test_databases_are_tagged_with_the_type_of_their_binding(scaffolder: Scaffolder, projects: dict[str, Path]) -> None:
    for variant, training in (("default", "greenplum"), ("postgresql", "postgresql")):
        entities, _ = scaffolder.catalog(projects[variant] / "catalog-info.yaml")
        by_name = named(entities)
        tags = [
            by_name[f"Resource image-classifier-{role}-db"]["metadata"]["tags"] for role in ("training", "inference")
        ]
        assert tags == [[f"servicebinding:type:{training}"], ["servicebinding:type:postgresql"]]


def test_the_definition_of_the_api_is_the_apps(scaffolder: Scaffolder, projects: dict[str, Path]) -> None:
    """The catalog shows app/openapi.json."""
    entities, _ = scaffolder.catalog(projects["default"] / "catalog-info.yaml")
    definition = named(entities)["API image-classifier-predictions"]["spec"]["definition"]
    assert definition == (projects["default"] / "app" / "openapi.json").read_text(encoding="utf-8")


BREAKS: dict[str, tuple[Callable[[str], str], str]] = {
    "a reference to no entity": (lambda text: text.replace("-inference-db']", "-served-db']"), "is not there"),
    "an invalid tag": (lambda text: text.replace("[fastapi,", "[Fast_API,"), "tags.0"),
    "an entity without an owner": (lambda text: re.sub(r"\n  owner: .*", "", text), "owner"),
    "a missing definition": (lambda text: text.replace("openapi.json", "api.json"), "api.json"),
    "a missing part": (lambda text: text.replace("catalog-pipeline", "catalog-pipes"), "catalog-pipes.yaml"),
    "a page that is not optional": (lambda text: text.replace("  presence: optional\n", ""), "catalog-ui.yaml"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_backstage_refuses_a_broken_catalog(
    scaffolder: Scaffolder, projects: dict[str, Path], case: str, tmp_path: Path
) -> None:
    """So the tests above would fail."""
    project = projects["no-page"]
    change, reason = BREAKS[case]
    text = (project / "catalog-info.yaml").read_text(encoding="utf-8")
    assert change(text) != text
    (tmp_path / "catalog-info.yaml").write_text(change(text), encoding="utf-8")
    for name in ("app", "catalog-pipeline.yaml"):
        (tmp_path / name).symlink_to(project / name)
    _, messages = scaffolder.catalog(tmp_path / "catalog-info.yaml")
    assert any(reason in message for message in messages), messages


def test_the_documentation_is_complete(projects: dict[str, Path]) -> None:
    """TechDocs finds the pages and an index, every link leads to a file, and every page is linked."""
    project = projects["default"].resolve()
    settings = yaml.safe_load((project / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["site_name"] == "image-classifier"
    assert "techdocs-core" in settings["plugins"]
    pages = sorted((project / settings["docs_dir"]).rglob("*.md"))
    assert project / settings["docs_dir"] / "index.md" in pages
    linked = set()
    for page in pages:
        links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).is_file()] == [], page
        linked |= {(page.parent / link).resolve() for link in links}
    assert set(pages) - linked == {project / settings["docs_dir"] / "index.md"}


def test_the_catalog_contains_no_address() -> None:
    """It names no database, and not the repository: the catalog knows where it read the file."""
    files = [in_body(name) for name in ("catalog-info.yaml", "catalog-ui.yaml", "mkdocs.yml")]
    for path in [*files, *(in_body("catalog-pipeline.yaml", name) for name in ("argo", "kubeflow"))]:
        assert "://" not in path.read_text(encoding="utf-8"), path
