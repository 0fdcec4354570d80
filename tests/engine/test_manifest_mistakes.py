"""Whatever stands in a manifest or an answer: a project or one sentence comes out, and soon."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accelerator_engine.engine import generate, load
from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import InvalidAnswer

from .running import REFUSALS, Fragment, loaded, refused, sentence, tree

FRAGMENT = Fragment(
    """
    accelerator:
      options: [{name: inner, defaultValue: x}, {name: other, dataType: number}]
      types: [{name: Job, struct: [{name: t}]}]
    engine: {include: [own, a], chain: [{type: ReplaceText, substitutions: [{text: a, with: "#inner"}]}]}
    """,
    ["own"],
)
FILES = ["a", "README.md", "d/e.txt"]

# A manifest in which every key that there is stands once.
VALID: dict[str, Any] = {
    "accelerator": {
        "displayName": "n", "description": "d", "iconUrl": "data:,", "tags": ["t"],
        "options": [
            {"name": "on", "dataType": "boolean", "defaultValue": True, "label": "l", "description": "d"},
            {
                "name": "word", "dataType": "string", "defaultValue": "w", "validationRegex": "^w",
                "inputType": "select",
                "choices": [{"text": "W", "value": "w"}], "required": True, "dependsOn": {"name": "on", "value": True},
            },
            {"name": "list", "dataType": ["string"], "defaultValue": ["p", "q"]},
            {"name": "task", "dataType": ["Task"], "defaultValue": [{"title": "T"}]},
            {"name": "size", "dataType": "number", "defaultValue": 1},
        ],
        "types": [{"name": "Task", "struct": [{"name": "title", "validationRegex": "T", "dataType": "string"}]}],
        "imports": [
            {
                "name": "f", "expose": [{"name": "*"}, {"name": "inner", "as": "in", "dependsOn": {"name": "on"}}],
                "exposeTypes": [{"name": "Job", "as": "Work"}],
            }
        ],
    },
    "engine": {
        "name": "all", "condition": "true", "let": [{"name": "n", "expression": "'v'"}],
        "include": ["**"], "exclude": ["nothing"], "onConflict": "Append", "applyTo": ["**"],
        "merge": [
            {"type": "Include", "patterns": ["a"]},
            {"type": "Exclude", "patterns": ["a"]},
            {"type": "Merge", "sources": [{"type": "Chain", "transformations": [], "applyTo": ["a"]}]},
            {"type": "InvokeFragment", "reference": "f", "anchor": "d", "let": [{"name": "m", "value": "'i'"}]},
            {"type": "Provenance", "condition": "#on"},
            {"type": "Combo", "includes": ["a"], "excludes": ["b"], "sources": [{"type": "ReplaceText"}]},
        ],
        "chain": [
            {"type": "Let", "symbols": [{"name": "m", "value": "1"}], "in": {"type": "Chain"}},
            {"type": "Loop", "on": "#list", "var": "v", "index": "i", "doAsChain": {"type": "Chain"}},
            {"type": "Loop", "on": "list", "var": "v", "doAsMerge": {"type": "RewritePath", "rewriteTo": "#g0 + #v"}},
            {"type": "UniquePath", "strategy": "UseFirst"},
            {"type": "ReplaceText", "substitutions": [{"text": "a", "with": "#word"}]},
            {"type": "ReplaceText", "regex": {"pattern": "(b)", "with": "'$1'"}},
            {"type": "RewritePath", "regex": "(?<n>.*)", "rewriteTo": "#n", "matchOrFail": True},
            {"type": "UseEncoding", "encoding": "UTF-8"},
            {"type": "OpenRewriteRecipe", "recipe": "r", "options": {"o": "'v'"}, "condition": "false"},
            {"type": "YTT", "extraArgs": ["'--debug'"], "condition": "false"},
        ],
    },
}  # fmt: skip

JUNK: list[Any] = [
    None, True, False, 0, -1, 2.5, 10**30, float("1e300"), "", " ", "x", "a\nb", "\0", "\ud800", "#", "#x", "#list",
    "(", "[", "{", "'", "**", "$1", "*/", "{x:[}", "../x", "Combo", "Loop", [], {}, [[]], [None], [{}], ["x"], [5],
    {"x": 1},
    {"name": "x"}, {"type": "Chain"}, [{"type": "Chain"}], [{"name": "x", "expression": "1"}], "1/0", "#null.x", "T(x)",
    "'" + "x" * 300 + "'",
]  # fmt: skip


def outcome(manifest: str | bytes, answers: dict[str, Any] | None = None) -> str:
    """Return what comes out: `project` or a sentence, which has to name its place."""
    known = {"f": tree(FRAGMENT.files, FRAGMENT.manifest)}
    text = manifest if isinstance(manifest, bytes) else manifest.encode(errors="surrogatepass")
    try:
        accelerator = load(tree(FILES, text), "sample", known.__getitem__)
        generate(accelerator, {} if answers is None else answers).zip()
    except REFUSALS as error:
        told = sentence(error)
        assert isinstance(error, InvalidAnswer) or told.startswith(("accelerator.yaml:", "f/accelerator.yaml:")), told
        assert len(told) < 2000
        return told
    return "project"


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return where all values stand within data."""
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


