"""Secrets and settings of the compiled pipelines."""

from pathlib import Path

import pytest
from tools.manifests import CHOSEN, PRODUCTION, ROLES, VALUES, deployed, merged, of_kind

from .pipelines import compiled

pytestmark = pytest.mark.slow


def test_no_secret_is_written(project: Path, tmp_path: Path) -> None:
    """They are referenced by name: as volumes, and as variables for git and MLflow."""
    more = {
        "git": {"secret": "repository"}, "imagePullSecret": "registry", "secrets": {"trainer": "other"},
        "training": {"mlflow": {"secret": "tracking"}},
    }  # fmt: skip
    pipeline = compiled(project, tmp_path, "train", more=more)
    pod = pipeline.pod("train-model")
    assert [entry["secretName"] for entry in pod["imagePullSecret"]] == ["registry"]
    variables = {entry["secretName"]: {key["envVar"] for key in entry["keyToEnv"]} for entry in pod["secretAsEnv"]}
    assert variables == {
        "repository": {"GIT_USERNAME", "GIT_PASSWORD"},
        "tracking": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    }
    assert "other" in {volume["secretName"] for volume in pod["secretAsVolume"]}
    assert "secretAsVolume" not in pipeline.pod("fetch-git-revision")
    for executor in pipeline.executors.values():
        assert "password" not in " ".join(executor["container"]["args"])


def test_where_a_secret_lacks_the_address_the_step_lays_both_together(project: Path, tmp_path: Path) -> None:
    """The result equals Argo's projected volume."""
    pipeline = compiled(project, tmp_path, "train", more={"credentials": "kubernetes-secret"})
    pod = pipeline.pod("train-model")
    assert {volume["mountPath"] for volume in pod["secretAsVolume"]} == {f"/credentials/{role}" for role in ROLES}
    maps = {volume["mountPath"]: volume["configMapName"] for volume in pod["configMapAsVolume"]}
    assert maps == {f"/addresses/{role}": f"image-classifier-{role}-db" for role in ROLES}
    volumes = [volume["secretName"] for volume in pod["secretAsVolume"]] + list(maps.values())
    assert len(set(volumes)) == len(volumes) == 2 * len(ROLES)
    rendered = of_kind(deployed(project, more=merged(CHOSEN, {"credentials": "kubernetes-secret"})), "ConfigMap")
    assert {manifest["metadata"]["name"] for manifest in rendered} == set(maps.values())


def test_a_second_environment_is_another_pipeline(project: Path, tmp_path: Path) -> None:
    pipeline = compiled(project, tmp_path, "train", VALUES, PRODUCTION)
    stages = {
        variable["value"]
        for executor in pipeline.executors.values()
        for variable in executor["container"]["env"]
        if variable["name"] == "MODEL_STAGE"
    }
    assert stages == {"production"}
