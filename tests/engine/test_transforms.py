"""The properties that hold for all transforms, and the record of provenance."""

import dataclasses
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from accelerator_engine.engine import generate
from accelerator_engine.tree import EXECUTABLE, Resource

from .running import ABC, Fragment, engine, file_at, loaded, paths, project, refused, replacing, run

# The frame


def test_a_tree_without_a_manifest_stays_unchanged() -> None:
    assert paths(None, ABC) == ABC


def test_a_manifest_without_an_engine_returns_all_other_files() -> None:
    assert paths("accelerator: {displayName: x}", ABC) == ABC


def test_an_engine_under_accelerator_is_ignored() -> None:
    assert paths("accelerator:\n  engine: {include: [a]}\n", ABC) == ABC


def test_only_the_root_manifests_are_left_out() -> None:
    files = [*ABC, "accelerator.axl", "x/accelerator.yaml", "x/accelerator.axl"]
    assert paths("engine: {include: ['**']}", files) == [*ABC, "x/accelerator.axl", "x/accelerator.yaml"]


def test_the_manifest_never_reaches_a_transform() -> None:
    assert paths(engine("type: RewritePath\nrewriteTo: \"'m/' + #g0\""), ["a"]) == ["m/a"]


def test_a_byte_order_mark_and_a_leading_document_line_are_tolerated() -> None:
    manifest = "\ufeff---\nengine: {include: [a]}\n".encode()
    assert paths(manifest, ABC) == ["a"]


def test_unknown_keys_are_ignored_everywhere() -> None:
    manifest = """
        other: 1
        accelerator: {name: x, options: [{name: a, display: true, other: [1]}], more: {}}
        engine: {name: label, nonsense: 5, include: [a], chain: [{type: Chain, x: y}]}
        """
    assert paths(manifest, ABC) == ["a"]


def test_duplicates_in_the_result_are_an_error_with_their_path() -> None:
    sentence = refused(engine("type: Merge\nsources: [{include: ['**']}, {include: [c/d]}]"), ABC)
    assert "c/d" in sentence
    assert "'a'" not in sentence


def test_paths_with_the_same_normal_form_are_duplicates() -> None:
    sentence = refused(engine("type: RewritePath\nrewriteTo: \"#g0 == 'a' ? 'x//y' : #g0\""), ["a", "x/y"])
    assert "x/y" in sentence


def test_double_slashes_collapse_when_written() -> None:
    assert paths(engine("type: RewritePath\nrewriteTo: \"'x//' + #g0\""), ["a"]) == ["x/a"]


def test_a_file_that_is_also_a_folder_is_an_error() -> None:
    sentence = refused(engine("type: RewritePath\nrewriteTo: \"#g0 == 'a' ? 'b/c' : #g0\""), ["a", "b"])
    assert "'b'" in sentence


@pytest.mark.parametrize("path", ["/a", "../a", "x/../../a", "x/..", "..", "/", "a\\0b"])
def test_a_path_outside_the_project_is_refused(path: str) -> None:
    variables = {"path": path.replace("\\0", "\0")}
    sentence = refused(engine("type: RewritePath\nrewriteTo: '#path'"), ["a"], variables)
    assert "path" in sentence


def test_a_path_with_a_lone_surrogate_is_refused() -> None:
    assert "\\ud800" in refused(engine("type: RewritePath\nrewriteTo: '#path'"), ["a"], {"path": "a\ud800"})


def test_an_unsafe_path_between_transforms_is_allowed() -> None:
    transform = """
        chain:
          - {type: RewritePath, rewriteTo: "'../' + #g0"}
          - {type: RewritePath, regex: "\\\\.\\\\./(.*)", rewriteTo: "#g1"}
        """
    assert paths(engine(transform), ABC) == ABC


# Provenance


def test_provenance_in_a_chain_adds_a_file() -> None:
    assert paths(engine("chain: [{include: [a]}, {type: Provenance}]"), ABC) == ["a", "accelerator-info.yaml"]


def test_provenance_in_a_merge_is_the_file_only() -> None:
    assert paths(engine("merge: [{include: [a]}, {type: Provenance}]"), ABC) == ["a", "accelerator-info.yaml"]
    assert paths(engine("merge: [{type: Provenance}]"), ABC) == ["accelerator-info.yaml"]


def test_provenance_can_be_the_whole_engine() -> None:
    assert paths(engine("type: Provenance"), ABC) == ["a", "accelerator-info.yaml", "b", "c/d"]


