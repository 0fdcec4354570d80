"""Wrong values and missing keys in a manifest: each run ends with a project or one sentence."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accelerator_engine.manifest import InvalidManifest

from .mistakes import JUNK, LEAVES, QUICK, VALID, outcome
from .running import Fragment, loaded, refused, sentence


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the places of all values within data."""
    yield at
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in children:
        yield from places(value, (*at, key))


def changed(data: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of data with another value at a place."""
    if not at:
        return value
    result = copy.deepcopy(data)
    parent = result
    for key in at[:-1]:
        parent = parent[key]
    parent[at[-1]] = value
    return result


def dropped(data: Any, at: tuple[Any, ...]) -> Any:
    result = copy.deepcopy(data)
    parent = result
    for key in at[:-1]:
        parent = parent[key]
    del parent[at[-1]]
    return result


PLACES = list(places(VALID))
# The same in small pieces, which are read fast: the accelerator, the engine without transforms, each transform.
FRAME = {"imports": [{"name": "f"}], "options": [{"name": "list", "defaultValue": ["p"], "dataType": ["string"]}]}
ENGINE = VALID["engine"]
PIECES = [
    {"accelerator": VALID["accelerator"], "engine": {"type": "Chain"}},
    {"engine": {**ENGINE, "merge": [{"type": "Chain"}], "chain": [{"type": "ReplaceText"}]}},
    *({"accelerator": FRAME, "engine": {**transform, "condition": "true"}} for transform in ENGINE["merge"]),
    *({"accelerator": FRAME, "engine": {"condition": "true", **transform}} for transform in ENGINE["chain"]),
]
IDS = [piece["engine"].get("type", "Combo") for piece in PIECES]


def test_the_manifest_without_changes_is_valid() -> None:
    assert outcome(json.dumps(VALID)) == "project"


@pytest.mark.parametrize("piece", PIECES, ids=IDS)
def test_a_wrong_value_causes_one_sentence(piece: dict[str, Any]) -> None:
    """Each place gets a twelfth of the junk values."""
    for number, at in enumerate(places(piece)):
        for value in JUNK[number % 12 :: 12]:
            outcome(json.dumps(changed(piece, at, value)))


@pytest.mark.parametrize("piece", PIECES, ids=IDS)
def test_a_missing_value_causes_one_sentence(piece: dict[str, Any]) -> None:
    for at in list(places(piece))[1:]:
        outcome(json.dumps(dropped(piece, at)))


KEYS = st.sampled_from(sorted({str(at[-1]) for at in PLACES[1:] if not isinstance(at[-1], int)})) | st.text(max_size=3)
KINDS = st.sampled_from(["Combo", "Chain", "Merge", "Let", "Loop", "InvokeFragment", "UniquePath", "RewritePath"])
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.builds(lambda kind, more: {"type": kind, **more}, KINDS, st.dictionaries(KEYS, inner, max_size=3))
    ),
    max_leaves=25,
)


@QUICK
@given(DOCUMENTS, DOCUMENTS)
def test_any_document_is_a_project_or_a_sentence(accelerator: Any, engine: Any) -> None:
    outcome(json.dumps(accelerator))
    outcome(json.dumps({"accelerator": accelerator, "engine": engine}))
    outcome(json.dumps({**VALID, "engine": engine}))


@QUICK
@given(st.lists(st.tuples(st.sampled_from(PLACES[1:]), DOCUMENTS), min_size=1, max_size=3))
def test_a_manifest_with_several_mistakes_is_a_project_or_a_sentence(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    manifest = VALID
    for at, value in changes:
        if at in list(places(manifest)):
            manifest = changed(manifest, at, value)
    outcome(json.dumps(manifest))


SOURCE = """\
accelerator:
  options:
    - &one {name: one, defaultValue: x}
    - <<: *one
      name: two
      dependsOn: {name: one, value: x}
engine:
  let:
    - {name: n, expression: "#one + 'y'"}
  include: ["**"]
  chain:
    - type: ReplaceText
      substitutions:
        - text: a
          with: |
            #n
    # a comment
    - {type: RewritePath, regex: "(.*)", rewriteTo: "#g1"}
"""
ODD = st.sampled_from([*"-:&*!|>'\"%@`{}[],?#<=~ \n\t\r\0\ufeff\u2028\u0085é", "!!int ", "!!bool ", "<<: ", "\n- "])


@QUICK
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOURCE)), st.integers(0, 3), ODD | st.text(max_size=2)), min_size=1, max_size=4
    )
)
def test_a_damaged_text_is_a_project_or_a_sentence(changes: list[tuple[int, int, str]]) -> None:
    text = SOURCE
    for at, length, new in changes:
        text = text[:at] + new + text[at + length :]
    outcome(text)


@QUICK
@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda content: content.decode("latin-1")))
def test_any_text_is_a_project_or_a_sentence(text: str) -> None:
    outcome(text)


@given(st.binary(max_size=40))
@example(b"\xff\xfea\x00:\x00")
@example(b"\xef\xbb\xbf")
@example(b"engine: {include: [\xe4]}")
def test_any_bytes_are_a_project_or_a_sentence(content: bytes) -> None:
    outcome(content)


def test_an_alias_to_itself_is_refused_with_its_line() -> None:
    message = outcome("engine: &x\n  chain:\n    - *x\n")
    assert message.startswith("accelerator.yaml:1: ")
    assert "alias" in message


def test_an_alias_may_be_used_again() -> None:
    assert outcome("x: &x [a]\nengine: {include: *x, exclude: *x}\n") == "project"


@pytest.mark.parametrize("key", ["engine", "accelerator"])
@pytest.mark.parametrize("text", ["[]", "text", "5", "true", "[{}]"])
def test_a_section_is_a_mapping(key: str, text: str) -> None:
    assert refused(f"# first\n{key}: {text}\n").startswith("accelerator.yaml:2: ")


@pytest.mark.parametrize("key", ["engine", "accelerator"])
def test_a_section_may_be_empty(key: str) -> None:
    assert outcome(f"{key}:\n") == "project"


def test_a_mistake_has_the_line_of_its_key() -> None:
    lines = json.dumps(VALID, indent=1).split("\n")
    for at, wrong in [
        (("engine", "onConflict"), "x"),
        (("engine", "chain", 3, "strategy"), "x"),
        (("engine", "chain", 7, "encoding"), "x"),
        (("engine", "chain", 6, "regex"), "("),
        (("engine", "chain", 6, "matchOrFail"), "x"),
        (("engine", "merge", 0, "patterns"), 5),
        (("engine", "chain", 4, "substitutions", 0, "with"), "'"),
        (("accelerator", "options", 1, "inputType"), "x"),
    ]:
        before = json.dumps(changed(VALID, at, "\u2603"), indent=1).split("\n")
        line = next(number for number, text in enumerate(before, start=1) if "\\u2603" in text)
        message = outcome(json.dumps(changed(VALID, at, wrong), indent=1))
        assert message.startswith(f"accelerator.yaml:{line}: "), (message, lines[line - 1])


def test_a_mistake_in_a_list_has_the_line_of_its_item() -> None:
    assert refused("engine:\n  type: YTT\n  extraArgs:\n    - \"'a'\"\n    - 'b c'\n").startswith(
        "accelerator.yaml:5: "
    )


def test_invalid_bytes_are_refused_with_their_position() -> None:
    assert "byte 12" in outcome(b"engine: {a: \xff}")


def test_a_fragments_mistakes_have_its_file() -> None:
    for manifest in ("engine: [", "engine: 5", "\0", "accelerator: 5", "engine: {chain: &x [*x]}"):
        with pytest.raises(InvalidManifest) as raised:
            loaded("accelerator: {imports: [{name: f}]}", [], {"f": Fragment(manifest)})
        assert sentence(raised.value).startswith("f/accelerator.yaml:")