def spelled(at: tuple[Any, ...]) -> str:
    return ".".join(map(str, at)) or "all"


PLACES = list(places(VALID))
# The same in small pieces, which are read in a moment: the accelerator, the frame of the engine, each transform.
FRAME = {"imports": [{"name": "f"}], "options": [{"name": "list", "defaultValue": ["p"], "dataType": ["string"]}]}
ENGINE = VALID["engine"]
PIECES = [
    {"accelerator": VALID["accelerator"], "engine": {"type": "Chain"}},
    {"engine": {**ENGINE, "merge": [{"type": "Chain"}], "chain": [{"type": "ReplaceText"}]}},
    *({"accelerator": FRAME, "engine": {**transform, "condition": "true"}} for transform in ENGINE["merge"]),
    *({"accelerator": FRAME, "engine": {"condition": "true", **transform}} for transform in ENGINE["chain"]),
]
PIECES_PLACES = [(piece, at) for piece in PIECES for at in places(piece)]
IDS = [f"{piece['engine'].get('type', 'Combo')}.{spelled(at)}" for piece, at in PIECES_PLACES]


def test_the_manifest_that_is_spoilt_below_is_a_good_one() -> None:
    assert outcome(json.dumps(VALID)) == "project"


@pytest.mark.parametrize(("piece", "at"), PIECES_PLACES, ids=IDS)
def test_a_wrong_value_is_told_in_a_sentence(piece: dict[str, Any], at: tuple[Any, ...]) -> None:
    # Each place gets some of the junk, and each junk comes to some places.
    for value in JUNK[PIECES_PLACES.index((piece, at)) % 12 :: 12]:
        outcome(json.dumps(changed(piece, at, value)))


