"""A manifest with every key, junk to put into it, and the outcome of a run."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from accelerator_engine.engine import generate, load
from accelerator_engine.options import InvalidAnswer

from .running import REFUSALS, Fragment, sentence, tree

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

# A manifest with every key of the language.
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
    """Return `project`, or the error message, which must name its place."""
    known = {"f": tree(FRAGMENT.files, FRAGMENT.manifest)}
    text = manifest if isinstance(manifest, bytes) else manifest.encode(errors="surrogatepass")
    try:
        accelerator = load(tree(FILES, text), "sample", known.__getitem__)
        generate(accelerator, {} if answers is None else answers).zip()
    except REFUSALS as error:
        message = sentence(error)
        assert isinstance(error, InvalidAnswer) or message.startswith(("accelerator.yaml:", "f/accelerator.yaml:")), (
            message
        )
        assert len(message) < 2000
        return message
    return "project"


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(JUNK)
QUICK = settings(deadline=3000, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
