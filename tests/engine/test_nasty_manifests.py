"""Hostile manifests and answers: each run ends soon, with a project or one sentence."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from .mistakes import LEAVES, QUICK, VALID, outcome

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