@pytest.mark.parametrize(("piece", "at"), PIECES_PLACES, ids=IDS)
def test_what_is_left_out_is_told_in_a_sentence(piece: dict[str, Any], at: tuple[Any, ...]) -> None:
    if at:
        outcome(json.dumps(dropped(piece, at)))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(JUNK)
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
QUICK = settings(deadline=3000, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


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
def test_a_spoilt_text_is_a_project_or_a_sentence(changes: list[tuple[int, int, str]]) -> None:
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


NASTY = {
    "nothing": "",
    "a comment": "# nothing\n",
    "null": "~",
    "a list": "- a\n",
    "a text": "accelerator",
    "a number": "5",
    "several documents": "engine: {include: [a]}\n---\nengine: 5\n",
    "not closed": "engine: {include: [a}\n",
    "a tab": "engine:\n\tinclude: [a]\n",
    "no YAML": "a: b: c",
    "an unknown alias": "engine: *nowhere",
    "an anchor twice": "a: &x 1\nb: &x 2\nengine: {include: [*x]}\n",
    "an alias to itself": "engine: &x\n  chain: [*x]\n",
    "an alias to all": "&x {engine: *x}",
    "a list in itself": "engine: {chain: &x [*x]}",
    "a merge key to itself": "engine: &x {<<: *x}",
    "a merge key to a text": "engine: {<<: a}",
    "a merge key to a list of texts": "engine: {<<: [a, b]}",
    "merge keys to one another": "a: &x {<<: &y {<<: *x}}\nengine: *y",
    "a list as key": "? [a]\n: b\n",
    "a mapping as key": "{{a: b}: c}",
    "an alias as key": "a: &x y\n*x : z\n",
    "null as key": "~: a\nengine: {~: b, include: [a]}\n",
    "a key twice": "engine: {include: [a], include: [b]}",
    "a tag that runs code": "engine: !!python/object/apply:os.system ['false']",
    "an unknown tag": "engine: !mine {include: [a]}",
    "a set": "engine: !!set {include, chain}",
    "an ordered mapping": "engine: !!omap [include: [a]]",
    "a binary": "engine: {include: [!!binary '////']}",
    "no binary": "engine: {include: [!!binary 'ä']}",
    "no integer": "engine: {include: [!!int x]}",
    "an empty integer": "engine: {include: [!!int '']}",
    "an integer of a sign": "engine: {include: [!!int '-']}",
    "no float": "engine: {include: [!!float x]}",
    "an empty float": "engine: {include: [!!float '']}",
    "no truth": "engine: {include: [!!bool x]}",
    "no time": "engine: {include: [!!timestamp x]}",
    "a time that is none": "engine: {include: [!!timestamp 2024-99-99]}",
    "a time": "accelerator: {options: [{name: a, defaultValue: !!timestamp 2024-01-01}]}",
    "a mapping that is a text": "engine: !!map x",
    "a list that is a text": "engine: {chain: !!seq x}",
    "a text that is a mapping": "engine: {include: !!str {a: b}}",
    "an integer that is a mapping": "engine: {include: !!int {a: b}}",
    "a directive": "%YAML 1.9\n---\nengine: {include: [a]}\n",
    "an unknown directive": "%FOO bar\n---\nengine: {include: [a]}\n",
    "a tag directive": "%TAG ! tag:x,2000:\n---\nengine: !y {include: [a]}\n",
    "NUL": "engine: {include: ['a\0']}",
    "an escaped NUL": 'engine: {include: ["a\\0"]}',
    "half a character": 'engine: {include: ["\\uD800"], name: "\\uDFFF"}',
    "a character that is none": 'engine: {include: ["\\UFFFFFFFF"]}',
    "control characters": "engine: {include: ['\x01']}",
    "a huge integer": f"accelerator: {{options: [{{name: a, dataType: number, defaultValue: {'9' * 5000}}}]}}",
    "a huge hexadecimal": f"accelerator: {{options: [{{name: a, dataType: number, defaultValue: 0x{'f' * 5000}}}]}}",
    "a huge binary": f"engine: {{condition: 0b1{'0' * 50000}, include: [a]}}",
    "a huge sexagesimal": f"engine: {{condition: 1{':59' * 5000}, include: [a]}}",
    "a huge float": "engine: {condition: 1e999999, include: [a]}",
    "not a number": "engine: {condition: .nan, chain: []}",
    "infinity": "accelerator: {options: [{name: a, dataType: number, defaultValue: -.inf}]}",
    "deep lists": "engine: " + "[" * 5000,
    "deep mappings": "engine: " + "{a: " * 5000,
    "deep closed lists": "engine: " + "[" * 3000 + "]" * 3000,
    "deep blocks": "- " * 3000,
    "deep transforms": "engine: " + "{chain: [" * 180 + "{type: Chain}" + "]}" * 180,
    "deep expressions": f'engine: {{condition: "{"(" * 5000}true{")" * 5000}", include: [a]}}',
    "deep nots": f'engine: {{condition: "{"!" * 5000}true", include: [a]}}',
    "long sums": f'engine: {{condition: "{"1+" * 20000}1", include: [a]}}',
    "a long name": f"accelerator: {{options: [{{name: {'x' * 100_000}, required: true}}]}}",
    "a long type": f"engine: {{type: {'x' * 100_000}}}",
    "a large type": f"engine: {{type: [{'x, ' * 1000}]}}",
    "names of several lines": 'accelerator: {options: [{name: "a\\n\\nb", required: true}]}',
    "a fragment of several lines": 'accelerator: {imports: [{name: "x\\ny"}]}',
    "a reference of several lines": 'engine: {type: InvokeFragment, reference: "a\\n\\nb"}',
    "a path of several lines": "engine: {type: RewritePath, rewriteTo: \"'a\\nb'\"}",
    "an encoding of several lines": 'engine: {type: UseEncoding, encoding: "a\\nb"}',
    "a slow pattern": 'engine: {include: ["{x:(a|aa)+}/b"]}',
    "a pattern of many stars": f"engine: {{include: ['{'**/' * 2000}x', '{'*' * 2000}x']}}",
    "a slow list": 'engine: {let: [{name: n, expression: "'
    + "{1,2,3,4,5,6,7,8}.![" * 12
    + "1"
    + "]" * 12
    + '"}], chain: []}',
}


@pytest.mark.slow
@pytest.mark.parametrize("manifest", NASTY.values(), ids=NASTY)
def test_a_nasty_manifest_is_a_project_or_a_sentence(manifest: str) -> None:
    outcome(manifest)


def laughs(first: str, step: str) -> str:
    """Return a document whose ten lines stand for billions of values."""
    lines = [f"a0: &a0 {first}"] + [f"a{n}: &a{n} {step.replace('*', f'*a{n - 1}')}" for n in range(1, 12)]
    return "\n".join([*lines, "engine: {include: [a]}", ""])


@pytest.mark.parametrize(
    ("first", "step"),
    [
        ("lol", "[" + ", ".join(["*"] * 10) + "]"),
        ("{k: v}", "{" + ", ".join(f"k{n}: *" for n in range(10)) + "}"),
        ("{k: v}", "{<<: [" + ", ".join(["*"] * 10) + "]}"),
        ("{k: v}", "[" + ", ".join(["{<<: *}"] * 10) + "]"),
    ],
)
def test_a_billion_laughs_are_stopped(first: str, step: str) -> None:
    outcome(laughs(first, step))


def test_a_billion_transforms_are_stopped() -> None:
    text = laughs("{type: Chain}", "{chain: [" + ", ".join(["*"] * 10) + "]}")
    assert "accelerator.yaml:" in outcome(text.replace("engine: {include: [a]}", "engine: *a11"))


def test_an_alias_to_itself_is_told_with_its_line() -> None:
    told = outcome("engine: &x\n  chain:\n    - *x\n")
    assert told.startswith("accelerator.yaml:1: ")
    assert "alias" in told


def test_an_alias_may_be_used_again() -> None:
    assert outcome("x: &x [a]\nengine: {include: *x, exclude: *x}\n") == "project"


@pytest.mark.parametrize("key", ["engine", "accelerator"])
@pytest.mark.parametrize("text", ["[]", "text", "5", "true", "[{}]"])
def test_a_section_is_a_mapping(key: str, text: str) -> None:
    assert refused(f"# first\n{key}: {text}\n").startswith("accelerator.yaml:2: ")


@pytest.mark.parametrize("key", ["engine", "accelerator"])
def test_a_section_may_be_empty(key: str) -> None:
    assert outcome(f"{key}:\n") == "project"


def test_a_mistake_is_told_with_the_line_of_its_key() -> None:
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
        told = outcome(json.dumps(changed(VALID, at, wrong), indent=1))
        assert told.startswith(f"accelerator.yaml:{line}: "), (told, lines[line - 1])


def test_a_list_that_goes_wrong_is_told_with_its_line() -> None:
    assert refused("engine:\n  type: YTT\n  extraArgs:\n    - \"'a'\"\n    - 'b c'\n").startswith(
        "accelerator.yaml:5: "
    )


def test_bytes_that_are_no_text_are_told_with_their_place() -> None:
    assert "byte 12" in outcome(b"engine: {a: \xff}")


# Answers


ANSWERS = st.recursive(
    LEAVES | st.integers(min_value=10**4000, max_value=10**5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
ASKED = st.sampled_from(
    ["projectName", "artifactId", "on", "word", "list", "task", "size", "in", "inner", "files", "n"]
)


@QUICK
@given(st.dictionaries(ASKED | st.text(max_size=5), ANSWERS, max_size=5))
@example({"size": 10**5000})
@example({"x": 10**5000})
@example({"projectName": "\ud800"})
@example({"list": ["\ud800", "a/../..", "\0"]})
@example({"files": 5})
@example({"": None})
@example({"x": float("nan")})
@example({"projectName": "p" * 10_000})
def test_any_answers_give_a_project_or_a_sentence(answers: dict[str, Any]) -> None:
    outcome(json.dumps(VALID), answers)


def test_deep_answers_give_a_project_or_a_sentence() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for name in ("x", "list", "word", "task"):
        outcome(json.dumps(VALID), {name: deep})


def test_large_answers_give_a_project_or_a_sentence() -> None:
    for name in ("x", "list", "word"):
        outcome(json.dumps(VALID), {name: ["x" * 1000] * 200})
        outcome(json.dumps(VALID), {name: "x" * 200_000})


def test_a_fragments_mistakes_are_told_with_its_file() -> None:
    for manifest in ("engine: [", "engine: 5", "\0", "accelerator: 5", "engine: {chain: &x [*x]}"):
        with pytest.raises(InvalidManifest) as raised:
            loaded("accelerator: {imports: [{name: f}]}", [], {"f": Fragment(manifest)})
        assert sentence(raised.value).startswith("f/accelerator.yaml:")