def test_provenance_records_the_options_and_the_accelerator() -> None:
    page = run(engine("type: Provenance"), [], {"projectName": "x", "flag": True, "size": 17, "list": ["a"]})
    record = yaml.safe_load(page["accelerator-info.yaml"])
    assert record["options"].items() >= {"projectName": "x", "flag": True, "size": 17, "list": ["a"]}.items()
    assert record["accelerator"]["name"] == "sample"
    assert re.fullmatch(r"[0-9a-f-]{36}", record["id"])
    assert re.match(r"\d{4}-\d\d-\d\dT", str(record["timestamp"]).replace(" ", "T"))


# Bits and bytes

EVERYTHING = {
    "Include": "{include: ['**']}",
    "Exclude": "{exclude: [nothing]}",
    "applyTo": "{applyTo: ['**'], chain: [{type: ReplaceText}]}",
    "merge": "{merge: [{include: ['**']}, {include: ['**']}]}",
    "let": "{let: [{name: n, expression: '1'}], chain: []}",
    "Loop": "{type: Loop, on: '{1, 2}', doAsChain: {type: Chain}}",
    "ReplaceText": "{type: ReplaceText, substitutions: [{text: nothing here, with: \"'x'\"}]}",
    "regex": "{type: ReplaceText, regex: {pattern: nothing here, with: \"'x'\"}}",
    "RewritePath": "{chain: [{type: RewritePath, rewriteTo: \"'x/' + #g0\"}, "
    "{type: RewritePath, regex: 'x/(.*)', rewriteTo: '#g1'}]}",
    "UseEncoding": "{type: UseEncoding, encoding: UTF-16}",
    "InvokeFragment": "{type: InvokeFragment, reference: f}",
    "Provenance": "{chain: [{type: Provenance}, {exclude: [accelerator-info.yaml]}]}",
    "NWayDiff": "{merge: [{include: ['**']}, {include: ['**']}], onConflict: NWayDiff}",
}


@pytest.mark.parametrize("transform", EVERYTHING.values(), ids=EVERYTHING)
@settings(max_examples=10)
@given(content=st.binary(max_size=40), mode=st.sampled_from([0o644, 0o755, 0o600, 0o444, 0o777, 0o400]))
def test_every_transform_keeps_permission_bits_and_bytes(transform: str, content: bytes, mode: int) -> None:
    files = {"a": Resource("a", content, mode), "d/b": Resource("d/b", content[::-1], 0o644)}
    manifest = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}}}"
    generated = project(manifest, files, {}, {"f": Fragment(None)})
    result = {file.path: (file.content, file.mode) for file in generated.files if file.path != "accelerator-log.md"}
    assert result == {"a": (content, mode), "d/b": (content[::-1], 0o644)}


def test_permission_bits_survive_a_move_and_new_contents() -> None:
    transform = {"chain": [{"type": "RewritePath", "rewriteTo": "'bin/' + #g0"}, replacing(("x", "'y'"))]}
    generated = project(engine(transform), {"mvnw": Resource("mvnw", b"x", EXECUTABLE)})
    assert dataclasses.replace(file_at(generated, "bin/mvnw"), ancestor=None) == Resource("bin/mvnw", b"y", EXECUTABLE)


def test_the_same_accelerator_can_run_twice() -> None:
    accelerator = loaded(engine(replacing(("a", "#v"))), {"x": "a"})
    assert [file_at(generate(accelerator, {"v": v}), "x").content for v in ("1", "2")] == [b"1", b"2"]


# Bounds


def test_merges_that_double_the_files_are_stopped() -> None:
    doubling = "{type: Merge, sources: [{type: Chain}, {type: Chain}]}"
    assert refused(engine(f"type: Chain\ntransformations: [{', '.join([doubling] * 60)}]"), ["a"])


def test_appending_that_doubles_a_file_is_stopped() -> None:
    doubling = "{merge: [{type: Chain}, {type: Chain}], onConflict: Append}"
    assert refused(engine(f"chain: [{', '.join([doubling] * 60)}]"), {"a": "x" * 1000})


def test_replacements_that_let_a_file_grow_are_stopped() -> None:
    growing = replacing(("x", "'x'.repeat(1000)"))
    assert refused(engine({"chain": [growing] * 60}), {"a": "x" * 10})


def test_loops_within_loops_are_stopped() -> None:
    body = "{type: Chain}"
    for _ in range(8):
        body = f"{{type: Loop, on: '#list', doAsChain: {body}}}"
    assert refused(f"engine: {body}", ["a"], {"list": list(range(50))})
