"""The conditions of transforms."""

import pytest

from .running import ABC, Fragment, engine, paths, refused, run, trace

TRANSFORMS = {
    "Include": "{type: Include, patterns: [nothing]",
    "Exclude": "{type: Exclude, patterns: ['**']",
    "Chain": "{type: Chain, transformations: [{type: Exclude, patterns: ['**']}]",
    "Merge": "{type: Merge, sources: []",
    "Combo": "{include: [nothing]",
    "typed Combo": "{type: Combo, exclude: ['**']",
    "Let": "{type: Let, symbols: [{name: n, expression: '1'}], in: {type: Exclude, patterns: ['**']}",
    "Loop": "{type: Loop, on: '{1}', doAsChain: {type: Exclude, patterns: ['**']}",
    "UniquePath": "{type: UniquePath, strategy: Append",
    "ReplaceText": "{type: ReplaceText, substitutions: [{text: a, with: \"'changed'\"}]",
    "RewritePath": "{type: RewritePath, rewriteTo: \"'changed'\"",
    "UseEncoding": "{type: UseEncoding, encoding: UTF-8",
    "OpenRewriteRecipe": "{type: OpenRewriteRecipe, recipe: org.openrewrite.x",
    "YTT": "{type: YTT",
    "InvokeFragment": "{type: InvokeFragment, reference: f",
    "Provenance": "{type: Provenance",
}
DROPS_ALL = {"f": Fragment("engine: {exclude: ['**']}")}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
class TestAFalseCondition:
    def test_is_identity_in_a_chain(self, transform: str) -> None:
        manifest = (
            f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {{chain: [{transform}, condition: 'false'}}]}}}}"
        )
        assert run(manifest, ABC, {}, DROPS_ALL) == {path: path for path in ABC}

    def test_is_nothing_in_a_merge(self, transform: str) -> None:
        manifest = (
            f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {{merge: [{transform}, condition: 'false'}}]}}}}"
        )
        assert run(manifest, ABC, {}, DROPS_ALL) == {}

    def test_is_nothing_in_a_plain_merge(self, transform: str) -> None:
        engine_ = f"{{type: Merge, sources: [{transform}, condition: 'false'}}, {{include: [a]}}]}}"
        manifest = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {engine_}}}"
        assert paths(manifest, ABC, {}, DROPS_ALL) == ["a"]

    def test_is_identity_at_the_root(self, transform: str) -> None:
        manifest = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}, condition: 'false'}}}}"
        assert paths(manifest, ABC, {}, DROPS_ALL) == ABC


@pytest.mark.parametrize("kind", sorted(TRANSFORMS.keys() - {"OpenRewriteRecipe", "YTT", "Provenance"}))
def test_a_true_condition_changes_nothing(kind: str) -> None:
    transform = TRANSFORMS[kind]
    with_condition = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}, condition: 'true'}}}}"
    without = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}}}}}"
    assert run(with_condition, ["a"], {}, DROPS_ALL) == run(without, ["a"], {}, DROPS_ALL)


def test_a_false_condition_does_not_affect_other_children_of_a_merge() -> None:
    transform = """
        merge:
          - include: ["**"]
          - condition: "#maven"
            include: [pom.xml]
            chain: [{type: ReplaceText, substitutions: [{text: pom, with: "'changed'"}]}]
        """
    assert run(engine(transform), ["pom.xml", "b"], {"maven": False}) == {"pom.xml": "pom.xml", "b": "b"}
    assert run(engine(transform), ["pom.xml"], {"maven": True}) == {"pom.xml": "changed.xml"}


def test_a_condition_is_evaluated_outside_the_combos_own_let() -> None:
    transform = "let: [{name: on, expression: 'true'}]\ncondition: '#on'\ninclude: [a]"
    assert paths(engine(transform), ABC, {"on": False}) == ABC
    assert paths(engine(transform), ABC, {"on": True}) == ["a"]


def test_a_false_condition_keeps_let_from_being_evaluated() -> None:
    transform = "let: [{name: n, expression: '#missing.name'}]\ncondition: 'false'\ninclude: [a]"
    assert "Adding symbol" not in trace(engine(transform), ABC)


def test_a_condition_may_be_written_without_quotes() -> None:
    assert paths(engine("condition: false\nmerge: [{include: [a]}]"), ABC) == ABC
    assert paths(engine("condition: true\nmerge: [{include: [a]}]"), ABC) == ["a"]


@pytest.mark.parametrize(("word", "there"), [("true", True), ("false", False), ("TRUE", True)])
def test_a_text_can_be_a_condition(word: str, there: bool) -> None:
    assert paths(engine("condition: '#v'\ninclude: [a]"), ABC, {"v": word}) == (["a"] if there else ABC)


def test_a_condition_that_is_neither_true_nor_false_is_an_error() -> None:
    assert refused(engine("condition: '#v'\ninclude: [a]"), ABC, {"v": "maybe"}).startswith("accelerator.yaml:2: ")


@pytest.mark.parametrize("broken", ["with: '#missing.name'", "with: '#missing'"])
def test_the_expressions_of_an_inactive_transform_are_not_evaluated(broken: str) -> None:
    transform = f"type: ReplaceText\nsubstitutions: [{{text: a, {broken}}}]\ncondition: '#on'"
    assert run(engine(transform), ["a"], {"on": False}) == {"a": "a"}
    assert refused(engine(transform), ["a"], {"on": True})


def test_the_expressions_of_an_inactive_transform_are_parsed() -> None:
    assert "parse" in refused(engine("condition: false\nlet: [{name: n, expression: '1 +'}]"), ["a"])
