"""Whatever MLflow returns as metadata of a version is checked before anything uses it."""

import copy
import datetime
import pathlib
import types

import pytest
import yaml

from pipeline.errors import StepError
from pipeline.registry import model_metadata, registered_versions

METADATA = {
    "classes": ["a", "b"],
    "input_shape": [8, 8, 1],
    "input_dtype": "uint8",
    "metrics": {"accuracy_score": 0.5, "confusion_matrix": [[1, 0], [1, 0]]},
    "training_statistics": {
        "rows": 2,
        "class_counts": [1, 1],
        "inputs": [{"statistic": "mean", "edges": [0.5], "counts": [1, 1], "minimum": 0.0}],
        "pixels": {"minimum": 0, "maximum": 255.0, "whole": True, "channels": "RGB"},
    },
    "data_hash": "0a" * 32,
    "git_commit": "uncommitted",
    "more": {"of": "a person"},
}
RECURSIVE: list[object] = []
RECURSIVE.append(RECURSIVE)
DEEP: object = []
for _ in range(5000):
    DEEP = [DEEP]


def with_part(place: str, value: object) -> dict:
    """Return the metadata with another value at a place such as `metrics.accuracy_score`."""
    changed = copy.deepcopy(METADATA)
    *parents, last = place.split(".")
    part = changed
    for name in parents:
        part = part[name]
    part[last] = value
    return changed


def test_metadata_comes_back_unchanged() -> None:
    assert model_metadata.checked(METADATA, "version 1") == METADATA


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("classes", {"a": "b"}, "classes in its metadata is wrong"),
        ("classes", ["a", 1], "classes.1 in its metadata is wrong"),
        ("classes", ["a"], "classes in its metadata"),
        ("input_shape", ["8", 8, 1], "input_shape.0"),
        ("input_shape", [8, 0, 1], "input_shape.1"),
        ("input_dtype", ["uint8"], "input_dtype"),
        ("input_dtype", "O", "input_dtype"),
        ("metrics", "x<script>", "metrics in its metadata"),
        ("metrics.loss", float("nan"), "its metadata is not valid JSON"),
        ("training_statistics", [], "training_statistics in its metadata"),
        ("training_statistics.rows", True, "training_statistics.rows"),
        ("training_statistics.inputs", [{}], "training_statistics.inputs.0.statistic"),
        ("training_statistics.pixels", {"minimum": "0"}, "training_statistics.pixels.minimum"),
        ("git_commit", "a\0b", "has the character NUL"),
        ("git_commit", "\x1b[31m", "git_commit"),
        ("data_hash", "'; DROP", "data_hash"),
        ("more", "\ud800", "its metadata is not valid JSON"),
        ("more", datetime.date(2026, 1, 1), "its metadata is not valid JSON"),
        ("more", b"bytes", "its metadata is not valid JSON"),
        ("more", {1: "a", "b": 2}, "its metadata is not valid JSON"),
        ("more", RECURSIVE, "its metadata is not valid JSON"),
        ("more", DEEP, "its metadata is not valid JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() else "",
)
def test_other_metadata_is_refused(place: str, value: object, message: str) -> None:
    with pytest.raises(StepError) as refused:
        model_metadata.checked(with_part(place, value) if value is not DEEP else {**METADATA, place: DEEP}, "version 1")
    assert str(refused.value).startswith("version 1 cannot be served: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("metadata", [None, [], "text", {}])
def test_metadata_must_be_a_mapping(metadata: object) -> None:
    with pytest.raises(StepError, match="cannot be served"):
        model_metadata.checked(metadata, "version 1")


def describe(**changed: object) -> str:
    return yaml.safe_dump({"flavors": {"onnx": {"data": "model.onnx"}}, "metadata": METADATA, **changed})


ALIASES = "a: &a [1, 1]\nb: [*a, *a]\n"


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("", "does not describe a model"),
        ("[1]", "does not describe a model"),
        ("a: [", "is not plain YAML"),
        (ALIASES, "is not plain YAML"),
        ("a: !!python/object/apply:os.getpid []", "is not plain YAML"),
        ("\udcff", "is not plain YAML"),
        ("[" * 10**6, "is not plain YAML"),
        (describe(flavors=[]), "is not an ONNX model"),
        (describe(flavors={"onnx": "x"}), "is not an ONNX model"),
        (describe(flavors={"onnx": {"data": ["x"]}}), "is not an ONNX model"),
        (describe(flavors={"onnx": {"data": "/dev/zero"}}), "it has no file '/dev/zero'"),
        (describe(flavors={"onnx": {"data": "../MLmodel"}}), "it has no file '../MLmodel'"),
        (describe(flavors={"onnx": {"data": "link"}}), "it has no file 'link'"),
        (describe(flavors={"onnx": {"data": "."}}), "it has no file '.'"),
        (describe(flavors={"onnx": {"data": "missing"}}), "it has no file 'missing'"),
        (describe(metadata=[]), "cannot be served"),
        (describe(), "its file is not an ONNX file"),
        (None, "it has no file 'MLmodel'"),
    ],
)
def test_a_hostile_description_is_one_sentence(tmp_path, monkeypatch, description: str | None, message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if description is not None:
        (folder / "MLmodel").write_bytes(description.encode(errors="surrogateescape"))
    (folder / "model.onnx").write_bytes(b"no model")
    (folder / "link").symlink_to("/etc/passwd")
    artifacts = types.SimpleNamespace(download_artifacts=lambda **_: str(folder))
    monkeypatch.setattr(registered_versions, "load_mlflow", lambda: types.SimpleNamespace(artifacts=artifacts))
    registered = types.SimpleNamespace(name="m", version="3", run_id="r", tags={})
    with pytest.raises(StepError) as refused:
        registered_versions.download(registered)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_large_file_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(StepError, match="has 5 bytes; at most 4 are allowed"):
        registered_versions._content(tmp_path, "large", 4, "version 1")


@pytest.mark.parametrize("tag", ["", "a\0b", "A" * 64, "0" * 63])
def test_a_tag_that_is_no_hash_names_no_training(tag: str) -> None:
    assert registered_versions.tagged_run_hash(types.SimpleNamespace(tags={"run_hash": tag})) == ""
    assert registered_versions.tagged_run_hash(types.SimpleNamespace(tags={})) == ""
